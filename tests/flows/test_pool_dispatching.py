"""What is done next about shards that others serve: judged from what is known, without a server or a database."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from flows.placement import dispatching
from flows.placement.dispatching import TAKEN_WITHIN_S, Known, Next, ShardRun, Stage, next_steps, seen, seen_again
from pipeline.domain import RunId, ShardLease, ShardState
from pipeline.errors import (
    BudgetSpentError,
    EndpointClosedError,
    EndpointFatalError,
    RecstreamError,
    RunHaltedError,
    ShardTakenOverError,
    ShutDownError,
)
from pipeline.orders import Order, StandingOrders
from pipeline.shard_ledger import ALIVE_S, Shard

RUN = RunId(uuid4())
ORDER = Order("anna@shop-1", datetime(2026, 11, 23, 3, tzinfo=UTC))
SENT = ShardRun(uuid4(), Stage.QUEUED, since=0.0)
OFFERED = Known(offers=1, attempt=1, sent=SENT)


def shard(
    number: int,
    state: ShardState = ShardState.WAITING,
    attempt: int = 0,
    *,
    alive: bool = False,
    error: str | None = None,
    taken: bool = True,
) -> Shard:
    taken_s = 1.0 if taken else None
    return Shard(RUN, number, 10, 10 * number, None, attempt, state, "m1", 1.0, taken_s, "why", error, alive)


def steps(
    shards: Sequence[Shard],
    known: Sequence[Known] | None = None,
    orders: StandingOrders | None = None,
    *,
    at_once: int = 2,
    attempts: int = 3,
    now: float = 0.0,
) -> Next:
    of_each = {it.shard: one for it, one in zip(shards, known or [Known()] * len(shards), strict=True)}
    return next_steps(shards, of_each, orders or StandingOrders(), at_once=at_once, attempts=attempts, now=now)


def offered(following: Next) -> list[int]:
    return [it.shard for it in following.offer]


def served(number: int, *, alive: bool = True) -> Shard:
    return shard(number, ShardState.SERVING, 1, alive=alive)


def broken_off(number: int, error: str = "AnswerError", *, taken: bool = True) -> Shard:
    return shard(number, ShardState.BROKEN_OFF, 1, error=error, taken=taken)


def test_no_more_shards_are_out_than_there_are_places() -> None:
    assert offered(steps([shard(0), shard(1), shard(2)])) == [0, 1]
    assert offered(steps([served(0), shard(1), shard(2)], [OFFERED, Known(), Known()])) == [1]


def test_a_shard_that_nobody_could_be_sent_keeps_its_place_and_is_sent_again() -> None:
    unsent = Known(offers=1, attempt=1)
    following = steps([shard(0, ShardState.OFFERED, 1), shard(1), shard(2)], [unsent, Known(), Known()])
    assert following.send == (ShardLease(RUN, 0, 1),)
    assert offered(following) == [1]


def test_a_shard_that_waits_for_a_worker_is_waited_for_however_long() -> None:
    following = steps([shard(0, ShardState.OFFERED, 1)], [OFFERED], now=100_000.0)
    assert following == Next()


@pytest.mark.parametrize(("after_s", "again"), [(TAKEN_WITHIN_S - 1, []), (TAKEN_WITHIN_S + 1, [0])])
def test_a_run_that_began_and_takes_nothing_is_given_up_after_a_while(after_s: float, again: list[int]) -> None:
    begun = Known(offers=1, attempt=1, sent=ShardRun(uuid4(), Stage.BEGUN, since=0.0))
    assert offered(steps([shard(0, ShardState.OFFERED, 1)], [begun], now=after_s)) == again


def test_a_run_that_ended_without_having_taken_its_shard_is_followed_by_another() -> None:
    gone = Known(offers=1, attempt=1, sent=ShardRun(uuid4(), Stage.GONE, 0.0, "Crashed, exit 137"))
    (again,) = steps([shard(0, ShardState.OFFERED, 1)], [gone]).offer
    assert again.why == "its run in Prefect ended before it had begun: Crashed, exit 137"


@pytest.mark.parametrize(("silent_for_s", "again"), [(ALIVE_S - 1, []), (ALIVE_S, [0])])
def test_who_is_seen_no_more_is_dead_after_a_while_of_our_own_clock(silent_for_s: float, again: list[int]) -> None:
    silent = served(0, alive=False)
    known = seen(OFFERED, silent, now=100.0)
    known = seen(known, silent, now=100.0 + silent_for_s)
    assert offered(steps([silent], [known], now=100.0 + silent_for_s)) == again


def test_who_is_seen_again_was_never_dead() -> None:
    known = seen(OFFERED, served(0, alive=False), now=0.0)
    known = seen(known, served(0), now=ALIVE_S - 1)
    known = seen(known, served(0, alive=False), now=ALIVE_S)
    assert offered(steps([served(0, alive=False)], [known], now=ALIVE_S + 1)) == []


@pytest.mark.parametrize(("gap_s", "again"), [(4.0, [0]), (6.0, [])])
def test_who_could_not_look_for_a_while_begins_to_count_anew(gap_s: float, again: list[int]) -> None:
    silent = served(0, alive=False)
    known = {0: replace(OFFERED, silent_since=100.0)}
    now = 100.0 + ALIVE_S + gap_s
    known = seen_again(known, {0: silent}, now, before=now - gap_s)
    assert offered(steps([silent], [known[0]], now=now)) == again


def test_a_shard_that_a_former_parent_has_out_is_waited_for_and_then_done() -> None:
    known = seen(Known(), served(0), now=0.0)
    assert steps([served(0)], [known]) == Next()
    assert steps([shard(0, ShardState.SERVED, 1)], [seen(known, shard(0, ShardState.SERVED, 1), 1.0)]).over


def test_what_a_former_parent_offered_and_nobody_took_is_offered_anew() -> None:
    stands = shard(0, ShardState.OFFERED, 1)
    assert offered(steps([stands], [seen(Known(), stands, now=0.0)])) == [0]


def test_a_shard_that_was_served_before_this_parent_came_is_wanted_for_those_who_are_left() -> None:
    stands = shard(0, ShardState.SERVED, 1)
    assert offered(steps([stands], [seen(Known(), stands, now=0.0)])) == [0]


def test_a_shard_that_broke_off_is_offered_until_its_attempts_are_used_up() -> None:
    once = Known(offers=1, attempt=1, sent=SENT)
    assert [(it.shard, it.why) for it in steps([broken_off(0)], [once], attempts=2).offer] == [(0, "why")]
    twice = Known(offers=2, attempt=1, sent=SENT)
    following = steps([broken_off(0)], [twice], attempts=2)
    assert [(it.shard, it.why) for it in following.given_up] == [(0, "why")]
    assert following.over


def test_workers_that_are_stopped_in_order_use_up_no_attempt_of_a_shard() -> None:
    known = Known(offers=1, attempt=1, sent=SENT)
    for attempt in range(2, 6):
        stopped = replace(broken_off(0, ShutDownError.__name__), attempt=attempt - 1)
        assert offered(steps([stopped], [known], attempts=1)) == [0]
        known = dispatching.offered(known, stopped, attempt)
    failed = replace(broken_off(0), attempt=5)
    assert [it.shard for it in steps([failed], [known], attempts=1).given_up] == [0]


def test_one_shard_that_is_given_up_leaves_the_others_their_turn() -> None:
    used_up = Known(offers=3, attempt=1, sent=SENT)
    following = steps([broken_off(0), shard(1)], [used_up, Known()], at_once=1)
    assert offered(following) == [1]
    assert not following.over


def test_all_shards_served_are_the_end() -> None:
    done = shard(0, ShardState.SERVED, 1)
    assert steps([done], [OFFERED]).over
    assert steps([done], [OFFERED], StandingOrders(drain=ORDER)).over
    assert steps([]).over


@pytest.mark.parametrize("kind", [EndpointFatalError, EndpointClosedError])
def test_what_no_customer_can_be_served_with_ends_the_run_at_once(kind: type[RecstreamError]) -> None:
    with pytest.raises(kind, match="why"):
        steps([broken_off(0, kind.__name__), served(1)], [OFFERED, OFFERED])


def test_what_kept_a_worker_from_beginning_may_be_his_own_and_another_is_asked() -> None:
    stands = broken_off(0, "EndpointFatalError", taken=False)
    assert offered(steps([stands], [OFFERED])) == [0]


def test_a_budget_that_is_spent_ends_the_run_once_nobody_serves_any_more() -> None:
    spent = broken_off(0, "BudgetSpentError")
    known = [OFFERED, OFFERED, Known()]
    assert steps([spent, served(1), shard(2)], known) == Next()
    with pytest.raises(BudgetSpentError, match="why"):
        steps([spent, shard(1, ShardState.SERVED, 1), shard(2)], known)


def test_a_drained_run_sends_nothing_more_and_waits_for_who_still_serves() -> None:
    drained = StandingOrders(drain=ORDER)
    assert steps([served(0), shard(1)], [OFFERED, Known()], drained) == Next()
    with pytest.raises(RunHaltedError, match="drained by anna@shop-1") as halted:
        steps([shard(0, ShardState.OFFERED, 1), shard(1)], [OFFERED, Known()], drained)
    assert halted.value.drained


def test_what_is_given_up_while_a_drained_run_waits_is_told() -> None:
    used_up = Known(offers=3, attempt=1, sent=SENT)
    following = steps([served(0), broken_off(1)], [OFFERED, used_up], StandingOrders(drain=ORDER))
    assert [it.shard for it in following.given_up] == [1]
    assert not following.over


def test_a_cancelled_run_ends_at_once() -> None:
    with pytest.raises(RunHaltedError, match="cancelled by anna@shop-1"):
        steps([served(0)], [OFFERED], StandingOrders(cancel=ORDER))


def test_a_paused_run_offers_nothing_and_ends_nothing() -> None:
    following = steps([served(0), shard(1)], [OFFERED, Known()], StandingOrders(pause=ORDER))
    assert following == Next()


def test_a_parent_whose_shard_was_offered_by_another_answers_for_it_no_more() -> None:
    with pytest.raises(ShardTakenOverError, match="offered by another"):
        steps([shard(0, ShardState.OFFERED, 2)], [OFFERED])
