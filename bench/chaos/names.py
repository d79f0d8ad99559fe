"""How the shop of chaos calls its things, so that whoever reads a name knows the run and the customer it belongs to.

Every customer has products of his own, and the products are renamed before each run: a product's name, as the ranker
was told it and as it stands in a row, says for which run (its mark) and for whom it was meant.
"""

import re
from dataclasses import dataclass

_NAME = re.compile(r"r(\d+) ((c\d+)-p\d+)")


@dataclass(frozen=True, slots=True)
class Named:
    """What the name of a product says. `mark` counts the runs, from 1."""

    mark: int
    customer_id: str
    product_id: str


def customer_id(number: int) -> str:
    """The id of a customer, counted from 1."""
    return f"c{number}"


def product_id(customer: str, number: int) -> str:
    """The id of one of the customer's own products, counted from 1."""
    return f"{customer}-p{number}"


def product_name(mark: int, product: str) -> str:
    """What the product is called during the run of this mark."""
    return f"r{mark} {product}"


def read_name(name: str) -> Named | None:
    """What a name says; None for one that this shop never gave."""
    found = _NAME.fullmatch(name)
    return None if found is None else Named(int(found[1]), found[3], found[2])
