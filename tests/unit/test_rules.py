"""Each rule takes out what it says, and nothing else; what it took out is recorded under its name."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from pipeline.candidates.rules import PREDICATES, Listed, Rules, Sieve, Wants
from pipeline.domain import Product, ProductId, Rule

LAMP = Listed(Product(ProductId("lamp"), "Lamp", "Lux", "Light", 20.0))
CUPBOARD = Listed(Product(ProductId("cupboard"), "Cupboard"))
BOUGHT = {ProductId("lamp"): 10.0}

HELD: list[tuple[Rule, Listed, Wants, Rules]] = [
    (Rule.HIDDEN, replace(LAMP, hidden=True), Wants(), Rules()),
    (Rule.OUT_OF_STOCK, replace(LAMP, available=False), Wants(), Rules()),
    (Rule.BANNED, replace(LAMP, banned=True, pinned=True), Wants(), Rules()),
    (Rule.REFUSED, LAMP, Wants(refused=frozenset({ProductId("lamp")})), Rules()),
    (Rule.BOUGHT, LAMP, Wants(bought=BOUGHT), Rules(bought_days=11)),
    (Rule.BOUGHT, LAMP, Wants(bought=BOUGHT), Rules(bought_days=0, bought_days_of={"Light": "ever"})),
    (Rule.BOUGHT, LAMP, Wants(bought={ProductId("lamp"): 0.0}), Rules(bought_days=1)),
    (Rule.BOUGHT, LAMP, Wants(bought=BOUGHT), Rules(bought_days=0, bought_days_of={"LIGHT": "ever"})),
    (Rule.EXCLUDED_BRAND, LAMP, Wants(excluded_brands=frozenset({"lux"})), Rules()),
    (Rule.EXCLUDED_CATEGORY, LAMP, Wants(excluded_categories=frozenset({"light"})), Rules()),
    (Rule.PRICE_BAND, LAMP, Wants(price_to=19.99), Rules()),
    (Rule.PRICE_BAND, LAMP, Wants(price_from=20.01), Rules()),
]
NOT_HELD: list[tuple[Listed, Wants, Rules]] = [
    (LAMP, Wants(), Rules()),
    (replace(LAMP, pinned=True), Wants(), Rules()),
    (LAMP, Wants(refused=frozenset({ProductId("cupboard")})), Rules()),
    (LAMP, Wants(bought=BOUGHT), Rules(bought_days=10)),
    (LAMP, Wants(bought=BOUGHT), Rules(bought_days="ever", bought_days_of={"Light": 5})),
    (LAMP, Wants(bought={ProductId("lamp"): 0.0}), Rules(bought_days=0)),
    (CUPBOARD, Wants(bought=BOUGHT), Rules(bought_days="ever")),
    (CUPBOARD, Wants(excluded_brands=frozenset({"lux"}), excluded_categories=frozenset({"light"})), Rules()),
    (LAMP, Wants(price_from=20.0, price_to=20.0), Rules()),
    (CUPBOARD, Wants(price_from=20.0, price_to=20.0), Rules()),
]


@pytest.mark.parametrize(("rule", "listed", "wants", "rules"), HELD)
def test_a_rule_that_holds_takes_the_product_out_under_its_name(
    rule: Rule, listed: Listed, wants: Wants, rules: Rules
) -> None:
    sieve = Sieve(rules, wants)
    assert not sieve.lets_pass(listed)
    assert sieve.removed == [(rule, listed.product.product_id)]


@pytest.mark.parametrize(("listed", "wants", "rules"), NOT_HELD)
def test_what_no_rule_is_against_passes(listed: Listed, wants: Wants, rules: Rules) -> None:
    sieve = Sieve(rules, wants)
    assert sieve.lets_pass(listed)
    assert sieve.removed == []


def test_every_rule_but_those_of_diversity_is_a_predicate_of_its_own() -> None:
    assert set(Rule) - set(PREDICATES) == {Rule.TOO_MANY_OF_BRAND, Rule.TOO_MANY_OF_CATEGORY}
    assert {rule for rule, *_ in HELD} == set(PREDICATES)


@pytest.mark.parametrize(
    "mistake",
    [
        {"bought_days": "never"},
        {"bought_days": -1},
        {"bought_days": True},
        {"bought_days_of": {"Books": "sometimes"}},
        {"bought_days_of": {"Books": 3, "books": "ever"}},
        {"refused_days": "ever"},
        {"most_per_brand": -1},
        {"most_per_colour": 3},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(mistake: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rules.model_validate(mistake)
