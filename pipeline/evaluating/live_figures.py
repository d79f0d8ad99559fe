"""From customers counted by what they saw and bought to shares with their intervals, without I/O.

Intervals are of a bootstrap over customers: each counts as often as a Poisson number of mean 1 says, so that customers
who are alike are drawn together, and a million of them cost no more than a thousand. Everything is drawn from one seed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, sqrt
from operator import mul
from random import Random
from typing import Final, Literal

from pipeline.evaluating.report import Interval

Depth = Literal[5, 10]
DEPTHS: Final[tuple[Depth, ...]] = (5, 10)
RESAMPLES: Final = 1_000
_LOW, _HIGH = 0.025, 0.975
_DRAWN_ONE_BY_ONE = 30  # from so many on a normal number, rounded, stands for the Poisson number


@dataclass(frozen=True, slots=True)
class Alike:
    """So many customers of one variant, each of whom bought so many products while he saw a slate.

    `ours` and `popular` are how many of these stood in the first 5 and 10 places of the slate, and of what was popular.
    """

    variant: str | None
    customers: int
    bought: int
    ours: Mapping[Depth, int]
    popular: Mapping[Depth, int]


@dataclass(frozen=True, slots=True)
class Side:
    """One share of ours, the same of popularity, and ours less that: the difference is of the same customers."""

    ours: Interval
    popularity: Interval
    difference: Interval


@dataclass(frozen=True, slots=True)
class LiveHits:
    """At so many places: of the customers those who bought any of them, and of what they bought the part in them."""

    places: int
    customers: Side
    products: Side


@dataclass(frozen=True, slots=True)
class VariantHits:
    """The share of a variant's customers who bought any of so many places; and how much more that is than control's."""

    variant: str
    places: int
    customers: int
    share: Interval
    less_control: Interval | None


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """Everything that is drawn from one seed. `variants` is empty where there are fewer than two."""

    hits: tuple[LiveHits, ...]
    variants: tuple[VariantHits, ...]


def live_figures(cells: Sequence[Alike], seed: int, *, control: str, by_variant: bool = True) -> LiveFigures:
    """The shares over all customers, and with `by_variant` each variant's against that of the control."""
    draws = _Draws(cells, seed)
    return LiveFigures(
        tuple(LiveHits(places, _customers_side(draws, places), _products_side(draws, places)) for places in DEPTHS),
        tuple(_variants(draws, control)) if by_variant else (),
    )


class _Draws:
    """The customers as they are, first, and as they are drawn anew."""

    def __init__(self, cells: Sequence[Alike], seed: int) -> None:
        self.cells = cells
        random = Random(seed)  # noqa: S311 - a bootstrap, no secret
        self._weights = [[float(cell.customers) for cell in cells]]
        self._weights += [[float(_poisson(random, cell.customers)) for cell in cells] for _ in range(RESAMPLES)]

    def ratios(self, above: Sequence[float], below: Sequence[float]) -> list[float | None]:
        """Of each draw the weighted sum of one quantity by that of the other; None where there is nobody."""
        return [_ratio(sum(map(mul, drawn, above)), sum(map(mul, drawn, below))) for drawn in self._weights]


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def _poisson(random: Random, mean: int) -> int:
    if mean >= _DRAWN_ONE_BY_ONE:
        return max(0, round(random.gauss(mean, sqrt(mean))))
    limit, number, product = exp(-mean), 0, random.random()
    while product > limit:
        number += 1
        product *= random.random()
    return number


def _customers_side(draws: _Draws, places: Depth) -> Side:
    everybody = [1.0 for _ in draws.cells]
    ours = [float(cell.ours[places] > 0) for cell in draws.cells]
    popular = [float(cell.popular[places] > 0) for cell in draws.cells]
    return _side(draws, ours, popular, everybody)


def _products_side(draws: _Draws, places: Depth) -> Side:
    bought = [float(cell.bought) for cell in draws.cells]
    ours = [float(cell.ours[places]) for cell in draws.cells]
    popular = [float(cell.popular[places]) for cell in draws.cells]
    return _side(draws, ours, popular, bought)


def _side(draws: _Draws, ours: Sequence[float], popular: Sequence[float], below: Sequence[float]) -> Side:
    more = [one - other for one, other in zip(ours, popular, strict=True)]
    return Side(*(_interval(draws.ratios(above, below)) for above in (ours, popular, more)))


def _variants(draws: _Draws, control: str) -> Iterator[VariantHits]:
    names = sorted({cell.variant for cell in draws.cells if cell.variant is not None}, key=_control_first(control))
    if len(names) < 2:
        return
    for places in DEPTHS:
        of_control = _shares(draws, control, places)
        for name in names:
            shares = _shares(draws, name, places)
            customers = sum(cell.customers for cell in draws.cells if cell.variant == name)
            less = None if name == control else _interval(list(map(_less, shares, of_control)))
            yield VariantHits(name, places, customers, _interval(shares), less)


def _control_first(control: str) -> Callable[[str], tuple[bool, str]]:
    return lambda name: (name != control, name)


def _shares(draws: _Draws, variant: str, places: Depth) -> list[float | None]:
    member = [float(cell.variant == variant) for cell in draws.cells]
    hit = [float(cell.variant == variant and cell.ours[places] > 0) for cell in draws.cells]
    return draws.ratios(hit, member)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _interval(values: Sequence[float | None]) -> Interval:
    """The first value, and between which ones the middle 95% of all others lie."""
    drawn = sorted(value for value in values[1:] if value is not None)
    if values[0] is None or not drawn:
        return Interval(values[0], None, None)
    last = len(drawn) - 1
    return Interval(values[0], drawn[round(_LOW * last)], drawn[round(_HIGH * last)])
