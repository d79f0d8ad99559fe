"""Paces what is sent so that an endpoint's limit on one thing a minute (requests, or tokens) is used and not passed.

No clock and no waiting in here: every call is given the time, in seconds of a clock that never goes back. Amounts are
requests or tokens, rates are amounts per second.
"""

import math
from dataclasses import dataclass

from pipeline.limits.found_rate import FoundRate
from pipeline.limits.notices import Allowance

_BURST_S = 1.0  # what a bucket is believed to hold after a pause, until a refusal teaches less
_LEAST_BURST_S = 0.05
_RECOVERY = 1.25
_CATCH_UP = 2.0  # times the rate, after a pause
_RESERVE = 0.5  # of a request, kept for each refusal while `remaining` had promised room: it is told too late
_RESERVE_S = 0.05  # and no more than comes in meanwhile: so much later than the last one, requests come on their way
_SLOWER = 0.015  # than the limit, for each as well
_MOST_RESERVED = 4
_LEAST_PART = 0.001
_MOST_MISTAKES = 8  # such refusals until it is not believed any more
_BELIEF = 0.2  # in one such word: requests overtake each other on their way
_FORGIVEN_S = 20.0  # each, so long after the last, and
_FORGIVEN_REQUESTS = 20  # so many later: where one comes in ten seconds, twenty seconds prove nothing


@dataclass(slots=True, eq=False)
class Sent:
    """One request as the pace remembers it: its amount, when it was sent, and all that was sent before and with it."""

    amount: float
    at: float
    total: float


