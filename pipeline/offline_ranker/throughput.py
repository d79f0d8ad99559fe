"""How many tokens a stream may have had by now, where each has a pace of its own and all share what the server makes.

A shared total is divided evenly among the streams that are open at each moment. Times are seconds of one clock, given.
"""

import math


class Throughput:
    """The pace of every stream: `per_stream` tokens a second, 0 for as fast as it goes; `total` for all of them."""

    def __init__(self, per_stream: float, total: float | None = None) -> None:
        self._per_stream = per_stream or math.inf
        self._total = total or math.inf
        self._open = 0
        self._progress = 0.0
        self._looked = 0.0

    @property
    def rate(self) -> float:
        """Tokens a second that each open stream gets now; infinite for as fast as it goes."""
        return min(self._per_stream, self._total / max(self._open, 1))

    def set_total(self, total: float | None, now: float) -> None:
        """Share another total from now on; None for as much as is asked for."""
        self._move_to(now)
        self._total = total or math.inf

    def open(self, now: float) -> None:
        """One more stream shares the total; `close` follows."""
        self._move_to(now)
        self._open += 1

    def close(self, now: float) -> None:
        """One stream less."""
        self._move_to(now)
        self._open -= 1

    def progress(self, now: float) -> float:
        """The tokens that a stream would have had if it had been open from the beginning; no number where unpaced."""
        self._move_to(now)
        return self._progress

    def _move_to(self, now: float) -> None:
        if math.isfinite(self.rate):
            self._progress += (now - self._looked) * self.rate
        self._looked = now
