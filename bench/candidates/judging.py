"""How much of what customers went on to purchase a list of theirs held: means over customers, from 0 to 1."""

from collections.abc import Collection, Mapping, Sequence
from math import log2
from statistics import mean

from bench.candidates.held_out import Wanted
from pipeline.domain import CustomerId, ProductId

Lists = Mapping[CustomerId, Sequence[ProductId]]
"""Of each customer: products, best first. A customer without a list has found nothing."""


def recall(wanted: Wanted, lists: Lists, places: int) -> float:
    """The part of a customer's targets that the first `places` hold."""
    return mean(_held(hits, lists.get(customer, ())[:places]) / len(hits) for customer, hits in wanted.items())


def ndcg(wanted: Wanted, lists: Lists, places: int) -> float:
    """How early the targets stand among the first `places`, of how early they could."""
    return mean(
        _gain([product in hits for product in lists.get(customer, ())[:places]])
        / _gain([True] * min(len(hits), places))
        for customer, hits in wanted.items()
    )


def without(products: Sequence[ProductId], known: Mapping[CustomerId, Collection[ProductId]]) -> Lists:
    """For each customer all of `products`, in their order, that he does not know."""
    return {customer: [one for one in products if one not in his] for customer, his in known.items()}


def _held(hits: Collection[ProductId], products: Sequence[ProductId]) -> int:
    return sum(product in hits for product in products)


def _gain(is_hit: Sequence[bool]) -> float:
    return sum(1 / log2(place + 1) for place, hit in enumerate(is_hit, start=1) if hit)
