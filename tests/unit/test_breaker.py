"""The breaker of one endpoint: its circuit by a clock that is given, and its waiting in a real event loop."""

import asyncio
import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import (
    AnswerEmptyError,
    AnswerError,
    EndpointClosedError,
    EndpointFatalError,
    EndpointRefusedError,
    EndpointUnreachableError,
    PromptRefusedError,
    RateLimitedError,
)
from pipeline.retrying.breaker import Breaker, Pass
from pipeline.retrying.circuit import FAILURES_IN_A_ROW, LONGEST_PAUSE_S, Circuit

GONE = EndpointUnreachableError("no answer")
BOUND_S = 20.0


def broken(circuit: Circuit, now: float = 0.0) -> Circuit:
    """The circuit after a run of failures."""
    for _ in range(FAILURES_IN_A_ROW):
        probe = circuit.enter()
        circuit.note_failure(now, 0.0, probe)
        circuit.leave(probe)
    return circuit


def failed_probe(circuit: Circuit, now: float, draw: float = 0.0) -> float:
    """How long the pause is after a probe that failed."""
    probe = circuit.enter()
    circuit.note_failure(now, draw, probe)
    circuit.leave(probe)
    return circuit.wait_s(now)


def test_a_run_of_failures_opens_it() -> None:
    circuit = Circuit()
    for _ in range(4):
        circuit.note_failure(0.0, 0.0, 0)
        assert circuit.wait_s(0.0) == 0
    circuit.note_failure(0.0, 0.0, 0)
    assert circuit.is_open
    assert circuit.wait_s(0.0) == 0.25


def test_one_answer_among_the_failures_keeps_it_closed() -> None:
    circuit = Circuit()
    for _ in range(3):
        for _ in range(4):
            circuit.note_failure(0.0, 0.0, 0)
        assert not circuit.is_open
        circuit.note_answer()


def test_one_probe_at_a_time_is_let_through() -> None:
    circuit = broken(Circuit())
    assert circuit.wait_s(0.25) == 0
    assert circuit.enter() == 1
    assert circuit.wait_s(1000.0) == math.inf


def test_pauses_between_probes_grow_to_half_a_minute_and_are_never_the_same() -> None:
    circuit, now, pauses = broken(Circuit()), 0.0, []
    for number in range(12):
        now += circuit.wait_s(now)
        pauses.append(failed_probe(circuit, now, draw=number / 12))
    assert pauses == sorted(pauses)
    assert len(set(pauses)) == len(pauses)
    assert 15 <= pauses[-1] <= 30


def test_a_probe_that_was_left_makes_room_for_another() -> None:
    circuit = broken(Circuit())
    circuit.leave(circuit.enter())
    assert circuit.wait_s(0.25) == 0


def test_a_stream_that_failed_before_the_probe_came_back_does_not_end_the_probe() -> None:
    circuit = Circuit()
    circuit.enter()  # the stream
    broken(circuit)
    circuit.enter()
    circuit.note_failure(0.3, 0.0, 0)
    circuit.leave(0)
    assert circuit.wait_s(100.0) == math.inf


def test_after_an_outage_more_may_ask_with_each_answer() -> None:
    circuit = Circuit()
    for _ in range(64):
        circuit.enter()
    for _ in range(64):
        circuit.leave(0)
    broken(circuit)
    probe = circuit.enter()
    circuit.note_answer()
    circuit.leave(probe)
    widths = []
    for _ in range(6):
        entered = 0
        while circuit.wait_s(1.0) == 0 and entered < 200:
            circuit.enter()
            entered += 1
        widths.append(entered)
        for _ in range(entered):
            circuit.note_answer()
            circuit.leave(0)
    assert widths == [3, 6, 12, 24, 48, 200], "from 64 on, which it bore before the outage, nothing holds anybody back"


def test_an_outage_counts_from_the_first_who_was_not_answered_to_the_last() -> None:
    circuit = broken(Circuit(), now=100.0)
    assert circuit.outage_s == 0
    failed_probe(circuit, 160.0)
    assert circuit.outage_s == 60
    circuit.enter()
    circuit.note_answer()
    assert circuit.outage_s == 0


@pytest.mark.parametrize(("asked_at", "outage_s"), [(99.0, 1000.0), (130.0, 1000.0), (999.0, 0.0)])
def test_a_time_in_which_nobody_asks_is_no_part_of_an_outage(asked_at: float, outage_s: float) -> None:
    """Whoever asked before the last one failed, or soon after, has waited ever since; a paused run asks nobody."""
    circuit = broken(Circuit(), now=0.0)
    circuit.note_silence(100.0, asked_at=20.0)
    circuit.note_failure(1000.0, 0.0, 0, asked_at=asked_at)
    assert circuit.outage_s == outage_s
    circuit.note_silence(1060.0, asked_at=1030.0)
    assert circuit.outage_s == outage_s + 60


@given(st.lists(st.sampled_from(["enter", "answer", "life", "fail", "leave"]), max_size=80), st.randoms())
def test_it_never_shuts_itself_up_for_good(deeds: Iterable[str], chance: random.Random) -> None:
    circuit, now = Circuit(), 0.0
    inside: list[int] = []
    for deed in deeds:
        now += chance.random()
        if deed == "enter" and circuit.wait_s(now) == 0:
            inside.append(circuit.enter())
        elif deed != "enter" and inside:
            probe = inside.pop(chance.randrange(len(inside)))
            if deed == "answer":
                circuit.note_answer()
            elif deed == "life":
                circuit.note_life()
            elif deed == "fail":
                circuit.note_failure(now, chance.random(), probe)
            circuit.leave(probe)
        assert bool(inside) or circuit.wait_s(now) <= LONGEST_PAUSE_S


