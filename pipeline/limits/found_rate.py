"""Finds out from refusals how much a minute an endpoint allows that does not say it.

At a refusal the endpoint's bucket is empty. What it accepted between two of them, divided by the time between them, is
the rate at which the bucket fills. Between refusals the pace rises slowly: the limit may have risen.
"""

import math

_FIRST_FACTOR = 0.9  # the first refusal ends a time that began with a full bucket
_STEP_DOWN = 0.75  # when refusals follow each other too soon to measure anything
_MOST_DOWN = 0.4
_KEPT = 0.99
_LEAST_SPAN_S = 1.0
_LEAST_REQUESTS = 5
_LEAST_REQUESTS_IN_LONG = 2
_FLOOR = 0.96  # of what was found, right after a refusal
_SAME = 0.85  # of the last rate: what was found is confirmed
_FIRST_HOLD_S = 1.5
_LONGEST_HOLD_S = 15.0
_HOLD_GROWTH = 1.2
_HOLD_REQUESTS = 12.0
_LONGEST_HOLD_BY_REQUESTS_S = 120.0
_HOLD_LOSSES = 8.0
_LEAST_SHARED_HOLD_S = 2.5  # what one process finds out, all have heard of after two renewals
_GROWTH = 1.0  # of the hold: in so long the rate grows e-fold
_LONGEST_GROWTH_S = 4.0
_MOST_GROWTH = 3.0  # exponent: it grows on from there only if somebody has to wait for it
_LEAST_RATE = 1 / 60  # less is nobody's limit, but a mistake


class FoundRate:
    """The rate that refusals taught, per second; None before the first."""

    def __init__(self) -> None:
        self.confirmed = False
        self._rate: float | None = None
        self._measured = False
        self._most = math.inf
        self._hold_s = _FIRST_HOLD_S
        self._held_since = 0.0
        self._since: float | None = None
        self._base = 0.0
        self._heard_at = -math.inf
        self._idle_s = 0.0
        self._lost_s = 0.0
        self._amount = 1.0
        self._portion = 1.0

    def began(self, now: float) -> None:
        """Take note of the first request."""
        if self._since is None:
            self._since = now

    def at(self, now: float) -> float | None:
        """The rate to keep to at this moment."""
        if self._rate is None:
            return None
        return min(self._rate * self._grown(now), self._most)

    def in_the_way(self, now: float) -> None:
        """Take in that somebody has to wait for it: what has grown as far as it does by itself grows on from there."""
        rate = self.at(now)
        if rate is not None and self._growth(now) >= _MOST_GROWTH:
            self._rate, self._hold_s = rate, _FIRST_HOLD_S
            self._held_since = now - self._held_for_s()

    def bound(self, most: float, now: float) -> None:
        """The endpoint says what it allows: nothing above that needs to be found out."""
        self._most = most
        rate = self.at(now)
        if rate is not None and rate >= most:
            self._rate = None

    def refuse(self, sent_at: float, accepted: float | None, amount: float, now: float, pace: float | None) -> bool:
        """Take in a refusal of a request of this amount; whether it is the first that tells of its moment.

        `accepted` is all that was sent before it and not refused, None if nobody knows; `pace` what was kept to, None
        to learn nothing from a refusal that was a slip.
        """
        if sent_at <= self._heard_at:
            return False
        since = self._since if self._since is not None else sent_at
        self._amount = amount
        self.confirmed = pace is None
        if accepted is None:
            accepted = self._base
        elif pace is not None:
            self._learn(accepted - self._base, max(sent_at - since - self._idle_s, 0.0), now, pace)
        self._idle_s = 0.0
        self._since, self._base, self._heard_at = sent_at, accepted, now
        self._held_since = now
        return True

    def paused(self, lost_s: float, now: float) -> None:
        """Take in the end of a pause, in which so many seconds' worth was lost: the bucket was full before its end."""
        self._idle_s += lost_s
        self._lost_s = lost_s
        self._held_since = now

    def named(self, rate: float, now: float) -> None:
        """Begin anew with the rate that a refusal names; it may have risen by the next one."""
        if self._rate is None or not _SAME < rate / self._rate < 1 / _SAME:
            self._hold_s = _FIRST_HOLD_S
        self._rate, self._held_since = rate, now

    def allotted(self, rate: float, portion: float, now: float, *, fresh: bool) -> None:
        """Go on from this rate, a portion of what the processes have found out together.

        What is not fresh is tried at once.
        """
        self._portion = portion
        if self._rate is None:
            self._rate = rate
            self._held_since = now if fresh else now - self._held_for_s()
            return
        growth = self._growth(now)
        self._rate = rate / self._grown(now)
        self._held_since = now - self._since_held(growth)  # how long it is held to depends on the rate

    def _growth(self, now: float) -> float:
        """How far it has come: from -1 to 0 while it is held to, then how many times e-fold it has grown."""
        since, hold_s = now - self._held_since, self._held_for_s()
        if since <= hold_s:
            return max(since, 0.0) / hold_s - 1
        return min((since - hold_s) / self._growth_s(hold_s), _MOST_GROWTH)

    def _since_held(self, growth: float) -> float:
        hold_s = self._held_for_s()
        return hold_s * (1 + growth) if growth <= 0 else hold_s + growth * self._growth_s(hold_s)

    def _grown(self, now: float) -> float:
        growth = self._growth(now)
        return _FLOOR + (1 - _FLOOR) * (1 + growth) if growth <= 0 else math.exp(growth)

    def _growth_s(self, hold_s: float) -> float:
        return min(_GROWTH * hold_s, _LONGEST_GROWTH_S)

    def _held_for_s(self) -> float:
        """How long a rate is kept to before more is tried: the dearer a refusal, the longer."""
        rate = self._rate or math.inf
        if rate < _LEAST_RATE:
            return _FIRST_HOLD_S
        by_requests_s = min(_HOLD_REQUESTS * self._amount * self._portion / rate, _LONGEST_HOLD_BY_REQUESTS_S)
        shared_s = _LEAST_SHARED_HOLD_S if self._portion < 1 else 0.0
        return max(self._hold_s, by_requests_s, shared_s, _HOLD_LOSSES * self._lost_s)

    def _learn(self, accepted: float, span_s: float, now: float, pace: float) -> None:
        measured = accepted / span_s if span_s > 0 and accepted > 0 else None
        last = self.at(now)
        if self._rate is None or last is None:
            begin = pace if measured is None else accepted / max(span_s, _LEAST_SPAN_S) * _FIRST_FACTOR
            self._rate = None if math.isinf(begin) else max(begin, _LEAST_RATE)
            self._measured = measured is not None
            return
        if measured is None and self._measured:
            return  # nothing at all was let in: that is no rate, but a window used up, and the pauses' concern
        enough = _LEAST_REQUESTS if span_s < _LEAST_SPAN_S else _LEAST_REQUESTS_IN_LONG
        if measured is None or accepted < self._amount * enough:
            self._rate = max(last * _STEP_DOWN, _LEAST_RATE)
            self._hold_s = _FIRST_HOLD_S
            return
        self._measured = True
        self.confirmed = measured >= self._rate * _SAME
        self._hold_s = min(self._hold_s * _HOLD_GROWTH, _LONGEST_HOLD_S) if self.confirmed else _FIRST_HOLD_S
        # Refused while more was tried: what was accepted may be less than allowed, for at first it was kept below.
        least = self._rate * _KEPT if self.confirmed and last > self._rate else last * _MOST_DOWN
        self._rate = max(min(max(measured, least), last), _LEAST_RATE)
