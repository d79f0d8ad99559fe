"""A build of the candidates that is made to be measured, and is gone afterwards, whatever happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.candidates.building import BuildMethod, build_candidates, drop_build
from pipeline.candidates.builds import Build
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.evaluating.splits import Split, require_known


@contextmanager
def trial_build(
    url: str, recipe: CandidateRecipe, split: Split, *, method: BuildMethod, tell: Callable[[str], None]
) -> Iterator[Build]:
    """Candidates as they would have been built just before the targets begin.

    Raises:
        InputError: the build looked beyond the split.
        DatabaseError: it could not be made.
    """
    build = build_candidates(url, recipe, as_of=split.as_of, method=method, trial=True, tell=tell)
    try:
        require_known(split, build)
        yield build
    finally:
        drop_build(url, build.build_id)
