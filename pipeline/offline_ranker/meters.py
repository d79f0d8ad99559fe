"""Counts what was used of one rate: in a bucket that fills continuously, or in windows that begin anew.

Times are seconds of one clock that never goes back, and are given: nothing here waits or looks at a clock.
"""

import math
from typing import Protocol

_A_MINUTE = 60.0
_ROUNDING = 1e-9  # of an amount: what floating point makes of waiting for exactly as long as was said


class Meter(Protocol):
    """What is left of a rate at each moment, and when there is enough."""

    @property
    def per_minute(self) -> float:
        """The rate."""

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken: 0 for now, infinite for never."""

    def take(self, amount: float, now: float) -> None:
        """Take it."""

    def remaining(self, now: float) -> float:
        """What could be taken now."""

    def reset_s(self, now: float) -> float:
        """Seconds until all can be taken again that can be taken at once."""

    def set_rate(self, per_minute: float, now: float) -> None:
        """Go on at another rate, with what is left."""


class Bucket:
    """Holds `burst_seconds` worth, at least `least`, and begins full.

    More than it holds may be taken from a full one, which then owes the rest; more than a minute's worth never.
    """

    def __init__(self, per_minute: float, burst_seconds: float, now: float, *, least: float = 0.0) -> None:
        self._burst_seconds = burst_seconds
        self._least = least
        self._rate = per_minute / _A_MINUTE
        self._level = self._size
        self._looked = now

    @property
    def per_minute(self) -> float:
        """The rate."""
        return self._rate * _A_MINUTE

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken: 0 for now, infinite for never."""
        if not self._rate or amount > max(self.per_minute, self._size):
            return math.inf
        missing = min(amount, self._size) - self._filled(now)
        return missing / self._rate if missing > _ROUNDING * self._size else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take it, into debt where it is more than there is."""
        self._level = self._filled(now) - amount

    def remaining(self, now: float) -> float:
        """What is in it."""
        return max(self._filled(now), 0.0)

    def reset_s(self, now: float) -> float:
        """Seconds until it is full."""
        missing = self._size - self._filled(now)
        return missing / self._rate if self._rate else math.inf

    def set_rate(self, per_minute: float, now: float) -> None:
        """Go on at another rate; what no longer fits is lost."""
        level = self._filled(now)
        self._rate = per_minute / _A_MINUTE
        self._level = min(level, self._size)

    @property
    def _size(self) -> float:
        return max(self._rate * self._burst_seconds, self._least) if self._rate else 0.0

    def _filled(self, now: float) -> float:
        self._level = min(self._level + (now - self._looked) * self._rate, self._size)
        self._looked = now
        return self._level


class Window:
    """Allows the rate's worth of `seconds` in each window of that length, the first of which begins at `now`."""

    def __init__(self, per_minute: float, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._per_minute = per_minute
        self._begun = now
        self._used = 0.0

    @property
    def per_minute(self) -> float:
        """The rate."""
        return self._per_minute

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken: 0 for now, infinite for never."""
        if amount > self._size:
            return math.inf
        return 0.0 if amount <= self.remaining(now) else self.reset_s(now)

    def take(self, amount: float, now: float) -> None:
        """Take it from the window of now."""
        self._turn(now)
        self._used += amount

    def remaining(self, now: float) -> float:
        """What is left in the window."""
        self._turn(now)
        return max(self._size - self._used, 0.0)

    def reset_s(self, now: float) -> float:
        """Seconds until the next window."""
        self._turn(now)
        return self._begun + self._seconds - now

    def set_rate(self, per_minute: float, now: float) -> None:
        """Go on at another rate, with what was used of the window."""
        self._turn(now)
        self._per_minute = per_minute

    @property
    def _size(self) -> float:
        return self._per_minute * self._seconds / _A_MINUTE

    def _turn(self, now: float) -> None:
        passed = math.floor((now - self._begun) / self._seconds + _ROUNDING)
        if passed > 0:
            self._begun += passed * self._seconds
            self._used = 0.0
