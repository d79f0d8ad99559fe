"""Figures out of repeated runs: medians, with the spread beside them."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Ratio(NamedTuple):
    """The median of the ratios of paired runs, and the lowest and highest of them."""

    middle: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.middle:.3g} ({self.lowest:.3g} to {self.highest:.3g})"


def paired_ratio(dividends: Sequence[float], divisors: Sequence[float]) -> Ratio:
    """Of runs that were made in turn: each divided by its neighbour."""
    ratios = [dividend / divisor for dividend, divisor in zip(dividends, divisors, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie; not a number where there are none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")
