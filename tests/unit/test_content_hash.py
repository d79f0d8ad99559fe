"""The content hash: whatever changes the question changes it, and nothing else does."""

from dataclasses import replace

import pytest

from pipeline.domain import CustomerId, Product, ProductId, Profile
from pipeline.prompts import Templates
from pipeline.segments import MONTHLY_SPEND
from pipeline.unchanged import Recipe, varied
from pipeline.variants import Variant
from tests.fixtures.shop import candidates_of

RECIPE = Recipe(model="m", provenance="language_model", prompt_version="v", temperature=0.1, slate_size=3)
LAMP = Product(ProductId("1"), "Lamp", "Lux", "Light", 9.5)
CHAIR = Product(ProductId("2"), "Chair")
CANDIDATES = candidates_of([LAMP, CHAIR])
PROFILE = Profile(CustomerId("a"), (("Recent searches", "lamps"), (MONTHLY_SPEND, "$101")))


def test_the_hash_of_the_same_content_is_the_same_on_every_machine() -> None:
    assert RECIPE.content_hash(PROFILE, CANDIDATES) == "2be3687e33fa8053e180bb346010ad9d"


@pytest.mark.parametrize(
    "recipe",
    [
        replace(RECIPE, model="n"),
        replace(RECIPE, provenance="offline_ranker"),
        replace(RECIPE, prompt_version="w"),
        replace(RECIPE, temperature=0.2),
        replace(RECIPE, slate_size=4),
    ],
)
def test_another_recipe_is_other_content(recipe: Recipe) -> None:
    assert recipe.content_hash(PROFILE, CANDIDATES) != RECIPE.content_hash(PROFILE, CANDIDATES)


@pytest.mark.parametrize(
    "candidates",
    [
        [],
        [LAMP],
        [CHAIR, LAMP],
        [replace(LAMP, product_id=ProductId("3")), CHAIR],
        [replace(LAMP, name="Lamp "), CHAIR],
        [replace(LAMP, brand=None), CHAIR],
        [replace(LAMP, category="Lights"), CHAIR],
        [replace(LAMP, price=9.51), CHAIR],
        [replace(LAMP, price=None), CHAIR],
    ],
)
def test_other_candidates_are_other_content(candidates: list[Product]) -> None:
    assert RECIPE.content_hash(PROFILE, candidates_of(candidates)) != RECIPE.content_hash(PROFILE, CANDIDATES)


@pytest.mark.parametrize("width", [2, 3])
def test_the_order_of_candidates_that_are_shuffled_with_each_other_does_not_count(width: int) -> None:
    one, other = (replace(candidates_of(it), interchangeable=width) for it in ([LAMP, CHAIR], [CHAIR, LAMP]))
    assert RECIPE.content_hash(PROFILE, one) == RECIPE.content_hash(PROFILE, other)


def test_the_order_of_windows_counts() -> None:
    third = replace(LAMP, product_id=ProductId("3"))
    one, other = (replace(candidates_of(it), interchangeable=2) for it in ([LAMP, CHAIR, third], [LAMP, third, CHAIR]))
    assert RECIPE.content_hash(PROFILE, one) != RECIPE.content_hash(PROFILE, other)


def test_what_the_model_is_shown_first_does_not_count() -> None:
    shown_otherwise = replace(CANDIDATES, offered=(CHAIR, LAMP))
    assert RECIPE.content_hash(PROFILE, shown_otherwise) == RECIPE.content_hash(PROFILE, CANDIDATES)


@pytest.mark.parametrize(
    "segments",
    [
        (),
        (("Recent searches", "lamp"), (MONTHLY_SPEND, "$101")),
        (("Recent views", "lamps"), (MONTHLY_SPEND, "$101")),
        ((MONTHLY_SPEND, "$101"), ("Recent searches", "lamps")),
        (("Recent searches", "lamps"), (MONTHLY_SPEND, "$202")),
    ],
)
def test_another_profile_is_other_content(segments: tuple[tuple[str, str], ...]) -> None:
    profile = replace(PROFILE, segments=segments)
    assert RECIPE.content_hash(profile, CANDIDATES) != RECIPE.content_hash(PROFILE, CANDIDATES)


def test_a_monthly_spend_that_falls_by_the_passing_of_days_is_the_same_content() -> None:
    fallen = replace(PROFILE, segments=(("Recent searches", "lamps"), (MONTHLY_SPEND, "$98")))
    assert RECIPE.content_hash(fallen, CANDIDATES) == RECIPE.content_hash(PROFILE, CANDIDATES)


@pytest.mark.parametrize("spend", ["€101", "CHF 101", "101 $", "101"])
def test_a_monthly_spend_in_another_currency_is_other_content(spend: str) -> None:
    other = replace(PROFILE, segments=(("Recent searches", "lamps"), (MONTHLY_SPEND, spend)))
    assert RECIPE.content_hash(other, CANDIDATES) != RECIPE.content_hash(PROFILE, CANDIDATES)


def test_a_separator_of_thousands_is_not_content_of_its_own() -> None:
    one, other = (replace(PROFILE, segments=((MONTHLY_SPEND, spend),)) for spend in ("$1,001", "$999"))
    assert RECIPE.content_hash(one, CANDIDATES) == RECIPE.content_hash(other, CANDIDATES)


def test_who_the_customer_is_does_not_count() -> None:
    other = replace(PROFILE, customer_id=CustomerId("b"))
    assert RECIPE.content_hash(other, CANDIDATES) == RECIPE.content_hash(PROFILE, CANDIDATES)


def test_text_that_utf_8_cannot_hold_has_a_hash_too() -> None:
    odd = replace(PROFILE, segments=(("Recent searches", "\ud800\x1f\x00"),))
    assert len(RECIPE.content_hash(odd, CANDIDATES)) == 32


def test_a_variant_counts_by_what_it_has_of_its_own_and_not_by_its_name() -> None:
    own = Templates("s", "$products $profile $asked")
    recipe = replace(RECIPE, prompt_version=own.version)
    variants = [Variant("control", 0.0, own), Variant("bold", 1.0, own, model="n", temperature=0.9)]
    named = [Variant("control", 0.0, own), Variant("same", 1.0, own)]

    assert varied(recipe, variants)(CustomerId("a")) == replace(recipe, model="n", temperature=0.9)
    assert varied(recipe, named)(CustomerId("a")) == recipe == varied(recipe, named[:1])(CustomerId("a"))
