"""A build of the candidates that is made to be measured, and is gone afterwards, whatever happens."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from pipeline.candidates.building import BuildMethod, build_candidates, drop_build
from pipeline.candidates.builds import Build
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.errors import RunConflictError
from pipeline.evaluating.splits import Split, require_known

_PAUSE_S: Final = 2.0
_PATIENCE_S: Final = 1800.0  # longer than a build takes


def patiently(build: Callable[[], Build], tell: Callable[[str], None]) -> Build:
    """What this builds, as soon as nobody else does: a night that begins meanwhile ends no long measuring.

    Raises:
        RunConflictError: another has been building for too long.
        DatabaseError: it could not be made.
    """
    until, is_told = time.monotonic() + _PATIENCE_S, False
    while True:
        try:
            return build()
        except RunConflictError:
            if time.monotonic() > until:
                raise
        if not is_told:
            tell("candidates are being built by another process: waiting until that is done")
            is_told = True
        time.sleep(_PAUSE_S)


@contextmanager
def trial_build(
    url: str, recipe: CandidateRecipe, split: Split, *, method: BuildMethod, tell: Callable[[str], None]
) -> Iterator[Build]:
    """Candidates as they would have been built just before the targets begin.

    Raises:
        InputError: the build looked beyond the split.
        DatabaseError: it could not be made.
    """
    making = partial(build_candidates, url, recipe, as_of=split.as_of, method=method, trial=True, tell=tell)
    build = patiently(making, tell)
    try:
        require_known(split, build)
        yield build
    finally:
        drop_build(url, build.build_id)
