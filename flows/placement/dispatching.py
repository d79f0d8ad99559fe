"""What to do next about the shards of a night that others serve: a judgement of what is known, without any I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from uuid import UUID

from pipeline.domain import ShardLease, ShardState
from pipeline.errors import (
    BudgetSpentError,
    CalledOffError,
    EndpointClosedError,
    EndpointFatalError,
    RecstreamError,
    RunHaltedError,
    ShardTakenOverError,
    ShutDownError,
)
from pipeline.orders import StandingOrders
from pipeline.shard_ledger import ALIVE_S, Shard

TAKEN_WITHIN_S: Final = 90.0
"""A run that Prefect has begun takes its shard within so long, or has died on the way."""
_GAP_S: Final = 5.0  # who could not look for so long knows nothing of how long others were silent
_ENDS_THE_RUN: Final = {kind.__name__: kind for kind in (BudgetSpentError, EndpointFatalError, EndpointClosedError)}


class Stage(StrEnum):
    """Of a run in Prefect, before its shard is taken. GONE: it ended without, or Prefect knows nothing of it.

    CALLED_OFF: somebody has cancelled it there.
    """

    QUEUED = "queued"
    BEGUN = "begun"
    GONE = "gone"
    CALLED_OFF = "called_off"


@dataclass(frozen=True, slots=True)
class ShardRun:
    """The run in Prefect of one attempt, as it was seen last. Times are of this process's own clock, in seconds."""

    flow_run_id: UUID
    stage: Stage
    since: float  # when it was first seen to be in this stage
    told: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What the parent knows of a shard beside the ledger.

    `offers` is how often it has offered the shard, and `excused` how many of these ended in order with their worker;
    `attempt` is the newest attempt that it answers for: its own, or that of a former parent which is still being
    served. `silent_since` is since when its process is seen no more.
    """

    offers: int = 0
    excused: int = 0
    attempt: int | None = None
    sent: ShardRun | None = None
    silent_since: float | None = None


class Fate(StrEnum):
    """WANTED: to be offered. UNSENT: offered, and no worker knows it yet. OUT: queued or served. DONE. GIVEN_UP."""

    WANTED = "wanted"
    UNSENT = "unsent"
    OUT = "out"
    DONE = "done"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Judged:
    """How one shard stands. `why` is what became of its last attempt, if that is why it is wanted or given up."""

    shard: int
    fate: Fate
    served: bool = False  # by a process that lives
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """What to do now: shards to offer, and leases to send to the pool. `over` if nothing is left to do or wait for."""

    offer: tuple[Judged, ...] = ()
    send: tuple[ShardLease, ...] = ()
    given_up: tuple[Judged, ...] = ()
    over: bool = False


def seen_again(known: Mapping[int, Known], shards: Mapping[int, Shard], now: float, before: float) -> dict[int, Known]:
    """What is known of all after another look at the ledger; the one before was at `before`."""
    if now - before > _GAP_S:
        known = {shard: replace(it, silent_since=None) for shard, it in known.items()}
    return {shard: seen(it, shards[shard], now) for shard, it in known.items()}


def seen(known: Known, shard: Shard, now: float) -> Known:
    """What is known of one shard after another look."""
    known = replace(known, attempt=shard.attempt) if known.attempt is None and _is_served(shard) else known
    if shard.state is not ShardState.SERVING or shard.alive:
        return replace(known, silent_since=None)
    return known if known.silent_since is not None else replace(known, silent_since=now)


def offered(known: Known, shard: Shard, attempt: int) -> Known:
    """What is known of it once it is offered as this attempt; `shard` is how it stood before."""
    return Known(known.offers + 1, _excused(shard, known), attempt)


def judge(shard: Shard, known: Known, attempts: int, now: float) -> Judged:
    """How the shard stands. Who is seen no more is taken for dead after `ALIVE_S` of our own clock.

    Raises:
        ShardTakenOverError: somebody else offers the run's shards.
    """
    if known.attempt is None:
        return Judged(shard.shard, Fate.WANTED)
    if shard.attempt != known.attempt:
        raise ShardTakenOverError(
            f"shard {shard.shard} of run {shard.run_id} was offered by another, who answers for the run now"
        )
    if shard.state is ShardState.SERVED:
        return Judged(shard.shard, Fate.DONE)
    why = _why_over(shard, known, now)
    if why is not None:
        again = known.offers - _excused(shard, known) < attempts and not _called_off(shard, known)
        return Judged(shard.shard, Fate.WANTED if again else Fate.GIVEN_UP, why=why)
    if shard.state is ShardState.OFFERED and known.sent is None:
        return Judged(shard.shard, Fate.UNSENT)
    return Judged(shard.shard, Fate.OUT, served=shard.state is ShardState.SERVING)


def next_steps(
    shards: Sequence[Shard],
    known: Mapping[int, Known],
    orders: StandingOrders,
    *,
    at_once: int,
    attempts: int,
    now: float,
) -> Next:
    """What to do about these shards, of which at most `at_once` are out at a time.

    Raises:
        RunHaltedError: the run is cancelled; or drained or its budget spent, and nobody serves a shard any more.
        EndpointFatalError, EndpointClosedError: a shard found out that nobody can be served.
        ShardTakenOverError: somebody else offers the run's shards.
    """
    orders.require_not_cancelled()
    judged = [judge(shard, known[shard.shard], attempts, now) for shard in shards]
    by_fate = {fate: tuple(it for it in judged if it.fate is fate) for fate in Fate}
    halt = _halted(orders, shards, known)
    if halt is not None and len(by_fate[Fate.DONE]) < len(judged):
        if any(it.served for it in judged) and isinstance(halt, RunHaltedError):
            return Next(given_up=by_fate[Fate.GIVEN_UP])
        raise halt
    free = max(at_once - len(by_fate[Fate.OUT]) - len(by_fate[Fate.UNSENT]), 0)
    return Next(
        offer=by_fate[Fate.WANTED][:free] if orders.pause is None else (),
        send=_leases(shards, by_fate[Fate.UNSENT]),
        given_up=by_fate[Fate.GIVEN_UP],
        over=not any(by_fate[fate] for fate in (Fate.WANTED, Fate.UNSENT, Fate.OUT)),
    )


def _is_served(shard: Shard) -> bool:
    """Of a shard that this parent has not offered: a former one's, and its process lives."""
    return shard.state is ShardState.SERVING and shard.alive


