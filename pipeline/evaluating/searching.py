"""Looks for a better recipe, one number at a time: pure, whatever says how much a recipe is worth."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from pipeline.candidates.recipe import CandidateRecipe

LADDERS: Final[Mapping[str, Sequence[float]]] = {
    # These two need no build of their own, so they come first.
    "repeat_share": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "newcomer_share": (0.0, 0.02, 0.05, 0.1),
    "target_exponent": (0.25, 0.5, 0.75, 1.0, 1.25),
    "popularity_exponent": (0.0, 0.25, 0.5, 0.75, 1.0),
    "popularity_days": (7, 14, 28, 56),
    "source_exponent": (0.0, 0.25, 0.5, 0.75, 1.0),
    "basket_exponent": (0.0, 0.5, 1.0, 1.5),
    "neighbours": (25, 50, 100, 200),
    "least_shared": (2, 3, 5),
}
"""The numbers that are tried, and their steps; a number that is on no step goes to the next ones."""

Worth = Callable[[CandidateRecipe], float]


def best_recipe(start: CandidateRecipe, worth: Worth, *, may_go_on: Callable[[], bool]) -> CandidateRecipe:
    """The best recipe that was met, going from `start` a step at a time as long as one is better.

    It ends where no single step is better, or as soon as it may not go on. No recipe is asked for twice.
    """
    known = {start: worth(start)}
    best = start
    while (better := _better(best, known, worth, may_go_on)) is not best:
        best = better
    return best


def _better(
    start: CandidateRecipe, known: dict[CandidateRecipe, float], worth: Worth, may_go_on: Callable[[], bool]
) -> CandidateRecipe:
    """The best after every number has had its turn once, each from where the one before has led."""
    best = start
    for name in LADDERS:
        for recipe in steps(best, name):
            if recipe in known:
                continue
            if not may_go_on():
                return best
            known[recipe] = worth(recipe)
            if known[recipe] > known[best]:
                best = recipe
    return best


def steps(recipe: CandidateRecipe, name: str) -> Iterator[CandidateRecipe]:
    """The recipes one step below and above in this number, where their shares fit into one list."""
    ladder, value = LADDERS[name], getattr(recipe, name)
    place = bisect_left(ladder, value)
    above = place + 1 if place < len(ladder) and ladder[place] == value else place
    for step in (place - 1, above):
        if 0 <= step < len(ladder):
            stepped = recipe.model_copy(update={name: ladder[step]})
            if stepped.repeat_share + stepped.newcomer_share <= 1:
                yield stepped
