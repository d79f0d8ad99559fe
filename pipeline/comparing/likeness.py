"""How alike two rankings are: what they share, whether they order that alike, and both with the top weighing most.

A ranking is a sequence of different products, the best first; none of these is asked about an empty one.
"""

from bisect import bisect
from collections.abc import Sequence

PERSISTENCE = 0.9
"""The p of rank-biased overlap: the first ten places have 86% of the weight."""


def overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """The products in both, as a share of the longer ranking: 1 for the same products in whatever order.

    This is overlap@k (precision of the one against the other) where both have k products.
    """
    return _common(first, second) / max(len(first), len(second))


def jaccard(first: Sequence[str], second: Sequence[str]) -> float:
    """The products in both, as a share of those in either (P. Jaccard, 1901)."""
    common = _common(first, second)
    return common / (len(first) + len(second) - common)


def kendall_tau(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Kendall's tau-b over the products in both: 1 in the same order, -1 in the opposite, None for fewer than two.

    tau-b = (C - D) / sqrt((C + D + T1)·(C + D + T2)), with C pairs in the same order, D in the opposite, and T tied
    in one ranking alone (M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945). No two
    products share a rank, so T1 = T2 = 0 and it is 1 - 2·D / (n·(n - 1) / 2).
    """
    places = {product: place for place, product in enumerate(second)}
    order = [places[product] for product in first if product in places]
    number = len(order)
    if number < 2:
        return None
    return 1 - 4 * _inversions(order) / (number * (number - 1))


def rank_biased_overlap(first: Sequence[str], second: Sequence[str], persistence: float = PERSISTENCE) -> float:
    """Rank-biased overlap, extrapolated: how much a reader sees twice who goes on to the next place with chance p.

    RBO_ext for rankings of s and l products, s <= l, with X_d products in the first d places of both
    (W. Webber, A. Moffat, J. Zobel, "A similarity measure for indefinite rankings", ACM TOIS 28(4), 2010, eq. 32):

        (1 - p)/p · [ sum_{d=1..l} X_d/d · p^d + sum_{d=s+1..l} X_s·(d - s)/(s·d) · p^d ]
            + [ (X_l - X_s)/l + X_s/s ] · p^l
    """
    short, long = sorted((first, second), key=len)
    seen_in_short: set[str] = set()
    seen_in_long: set[str] = set()
    shared, shared_by_short, total, weight = 0, 0, 0.0, 1.0
    for depth, product in enumerate(long, start=1):
        weight *= persistence
        seen_in_long.add(product)
        if depth <= len(short):
            other = short[depth - 1]
            seen_in_short.add(other)
            shared += (product in seen_in_short) + (other in seen_in_long and other != product)
            shared_by_short = shared
        else:
            shared += product in seen_in_short
            total += shared_by_short * (depth - len(short)) / (len(short) * depth) * weight
        total += shared / depth * weight
    rest = (shared - shared_by_short) / len(long) + shared_by_short / len(short)
    return (1 - persistence) / persistence * total + rest * weight


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    return len(set(first).intersection(second))


def _inversions(order: Sequence[int]) -> int:
    """The pairs that stand in the opposite order: for each number, the greater ones before it."""
    before: list[int] = []
    found = 0
    for number in order:
        place = bisect(before, number)
        found += len(before) - place
        before.insert(place, number)
    return found
