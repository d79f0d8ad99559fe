"""The search for a better recipe: one number at a time, nothing twice, and no longer than it may."""

from itertools import repeat

from pipeline.candidates.recipe import CandidateRecipe
from pipeline.evaluating.searching import LADDERS, best_recipe, steps

START = CandidateRecipe(neighbours=50, repeat_share=0.3)


def always() -> bool:
    return True


def test_every_step_is_a_recipe_that_can_be_built() -> None:
    for name, ladder in LADDERS.items():
        for value in ladder:
            CandidateRecipe.model_validate({name: value})


def test_a_number_between_two_steps_goes_to_both() -> None:
    recipe = START.model_copy(update={"neighbours": 70})
    assert [it.neighbours for it in steps(recipe, "neighbours")] == [50, 100]
    assert [it.neighbours for it in steps(START, "neighbours")] == [25, 100]
    assert [it.repeat_share for it in steps(START.model_copy(update={"repeat_share": 0.0}), "repeat_share")] == [0.1]
    assert [it.neighbours for it in steps(START.model_copy(update={"neighbours": 500}), "neighbours")] == [200]


def test_no_step_takes_more_places_than_there_are() -> None:
    full = START.model_copy(update={"repeat_share": 0.95, "newcomer_share": 0.05})
    assert [it.newcomer_share for it in steps(full, "newcomer_share")] == [0.02]


def test_the_search_walks_to_the_best_and_asks_for_nothing_twice() -> None:
    asked: list[CandidateRecipe] = []

    def worth(recipe: CandidateRecipe) -> float:
        asked.append(recipe)
        return -abs(recipe.repeat_share - 0.6) - abs(recipe.neighbours - 200) / 100

    best = best_recipe(START, worth, may_go_on=always)

    assert (best.repeat_share, best.neighbours) == (0.6, 200)
    assert len(set(asked)) == len(asked)


def test_the_search_ends_with_its_budget_and_keeps_what_it_has_found() -> None:
    asked: list[CandidateRecipe] = []

    def worth(recipe: CandidateRecipe) -> float:
        asked.append(recipe)
        return recipe.repeat_share

    best = best_recipe(START, worth, may_go_on=lambda: len(asked) < 3)

    assert (len(asked), best.repeat_share) == (3, 0.4)


def test_where_nothing_is_better_the_start_is_kept() -> None:
    worths = repeat(1.0)
    assert best_recipe(START, lambda _: next(worths), may_go_on=always) is START
