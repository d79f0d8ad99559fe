"""Confidence intervals of shares and of their differences, at 95%: score intervals, which hold for few and for rare.

Sources: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927;
R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17,
1998, pages 873-890; R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions
based on paired data", the same volume, pages 2635-2650. Of both of Newcombe's papers it is method 10.
"""

from math import sqrt

Interval = tuple[float, float]

_Z = 1.959963984540054  # the 97.5% point of the normal distribution


def wilson(hits: int, number: int) -> Interval:
    """The interval of a share: (2·n·p + z² ± z·sqrt(z² + 4·n·p·(1 - p))) / (2·(n + z²)). Of nobody it is 0 to 1."""
    if not number:
        return 0.0, 1.0
    middle = 2 * hits + _Z**2
    half = _Z * sqrt(_Z**2 + 4 * hits * (number - hits) / number)
    width = 2 * (number + _Z**2)
    return max((middle - half) / width, 0.0), min((middle + half) / width, 1.0)


def independent_difference(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """The interval of p2 - p1 of two groups without a member in common, each given as (hits, number).

    With Wilson's (l1, u1) and (l2, u2): p2 - p1 - sqrt((p2 - l2)² + (u1 - p1)²) to p2 - p1 + sqrt((u2 - p2)² +
    (p1 - l1)²).
    """
    return _difference(first, second, correlation=0.0)


def paired_difference(both: int, first_only: int, second_only: int, neither: int) -> Interval:
    """The interval of p2 - p1 where the same customers were hit by both, by one alone, or by neither.

    As `independent_difference`, but for the correlation phi of the two: under the roots stands
    (p2 - l2)² - 2·phi·(p2 - l2)·(u1 - p1) + (u1 - p1)², and likewise above.
    """
    number = both + first_only + second_only + neither
    phi = _correlation(both, first_only, second_only, neither)
    return _difference((both + first_only, number), (both + second_only, number), correlation=phi)


def _difference(first: tuple[int, int], second: tuple[int, int], *, correlation: float) -> Interval:
    if not first[1] or not second[1]:
        return -1.0, 1.0
    share_1, share_2 = first[0] / first[1], second[0] / second[1]
    (low_1, high_1), (low_2, high_2) = wilson(*first), wilson(*second)
    down = _together(share_2 - low_2, high_1 - share_1, correlation)
    up = _together(high_2 - share_2, share_1 - low_1, correlation)
    return max(share_2 - share_1 - down, -1.0), min(share_2 - share_1 + up, 1.0)


def _together(one: float, other: float, correlation: float) -> float:
    return sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))


def _correlation(both: int, first_only: int, second_only: int, neither: int) -> float:
    """Phi of the four-fold table, brought nearer to 0 by Newcombe's correction where it is above."""
    margins = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    if not margins:
        return 0.0
    product: float = both * neither - first_only * second_only
    if product > 0:
        product = max(product - (both + first_only + second_only + neither) / 2, 0.0)
    return product / sqrt(margins)
