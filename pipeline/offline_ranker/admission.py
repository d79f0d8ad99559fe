"""Lets requests in as far as a plan of limits allows, and says of the others which limit is in their way.

The clock is given: a server asks with its own, whoever works out what a limit allows asks with one of his.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pipeline.offline_ranker.limits import LimitPlan
from pipeline.offline_ranker.meters import Bucket, Meter, Window

_BUSY_S = 1.0  # what who finds no place is told to wait: nobody knows when a stream ends


class Limited(StrEnum):
    """What can be limited."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"


@dataclass(frozen=True, slots=True)
class LimitRefusal:
    """A request that was not let in. `wait_s` is infinite where no waiting helps; `limit`, `used` as in the message."""

    limited: Limited
    wait_s: float
    limit: float
    used: float
    requested: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """One rate as it stands: per minute, what is left of it now, and how long until all of it is there again."""

    per_minute: float
    remaining: float
    reset_s: float


class Gate:
    """Where requests come in. `plan` is what is in force, changes made."""

    def __init__(self, plan: LimitPlan) -> None:
        self.plan = plan
        self.in_flight = 0
        self._meters: dict[Limited, Meter] = {}
        self._changes = list(plan.changes)
        self._begun: float | None = None

    def put_plan(self, plan: LimitPlan) -> None:
        """Put another plan in force: what it allows at once is there; who is in stays in."""
        self.plan = plan
        self._meters = {}
        self._changes = list(plan.changes)
        self._begun = None

    def refusal(self, tokens: float, now: float) -> LimitRefusal | None:
        """What is in the way of a request of so many tokens, None where nothing is."""
        self._bring_up_to(now)
        places = self.plan.concurrency
        if places is not None and self.in_flight >= places:
            return LimitRefusal(Limited.CONCURRENCY, _BUSY_S, places, self.in_flight, 1)
        refusals = [
            LimitRefusal(limited, wait, meter.per_minute, meter.per_minute - meter.remaining(now), amount)
            for limited, amount in self._amounts(tokens).items()
            if (meter := self._meters.get(limited)) and (wait := meter.wait(amount, now))
        ]
        return max(refusals, key=lambda refusal: refusal.wait_s, default=None)

    def enter(self, tokens: float, now: float) -> None:
        """Let a request in that `refusal` has nothing against; `leave` follows."""
        self._bring_up_to(now)
        for limited, amount in self._amounts(tokens).items():
            if limited in self._meters:
                self._meters[limited].take(amount, now)
        self.in_flight += 1

    def leave(self) -> None:
        """A request that was let in is answered."""
        self.in_flight -= 1

    def allowances(self, now: float) -> Mapping[Limited, Allowance]:
        """The rates that are limited, as they stand."""
        self._bring_up_to(now)
        return {
            limited: Allowance(meter.per_minute, meter.remaining(now), meter.reset_s(now))
            for limited, meter in self._meters.items()
        }

    def next_change_s(self, now: float) -> float | None:
        """Seconds until the limits change by plan; None where they do not, or nobody has come yet."""
        self._bring_up_to(now)
        if self._begun is None or not self._changes:
            return None
        return self._begun + self._changes[0].after_seconds - now

    @staticmethod
    def _amounts(tokens: float) -> dict[Limited, float]:
        return {Limited.REQUESTS: 1.0, Limited.TOKENS: tokens}

    def _bring_up_to(self, now: float) -> None:
        if self._begun is None:
            self._begun = now
            self._meter_all(now)
        while self._changes and self._begun + self._changes[0].after_seconds <= now:
            change = self._changes.pop(0)
            self.plan = self.plan.changed(change)
            self._meter_all(self._begun + change.after_seconds)

    def _meter_all(self, now: float) -> None:
        """See that each rate of the plan has its meter; those that there are go on with what is left in them."""
        rates = {Limited.REQUESTS: self.plan.requests_per_minute, Limited.TOKENS: self.plan.tokens_per_minute}
        for limited, per_minute in rates.items():
            if per_minute is None:
                self._meters.pop(limited, None)
            elif limited in self._meters:
                self._meters[limited].set_rate(per_minute, now)
            else:
                self._meters[limited] = self._meter(limited, per_minute, now)

    def _meter(self, limited: Limited, per_minute: float, now: float) -> Meter:
        if self.plan.window_seconds is not None:
            return Window(per_minute, self.plan.window_seconds, now)
        least = 1.0 if limited is Limited.REQUESTS else 0.0  # half a request is none
        return Bucket(per_minute, self.plan.burst_seconds, now, least=least)