def _why_over(shard: Shard, known: Known, now: float) -> str | None:
    """Why nobody serves this attempt to its end; None as long as somebody may."""
    if shard.state is ShardState.OFFERED:
        return None if known.sent is None else _why_not_taken(known.sent, now)
    if shard.state is ShardState.SERVING:
        return _why_dead(shard, known.silent_since, now)
    return shard.reason or "it was taken back"


def _excused(shard: Shard, known: Known) -> int:
    """How many offers were used up by workers that were stopped in order: that says nothing against the shard."""
    stopped = shard.state is ShardState.BROKEN_OFF and shard.error == ShutDownError.__name__
    return known.excused + (1 if stopped and shard.attempt == known.attempt else 0)


def _called_off(shard: Shard, known: Known) -> bool:
    """Whether a person has cancelled this attempt in Prefect, and it alone: he wants no other."""
    if shard.state is ShardState.BROKEN_OFF:
        return shard.error == CalledOffError.__name__
    return known.sent is not None and known.sent.stage is Stage.CALLED_OFF


def _why_not_taken(run: ShardRun, now: float) -> str | None:
    if run.stage in (Stage.GONE, Stage.CALLED_OFF):
        return f"its run in Prefect ended before it had begun: {run.told}"
    if run.stage is Stage.BEGUN and now - run.since > TAKEN_WITHIN_S:
        return f"its run in Prefect was begun, but took nothing for {TAKEN_WITHIN_S:.0f} s"
    return None


def _why_dead(shard: Shard, silent_since: float | None, now: float) -> str | None:
    if silent_since is None or now - silent_since < ALIVE_S:
        return None
    return f"its process on {shard.machine} has not been seen for {ALIVE_S + now - silent_since:.0f} s"


def _halted(orders: StandingOrders, shards: Iterable[Shard], known: Mapping[int, Known]) -> RecstreamError | None:
    """What ends the run before all shards are served; None while it goes on."""
    for shard in shards:
        ours = shard.state is ShardState.BROKEN_OFF and shard.attempt == known[shard.shard].attempt
        # What kept somebody from beginning may be his own machine's: another is asked.
        if ours and shard.taken_s is not None and shard.error in _ENDS_THE_RUN:
            return _ENDS_THE_RUN[shard.error](shard.reason or shard.error)
    if orders.drain is not None:
        return RunHaltedError(f"drained {orders.drain.given()}", drained=True)
    return None


def _leases(shards: Iterable[Shard], unsent: Iterable[Judged]) -> tuple[ShardLease, ...]:
    wanted = {it.shard for it in unsent}
    return tuple(ShardLease(it.run_id, it.shard, it.attempt) for it in shards if it.shard in wanted)
