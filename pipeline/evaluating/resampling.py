"""Means over customers and their bootstrap intervals, in memory that does not grow with the customers.

Each customer is in each resample as often as a Poisson(1) draw says, so a resample can be summed while customers are
read, and no customer is kept (Chamandy, Muralidharan, Najmi and Naidu, "Estimating uncertainty for massive data
streams", Google, 2012). All columns of a customer share his draws: differences between them are paired.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

RESAMPLES: Final = 1_000
_DRAWN_AT_ONCE: Final = 1_000  # customers: what is drawn for them takes 8 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `customers`, with its 95% interval; mean and interval are None of nobody."""

    customers: int
    mean: float | None
    low: float | None
    high: float | None


class Resampling:
    """The means of some columns over the customers that were added. The same seed and order give the same interval."""

    def __init__(self, columns: int, *, seed: int, resamples: int = RESAMPLES) -> None:
        self._draws = np.random.default_rng(seed)
        self._resamples = resamples
        self._sums, self._counts = np.zeros(columns), np.zeros(columns)
        self._drawn_sums, self._drawn_counts = np.zeros((resamples, columns)), np.zeros((resamples, columns))

    def add(self, values: Matrix) -> None:
        """Add customers, a row each. NaN is a column for which the customer does not count."""
        for start in range(0, len(values), _DRAWN_AT_ONCE):
            self._add(values[start : start + _DRAWN_AT_ONCE])

    def estimate(self, column: int) -> Estimate:
        """The mean of one column, percentile interval."""
        return self._estimate(column, self._sums[column], self._drawn_sums[:, column])

    def difference(self, column: int, baseline: int) -> Estimate:
        """The mean of one column less that of another that the same customers count for.

        Raises:
            ValueError: other customers count for the other column.
        """
        if not np.array_equal(self._drawn_counts[:, column], self._drawn_counts[:, baseline]):
            raise ValueError(f"columns {column} and {baseline} are not of the same customers")
        return self._estimate(
            column,
            self._sums[column] - self._sums[baseline],
            self._drawn_sums[:, column] - self._drawn_sums[:, baseline],
        )

    def difference_of_groups(self, column: int, baseline: int) -> Estimate:
        """The mean of one column less that of another, where other customers count for each; of the smaller group."""
        customers = int(min(self._counts[column], self._counts[baseline]))
        if not customers:
            return Estimate(0, None, None, None)
        own, other = self._drawn_counts[:, column], self._drawn_counts[:, baseline]
        drawn = (own > 0) & (other > 0)
        means = self._drawn_sums[drawn, column] / own[drawn] - self._drawn_sums[drawn, baseline] / other[drawn]
        mean = self._sums[column] / self._counts[column] - self._sums[baseline] / self._counts[baseline]
        low, high = np.percentile(means, (2.5, 97.5))
        return Estimate(customers, float(mean), float(low), float(high))

    def _add(self, values: Matrix) -> None:
        counted = ~np.isnan(values)
        known = np.where(counted, values, 0.0)
        # Nobody counts for some customers at all: no draw for them, so that they change no interval.
        some = counted.any(axis=1)
        counted, known = counted[some], known[some]
        times = self._draws.poisson(1.0, size=(self._resamples, len(known))).astype(np.float64)
        self._sums += known.sum(axis=0)
        self._counts += counted.sum(axis=0)
        self._drawn_sums += times @ known
        self._drawn_counts += times @ counted.astype(np.float64)

    def _estimate(self, column: int, total: float, drawn: Matrix) -> Estimate:
        customers = int(self._counts[column])
        if not customers:
            return Estimate(0, None, None, None)
        counts = self._drawn_counts[:, column]
        means = drawn[counts > 0] / counts[counts > 0]
        low, high = np.percentile(means, (2.5, 97.5))
        return Estimate(customers, float(total / customers), float(low), float(high))
