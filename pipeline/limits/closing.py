"""How long nobody may ask: what an endpoint wished, or, if it refuses without a word, a pause of our own that grows.

No clock in here: every call is given the time. Who waits is let in by the pace afterwards, not all in one instant; and
each process adds a little chance of its own, so that several do not wake together.
"""

import random
from dataclasses import dataclass

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 30.0
_SPREAD = 0.05  # of the wait
_LONGEST_SPREAD_S = 1.0
_QUIET_S = 120.0  # so long after the last pause without a refusal nobody asked, or all was well
_SAME_S = 0.25  # a wish that ends so little later is the same wish


@dataclass(slots=True)
class Closing:
    """Whether the endpoint is closed. Times are seconds of the caller's clock."""

    chance: random.Random
    wished_until: float = 0.0
    opens_at: float = 0.0
    closed_at: float = 0.0
    because: str = ""
    refused_since: float | None = None
    _streak: int = 0
    _refused_at: float = 0.0

    def for_s(self, now: float) -> float:
        """Seconds until it opens here, 0 if it is open."""
        return max(self.opens_at - now, 0.0)

    def wished_for_s(self, now: float) -> float:
        """Seconds that the endpoint wished for, without our chance: what other processes are told."""
        return max(self.wished_until - now, 0.0)

    def refuse(self, now: float, retry_after_s: float | None, because: str, *, paced: bool = True) -> None:
        """Take in a refusal: closed for as long as it asks, and longer each time if it asks for nothing or a lie.

        The first is left to the pace, where there is one: `paced`.
        """
        if now - max(self._refused_at, self.wished_until) > _QUIET_S:
            self.accept()
        if now >= self.opens_at or not self._streak:  # who was under way when it closed tells nothing new
            self._streak += 1
        self._refused_at = now
        if self.refused_since is None:
            self.refused_since = now
        own = min(_FIRST_PAUSE_S * 2 ** min(self._streak - 1, 16), _LONGEST_PAUSE_S)
        own = 0.0 if paced and self._streak == 1 else own
        self.close(now, max(own, retry_after_s or 0.0), because)

    def accept(self) -> None:
        """Take in that somebody was let in: the next refusal is the first again."""
        self._streak = 0
        self.refused_since = None

    def close(self, now: float, for_s: float, because: str) -> None:
        """Close for so long, unless it is closed for longer."""
        until = now + for_s
        if for_s <= 0 or until <= self.wished_until + (_SAME_S if self.opens_at > now else 0.0):
            return
        if self.opens_at <= now:
            self.closed_at = now
        self.wished_until = until
        self.opens_at = until + self.chance.uniform(0, min(for_s * _SPREAD, _LONGEST_SPREAD_S))
        self.because = because