def breaker(patience_s: float = 900.0) -> Breaker:
    return Breaker("http://x/v1", patience_s, draw=lambda: 0.0)


async def broken_by(problem: AnswerError, patience_s: float = 900.0) -> Breaker:
    opened = breaker(patience_s)
    for _ in range(FAILURES_IN_A_ROW):
        (await opened.admit()).end(problem)
    return opened


async def admitted(of: Breaker) -> Pass:
    async with asyncio.timeout(BOUND_S):
        return await of.admit()


@pytest.mark.parametrize(
    "problem",
    [
        PromptRefusedError("x", status=400),
        RateLimitedError("x", status=429),
        EndpointFatalError("x", status=401),
        AnswerEmptyError("x"),
        None,
    ],
)
async def test_what_is_not_the_endpoints_own_failure_never_opens_it(problem: AnswerError | None) -> None:
    held = breaker()
    for _ in range(3 * FAILURES_IN_A_ROW):
        (await held.admit()).end(problem)
    assert not held.is_down


@pytest.mark.parametrize(
    "problem", [GONE, EndpointRefusedError("x", status=500), EndpointRefusedError("x", in_band=True)]
)
async def test_failures_of_the_endpoints_own_open_it(problem: AnswerError) -> None:
    opened = await broken_by(problem)
    assert opened.is_down
    assert not opened.is_ready


async def test_who_waits_comes_through_in_the_order_of_coming() -> None:
    opened = await broken_by(GONE)
    order = []

    async def ask(number: int) -> None:
        leave = await admitted(opened)
        order.append(number)
        leave.answered()
        leave.end(None)

    async with asyncio.TaskGroup() as asking:
        for number in range(40):
            asking.create_task(ask(number))
    assert order == list(range(40))
    assert not opened.is_down


async def test_a_failed_probe_lets_the_next_one_try() -> None:
    opened = await broken_by(GONE)
    first, second = asyncio.create_task(admitted(opened)), asyncio.create_task(admitted(opened))
    (await first).end(GONE)
    assert not second.done()
    (await second).answered()
    assert not opened.is_down


async def test_who_is_cancelled_while_waiting_takes_nobodys_place() -> None:
    opened = await broken_by(GONE)
    gone, stays = asyncio.create_task(admitted(opened)), asyncio.create_task(admitted(opened))
    await asyncio.sleep(0)
    gone.cancel()
    (await stays).answered()
    assert not opened.is_down


async def test_who_is_cancelled_in_the_moment_of_being_let_through_gives_his_place_back() -> None:
    opened = await broken_by(GONE)
    probe = await admitted(opened)
    waiting = asyncio.create_task(opened.admit())
    await asyncio.sleep(0)
    probe.leave()  # lets the next one through
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (await admitted(opened)).answered()
    assert not opened.is_down


async def test_an_attempt_that_was_left_says_nothing_of_the_endpoint() -> None:
    opened = await broken_by(GONE)
    (await admitted(opened)).leave()
    assert opened.is_down
    (await admitted(opened)).end(None)
    assert not opened.is_down


async def test_nobody_waits_for_an_endpoint_that_stayed_away_too_long() -> None:
    opened = await broken_by(GONE, patience_s=0.2)
    first, second = asyncio.create_task(admitted(opened)), asyncio.create_task(admitted(opened))
    (await first).end(GONE)
    with pytest.raises(EndpointClosedError, match=r"http://x/v1 has answered nobody for .*: no answer; .*resume"):
        await second
    with pytest.raises(EndpointClosedError):
        await opened.admit()
    assert opened.is_out


async def test_an_endpoint_that_stayed_away_is_still_probed_for_who_can_go_elsewhere() -> None:
    opened = await broken_by(GONE, patience_s=0.2)
    (await admitted(opened)).end(GONE)
    async with asyncio.timeout(BOUND_S):
        while not opened.is_ready:  # noqa: ASYNC110 - who can go elsewhere is told by no event
            await asyncio.sleep(0.01)
    (await opened.admit()).answered()
    (await admitted(opened)).end(None)
    assert not opened.is_out


async def test_limits_alone_do_not_open_it_but_a_limit_that_lets_nobody_through_is_an_outage() -> None:
    held = breaker(patience_s=0.01)
    limited = RateLimitedError("limit of 0", status=429)
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(EndpointClosedError, match="limit of 0"):
            while True:
                (await held.admit()).end(limited)
                await asyncio.sleep(0.001)


async def test_an_endpoint_that_was_taken_out_lets_nobody_through() -> None:
    held = breaker()
    held.take_out(EndpointFatalError("wrong key", status=401))
    assert held.is_out
    assert not held.is_ready
    with pytest.raises(EndpointClosedError, match="wrong key"):
        await held.admit()


async def test_who_waits_for_an_endpoint_that_is_taken_out_is_told() -> None:
    opened = await broken_by(GONE)
    probe = await admitted(opened)
    waiting = asyncio.create_task(opened.admit())
    await asyncio.sleep(0)
    opened.take_out(EndpointFatalError("model gone", status=404))
    with pytest.raises(EndpointClosedError, match="model gone"):
        await waiting
    probe.leave()


async def test_between_two_failures_a_paused_run_is_no_outage() -> None:
    now = 0.0
    held = Breaker("http://x/v1", 900.0, draw=lambda: 0.0, clock=lambda: now)
    (await held.admit()).end(GONE)
    leave = await held.admit()
    now = 901.0
    leave.asks()
    leave.end(GONE)
    assert not held.is_out
    leave = await held.admit()
    now = 1802.0
    leave.end(GONE)
    assert held.is_out


async def test_a_pass_ends_once() -> None:
    held = breaker()
    leave = await held.admit()
    for _ in range(2 * FAILURES_IN_A_ROW):
        leave.end(GONE)
    assert not held.is_down
