"""Says which rule keeps a product from a customer's candidates: each is a predicate under the name that is recorded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pipeline.domain import Product, ProductId, Rule
from pipeline.rule_entries import Rules

# The shop's own `Rules` lie where settings can read them.
__all__ = ["PREDICATES", "Listed", "Predicate", "Rules", "Sieve", "Wants"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A product of the catalog as it stands now, with what the shop rules of it."""

    product: Product
    available: bool = True
    hidden: bool = False
    banned: bool = False
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Wants:
    """What a customer has done and said that rules ask about.

    `bought` is how many days ago he last bought each product. A price outside of `price_from` to `price_to` is not for
    him, where it is known. Brands and categories are compared without regard to case.
    """

    bought: Mapping[ProductId, float] = field(default_factory=dict)
    refused: frozenset[ProductId] = frozenset()
    excluded_brands: frozenset[str] = frozenset()
    excluded_categories: frozenset[str] = frozenset()
    price_from: float | None = None
    price_to: float | None = None

    @property
    def ask_of_all(self) -> bool:
        """Whether he has told the shop something that any product may be against: what it may cost, or of what kind."""
        has_price_band = self.price_from is not None or self.price_to is not None
        return has_price_band or bool(self.excluded_brands or self.excluded_categories)


Predicate = Callable[[Listed, Wants, Rules], bool]


def is_hidden(listed: Listed, _wants: Wants, _rules: Rules) -> bool:
    """The shop does not show it."""
    return listed.hidden


def is_out_of_stock(listed: Listed, _wants: Wants, _rules: Rules) -> bool:
    """It cannot be bought now."""
    return not listed.available


def is_banned(listed: Listed, _wants: Wants, _rules: Rules) -> bool:
    """The shop recommends it to nobody."""
    return listed.banned


def is_refused(listed: Listed, wants: Wants, _rules: Rules) -> bool:
    """He said not interested, within the days that this holds."""
    return listed.product.product_id in wants.refused


def is_bought(listed: Listed, wants: Wants, rules: Rules) -> bool:
    """He bought it, within the days for which nobody wants such a thing again."""
    days_ago = wants.bought.get(listed.product.product_id)
    return days_ago is not None and days_ago < rules.bought_days_in(listed.product.category)


def is_of_excluded_brand(listed: Listed, wants: Wants, _rules: Rules) -> bool:
    """He wants nothing of this brand."""
    brand = listed.product.brand
    return bool(wants.excluded_brands) and brand is not None and brand.casefold() in wants.excluded_brands


def is_of_excluded_category(listed: Listed, wants: Wants, _rules: Rules) -> bool:
    """He wants nothing of this category."""
    category = listed.product.category
    return bool(wants.excluded_categories) and category is not None and category.casefold() in wants.excluded_categories


def is_outside_price_band(listed: Listed, wants: Wants, _rules: Rules) -> bool:
    """It costs more, or less, than he has told the shop; a product without a price is within."""
    price = listed.product.price
    if price is None:
        return False
    return (wants.price_from is not None and price < wants.price_from) or (
        wants.price_to is not None and price > wants.price_to
    )


PREDICATES: Final[Mapping[Rule, Predicate]] = {
    Rule.HIDDEN: is_hidden,
    Rule.OUT_OF_STOCK: is_out_of_stock,
    Rule.BANNED: is_banned,
    Rule.REFUSED: is_refused,
    Rule.BOUGHT: is_bought,
    Rule.EXCLUDED_BRAND: is_of_excluded_brand,
    Rule.EXCLUDED_CATEGORY: is_of_excluded_category,
    Rule.PRICE_BAND: is_outside_price_band,
}
"""In the order in which they are asked: the first that holds is the one that is recorded."""


class Sieve:
    """Takes out what the rules keep from one customer; `removed` is what that was, each with its rule."""

    def __init__(self, rules: Rules, wants: Wants) -> None:
        self._rules = rules
        self._wants = wants
        self._named = {*wants.bought, *wants.refused}
        self._asks_of_all = wants.ask_of_all
        self.removed: list[tuple[Rule, ProductId]] = []

    @property
    def asks_nothing(self) -> bool:
        """Whether whatever is on sale passes."""
        return not self._asks_of_all and not self._named

    def lets_pass(self, listed: Listed) -> bool:
        """Whether no rule is against this product."""
        product_id = listed.product.product_id
        is_on_sale = listed.available and not (listed.hidden or listed.banned)
        if is_on_sale and not self._asks_of_all and product_id not in self._named:
            return True  # as most products do: no predicate is asked
        rule = self._rule_against(listed)
        if rule is not None:
            self.removed.append((rule, product_id))
        return rule is None

    def _rule_against(self, listed: Listed) -> Rule | None:
        for rule, holds in PREDICATES.items():
            if holds(listed, self._wants, self._rules):
                return rule
        return None