class Pace:
    """The pace of one thing that may be limited. Without a limit that anybody knows of, nothing waits."""

    def __init__(self, now: float) -> None:
        self.known: float | None = None
        self.found = FoundRate()
        self.share: float | None = None
        self.part = 1.0  # of what is left: the rest is for other processes
        self._level = 0.0
        self._looked = now
        self._total = 0.0
        self._refused = 0.0
        self._free_at = now
        self._usual = 0.0
        self._burst_s = _BURST_S
        self._mistakes = 0
        self._mistaken_at = now
        self._reopened_at = -math.inf
        self._told = False  # that `remaining` gave the level: it is no guess

    def rate(self, now: float) -> float | None:
        """The rate to keep to, None where nothing limits it."""
        known = None if self.known is None else self.known * (1 - _SLOWER * min(self._mistakes, _MOST_RESERVED))
        rates = [rate for rate in (known, self.found.at(now), self.share) if rate is not None]
        return min(rates) if rates else None

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much may be sent: 0 for now, infinite where the limit is 0."""
        rate = self.rate(now)
        if rate is None or not amount:
            return 0.0
        if rate <= 0:
            return math.inf
        self._fill(rate, now)
        missing = min(amount, self._most(rate)) + self._reserve(rate) - self._level
        plenty = self._told and self._level >= self._most(rate)
        spaced_s = 0.0 if plenty else self._free_at - now
        wait_s = max(missing / rate, spaced_s, 0.0)
        if wait_s > 0 and self.found.at(now) == rate:
            self.found.in_the_way(now)
        return wait_s

    def send(self, amount: float, now: float) -> Sent:
        """Take note that so much is sent."""
        rate = self.rate(now)
        if rate:
            self._fill(rate, now)
            self._level -= amount
            self._free_at = max(self._free_at, now) + amount / (rate * _CATCH_UP)
        self._total += amount
        self._usual = amount if not self._usual else self._usual + (amount - self._usual) / 16
        self.found.began(now)
        return Sent(amount, now, self._total)

    def hear(self, allowance: Allowance, sent: Sent, now: float, *, refused: bool) -> None:
        """Take in what the endpoint says of its limit with the answer to a request.

        A limit of 0 is believed of a refusal alone: an answer contradicts it.
        """
        rate = allowance.per_second
        if rate is not None and (rate > 0 or refused):
            self.known = rate
            self.found.bound(rate * self.part, now)
        kept_to = self.rate(now)
        if allowance.remaining is not None and kept_to:
            self._correct(allowance.remaining, sent, kept_to, now)

    def refuse(self, sent: Sent, now: float, *, measures: bool = True) -> bool:
        """Take in that a request was refused for this limit; whether that tells anything new.

        It measures nothing while nobody knows which of those under way will be refused as well.
        """
        self._refused += sent.amount
        accepted = sent.total - self._refused if measures else None  # what was refused was sent before it, or with it
        slipped = self._told and self._mistakes < _MOST_RESERVED
        if not self.found.refuse(sent.at, accepted, sent.amount, now, None if slipped else self._pace(now)):
            return False
        if self._told:
            self._mistakes += 1
            self._mistaken_at = now
        if self.found.confirmed and sent.at - self._reopened_at < _CATCH_UP * self._burst_s:
            self._burst_s = max(self._burst_s / 2, _LEAST_BURST_S)
            self._reopened_at = -math.inf
        self._level = min(self._level, 0.0)
        self._looked = now
        return True

    def limit(self, now: float) -> float | None:
        """The whole limit as far as it is known or found out, whoever has which share of it."""
        return self.found.at(now) if self.known is None else self.known

    def keep_to(self, rate: float | None, portion: float, now: float, *, found: bool, fresh: bool) -> None:
        """Keep to a share of the limit: a portion of what is left, and this rate, None if nobody knows one.

        A rate that the processes `found` out together is where this one goes on finding out.
        """
        self.part = portion
        self.share = None if found and rate else rate
        if found and rate:
            self.found.allotted(rate, portion, now, fresh=fresh)
        elif self.known is not None:
            self.found.bound(self.known * portion, now)

    def forget(self, sent: Sent) -> None:
        """Take back what was never sent."""
        self._refused += sent.amount
        self._level += sent.amount

    @property
    def is_told(self) -> bool:
        """Whether the endpoint says what is left, as it counts: nothing else needs to be made out then."""
        return self._told

    def reopen(self, now: float, closed_s: float) -> None:
        """After a pause the bucket is not empty; how full is unknown."""
        rate = self.rate(now)
        if rate:
            if self._reopened_at > -math.inf:  # after the last pause the bucket held all that it was thought to hold
                self._burst_s = min(self._burst_s * _RECOVERY, _BURST_S)
            # Who says when to come back has room for one request then, however little came in meanwhile.
            self._level = min(max(rate * closed_s, self._usual * self.part), self._most(rate))
            self._looked = self._free_at = now
            self._told = False
            self._reopened_at = now
            self.found.paused(max(closed_s - self._burst_s, 0.0), now)

    def _correct(self, remaining: float, sent: Sent, rate: float, now: float) -> None:
        """What is left now: what was left then, what came in since, less what was sent since."""
        self._fill(rate, now)
        left = remaining * self.part + rate * (now - sent.at) - (self._total - sent.total)
        if self._mistakes and now - self._mistaken_at > max(_FORGIVEN_S, _FORGIVEN_REQUESTS * self._usual / rate):
            self._mistakes -= 1
            self._mistaken_at = now
        first, self._told = not self._told, self._mistakes < _MOST_MISTAKES
        if self._told:
            self._level += (left - self._level) * (1.0 if first else _BELIEF)
            self._level = min(self._level, max(remaining * self.part, self._most(rate) + self._reserve(rate)))

    def _pace(self, now: float) -> float:
        rate = self.rate(now)
        return math.inf if rate is None else rate

    def _reserve(self, rate: float) -> float:
        whole = rate / max(self.part, _LEAST_PART)
        each = min(_RESERVE * self._usual, _RESERVE_S * whole)
        return each * min(self._mistakes, _MOST_RESERVED) if self._told else 0.0

    def _fill(self, rate: float, now: float) -> None:
        most = max(self._most(rate) + self._reserve(rate), self._level)
        self._level = min(self._level + rate * (now - self._looked), most)
        self._looked = now

    def _most(self, rate: float) -> float:
        return max(rate * self._burst_s, self._usual)
