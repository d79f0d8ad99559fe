"""Holds one limiter to what it was told last for as long as that is its own, and to less and less from then on."""

import asyncio
import logging
from dataclasses import replace
from time import monotonic
from typing import Final, NamedTuple, Protocol

from pipeline.limits.shares import Report, Share

HOLDS_S: Final = 4.0
"""How long a process uses a share, from when it asked for it: a second less than its lease lasts in the database."""
_MOST_HALVINGS: Final = 6
_SAME_CLOSURE_S: Final = 1.5  # a closure that ends when we were told that it does is no news

_log = logging.getLogger(__name__)


class SharedLimiter(Protocol):
    """What keeps one process to its share."""

    def report(self) -> Report:
        """What this process has seen since it was asked last, and wants."""
        ...

    def allot(self, share: Share) -> None:
        """Keep to this share from now on."""
        ...


class LimitKey(NamedTuple):
    """Whose limit it is: an endpoint's, for one model and one account."""

    endpoint: str
    model: str
    account: str


class Lease:
    """One limiter's lease: what it was told last, and what it could not tell yet."""

    def __init__(self, key: LimitKey, limiter: SharedLimiter) -> None:
        self.key = key
        self._limiter = limiter
        self._untold: Report | None = None
        self._share: Share | None = None
        self._closed_until = 0.0
        self._weakening: asyncio.TimerHandle | None = None
        self._halvings = 0

    def report(self) -> Report:
        """What is to be told now, with what did not arrive before.

        Rates and a closure are in it only where the limiter has them from the endpoint itself: not from a share, from
        long ago, or because the lease has run out.
        """
        report = _told_together(self._untold, self._limiter.report())
        self._untold = report
        if not report.accepted and not report.refused:
            report = replace(report, known_requests_per_minute=None, known_tokens_per_minute=None)
        if self._halvings:
            report = replace(report, requests_per_minute=None, tokens_per_minute=None)
        if monotonic() + report.closed_for_s <= self._closed_until + _SAME_CLOSURE_S:
            report = replace(report, closed_for_s=0.0)
        return report

    def hear(self, share: Share, asked_at: float) -> None:
        """Take the share that was asked for at this moment, of `time.monotonic()`."""
        self._untold = None
        if self._halvings:
            _log.info("the limit of %s at %s is shared again", self.key.model, self.key.endpoint)
        self._halvings = 0
        if share.closed_for_s > 0:
            self._closed_until = monotonic() + share.closed_for_s
        self._share = replace(share, holds_until=asked_at + HOLDS_S)
        self._limiter.allot(self._share)
        self._weaken_at(asked_at + HOLDS_S)

    def stop(self) -> None:
        """Let the share stand as it is."""
        if self._weakening is not None:
            self._weakening.cancel()

    def _weaken_at(self, moment: float) -> None:
        self.stop()
        delay = moment - monotonic()
        self._weakening = asyncio.get_running_loop().call_later(delay, self._weaken, moment)

    def _weaken(self, due: float) -> None:
        """Others may have been given the share by now: go on with half of it, and half of that a lease later.

        A process that was frozen comes by here late, and is left with as little as if it had been awake.
        """
        assert self._share is not None  # noqa: S101 - there is no timer before the first share
        if not self._halvings:
            _log.warning(
                "the database does not say how much of the limit of %s at %s is ours: we go on with less and less of "
                "our last share until it does; look whether it runs and can be reached",
                self.key.model,
                self.key.endpoint,
            )
        now = monotonic()
        missed = int((now - due) / HOLDS_S)
        self._halvings = min(self._halvings + 1 + missed, _MOST_HALVINGS)
        self._limiter.allot(_weakened(self._share, 0.5**self._halvings, now + HOLDS_S))
        self._weaken_at(now + HOLDS_S)


def _told_together(untold: Report | None, report: Report) -> Report:
    if untold is None:
        return report
    return replace(
        report,
        accepted=report.accepted + untold.accepted,
        accepted_tokens=report.accepted_tokens + untold.accepted_tokens,
        refused=report.refused + untold.refused,
    )


def _weakened(share: Share, factor: float, holds_until: float) -> Share:
    """So much of a share. A closure that it told of is known already, and goes on."""
    return replace(
        share,
        portion=share.portion * factor,
        requests_per_minute=None if share.requests_per_minute is None else share.requests_per_minute * factor,
        tokens_per_minute=None if share.tokens_per_minute is None else share.tokens_per_minute * factor,
        closed_for_s=0.0,
        closed_because=None,
        holds_until=holds_until,
    )
