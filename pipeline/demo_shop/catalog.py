"""Generates the demo shop's catalog: a fixed number of products with distinct names, the same for the same seed."""

from dataclasses import dataclass
from decimal import Decimal
from itertools import product as pairs
from random import Random

from pipeline.demo_shop.vocabulary import CATEGORIES, Category
from pipeline.loading.records import ProductRecord

OUT_OF_STOCK = 0.06
HIDDEN = 0.02


@dataclass(frozen=True, slots=True)
class ShelfProduct:
    """A product with the words that people search it by, and its weight among the products of its shelf."""

    record: ProductRecord
    words: str
    weight: float


@dataclass(frozen=True, slots=True)
class Shelf:
    """The products of one category."""

    category: Category
    products: tuple[ShelfProduct, ...]


def generate_shelves(random: Random, count: int) -> tuple[Shelf, ...]:
    """`count` products spread evenly over the categories; each shelf has favourites and a long tail."""
    shelves = []
    made = 0
    for place, category in enumerate(CATEGORIES, start=1):
        up_to = count * place // len(CATEGORIES)
        shelves.append(_shelf(random, category, first=made + 1, last=up_to))
        made = up_to
    return tuple(shelves)


def _shelf(random: Random, category: Category, *, first: int, last: int) -> Shelf:
    names = list(pairs(category.adjectives, category.nouns, category.brands))
    random.shuffle(names)
    distinct = {_title(category, name): name for name in names}
    products = tuple(
        ShelfProduct(
            record=_product(random, category, f"P{number:04}", name),
            words=" ".join(name[:2]).lower(),
            weight=1 / (1 + place) ** 0.7,
        )
        for place, (number, name) in enumerate(zip(range(first, last + 1), distinct.values(), strict=False))
    )
    return Shelf(category, products)


def _product(random: Random, category: Category, product_id: str, name: tuple[str, str, str]) -> ProductRecord:
    _, noun, brand = name
    return ProductRecord(
        product_id=product_id,
        name=_title(category, name),
        description=_description(random, category, noun),
        brand=brand,
        category=category.name,
        price=_price(random, category, noun),
        available=random.random() >= OUT_OF_STOCK,
        hidden=random.random() < HIDDEN,
    )


def _title(category: Category, name: tuple[str, str, str]) -> str:
    adjective, noun, brand = name
    return f"The {adjective} {noun}" if category.name == "Books" else f"{brand} {adjective} {noun}"


def _description(random: Random, category: Category, noun: str) -> str:
    told = f"{random.choice(category.uses)}, {random.choice(category.details)}"
    return told.capitalize() if category.name == "Books" else f"{noun} {told}"


def _price(random: Random, category: Category, noun: str) -> Decimal:
    """By the noun's place between the cheapest and the dearest, a third up or down; prices end as prices do."""
    cheapest, dearest = category.prices
    place = category.nouns.index(noun) / (len(category.nouns) - 1)
    usual = cheapest * (dearest / cheapest) ** place
    whole = max(cheapest, round(usual * (0.7 + 0.6 * random.random())))
    return Decimal(whole) - Decimal(random.choice(("0.01", "0.05", "0.10", "0.50")))
