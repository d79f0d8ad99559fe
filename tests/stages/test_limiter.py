"""The line of one process: first come, first served; nobody is forgotten, and nobody waits for what never comes."""

import asyncio
import random
from collections.abc import Mapping
from time import monotonic

import pytest

from pipeline.domain import AnswerRecord, Usage
from pipeline.errors import EndpointClosedError, RateLimitedError
from pipeline.limits.limiter import Limiter, Permit
from pipeline.limits.shares import Share

GOOD = AnswerRecord(status=200, usage=Usage(tokens_in=1_000, tokens_out=60), first_byte_s=0.1, whole_s=0.6)
SOON_S = 20.0


async def test_who_comes_first_is_served_first() -> None:
    limiter = Limiter(1)
    served: list[int] = []

    async def ask(number: int) -> None:
        permit = await limiter.admit(100)
        served.append(number)
        await asyncio.sleep(0)
        permit.end(GOOD, None)

    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as customers:
        for number in range(50):
            customers.create_task(ask(number))
    assert served == list(range(50))


async def test_who_is_cancelled_while_he_waits_gives_his_place_up() -> None:
    limiter = Limiter(1)
    first = await limiter.admit(100)
    waiting = [asyncio.create_task(limiter.admit(100)) for _ in range(3)]
    await asyncio.sleep(0)
    assert (limiter.report().demand, limiter.report().in_flight) == (4, 1)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert limiter.report().demand == 3
    first.end(GOOD, None)
    async with asyncio.timeout(SOON_S):
        (await waiting[1]).end(GOOD, None)
        (await waiting[2]).end(GOOD, None)
    assert limiter.report().in_flight == 0


async def test_a_turn_that_comes_in_the_moment_of_a_cancellation_goes_to_the_next() -> None:
    limiter = Limiter(1)
    first = await limiter.admit(100)
    cancelled, following = (asyncio.create_task(limiter.admit(100)) for _ in range(2))
    await asyncio.sleep(0)
    first.end(GOOD, None)
    cancelled.cancel()
    async with asyncio.timeout(SOON_S):
        (await following).end(GOOD, None)
    assert cancelled.cancelled()
    report = limiter.report()
    assert (report.in_flight, report.demand) == (0, 0)


async def test_an_end_that_is_said_twice_counts_once() -> None:
    limiter = Limiter(4)
    permit = await limiter.admit(100)
    permit.end(GOOD, None)
    permit.end(GOOD, None)
    assert limiter.report().in_flight == 0


async def test_thousands_wait_and_all_get_through() -> None:
    limiter = Limiter(64)

    async def ask() -> None:
        permit = await limiter.admit(1_060)
        await asyncio.sleep(0)
        permit.heard(200, _headers(6_000_000, 90_000))
        permit.end(GOOD, None)

    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as customers:
        for _ in range(5_000):
            customers.create_task(ask())
    report = limiter.report()
    assert (report.accepted, report.refused, report.in_flight, report.demand) == (5_000, 0, 0, 0)


async def test_a_refusal_closes_for_all_and_they_get_through_afterwards() -> None:
    limiter = Limiter(4, chance=random.Random(1))
    permits = [await limiter.admit(100) for _ in range(4)]
    _refuse(permits[0], 0.05)
    for permit in permits[1:]:
        permit.heard(200, {})
        permit.end(GOOD, None)
    assert limiter.report().closed_for_s > 0
    async with asyncio.timeout(SOON_S):
        (await limiter.admit(100)).end(GOOD, None)
    assert limiter.report().closed_for_s == 0


async def test_longer_than_patience_sends_away_who_waits_and_who_comes() -> None:
    limiter = Limiter(1, name="m at http://h", patience_s=60)
    permit = await limiter.admit(100)
    waiting = asyncio.create_task(limiter.admit(100))
    await asyncio.sleep(0)
    _refuse(permit, 86_400)
    with pytest.raises(EndpointClosedError, match=r"m at http://h .* 86\d{3} s .*429.* at most 60 s.*recstream resume"):
        await waiting
    with pytest.raises(EndpointClosedError):
        await limiter.admit(100)
    assert limiter.report().demand == 0


async def test_a_limit_of_nothing_in_a_refusal_sends_away() -> None:
    limiter = Limiter(1)
    permit = await limiter.admit(100)
    permit.heard(429, _headers(0, 0))
    permit.end(AnswerRecord(status=429), RateLimitedError("no", status=429))
    with pytest.raises(EndpointClosedError, match="0 requests a minute"):
        await limiter.admit(100)


async def test_a_limit_of_nothing_in_a_good_answer_is_not_believed() -> None:
    limiter = Limiter(1)
    permit = await limiter.admit(100)
    permit.heard(200, _headers(0, 0))
    permit.end(GOOD, None)
    async with asyncio.timeout(SOON_S):
        (await limiter.admit(100)).end(GOOD, None)


async def test_a_share_bounds_the_rate_and_nothing_waits_for_the_next() -> None:
    limiter = Limiter(4)
    limiter.allot(_share(0.0))
    waiting = asyncio.create_task(limiter.admit(100))
    await asyncio.sleep(0)
    assert not waiting.done()
    limiter.allot(_share(60_000.0))
    async with asyncio.timeout(SOON_S):
        (await waiting).end(GOOD, None)


async def test_a_share_that_has_run_out_is_not_used() -> None:
    limiter = Limiter(4)
    limiter.allot(Share(requests_per_minute=60_000.0, requests_from="headers", holds_until=monotonic() - 1))
    waiting = asyncio.create_task(limiter.admit(100))
    await asyncio.sleep(0)
    assert not waiting.done()
    limiter.allot(Share(requests_per_minute=60_000.0, requests_from="headers", holds_until=monotonic() + 60))
    async with asyncio.timeout(SOON_S):
        (await waiting).end(GOOD, None)


async def test_what_others_were_told_closes_here_too() -> None:
    limiter = Limiter(4, patience_s=60)
    limiter.allot(Share(closed_for_s=3_600, closed_because="it wishes so"))
    with pytest.raises(EndpointClosedError, match="it wishes so"):
        await limiter.admit(100)


async def test_an_operators_limit_holds_back_and_lets_go() -> None:
    limiter = Limiter(4)
    limiter.bound(0)
    waiting = asyncio.create_task(limiter.admit(100))
    await asyncio.sleep(0)
    assert not waiting.done()
    limiter.bound(None)
    async with asyncio.timeout(SOON_S):
        (await waiting).end(GOOD, None)


async def test_a_report_says_what_the_endpoint_said_and_what_was_seen_since() -> None:
    limiter = Limiter(4)
    permit = await limiter.admit(1_060)
    permit.heard(200, {**_headers(600, 599), "x-ratelimit-limit-tokens": "150000"})
    report = limiter.report()
    assert (report.known_requests_per_minute, report.known_tokens_per_minute) == (600, 150_000)
    assert (report.accepted, report.accepted_tokens, report.in_flight) == (1, 1_060, 1)
    permit.end(GOOD, None)
    assert (limiter.report().accepted, limiter.report().in_flight) == (0, 0)


async def test_a_refusal_inside_the_stream_counts_as_one() -> None:
    limiter = Limiter(4)
    permit = await limiter.admit(100)
    permit.heard(200, {})
    permit.end(AnswerRecord(), RateLimitedError("slow down", in_band=True))
    report = limiter.report()
    assert (report.accepted, report.refused) == (0, 1)


async def test_what_was_reported_and_refused_afterwards_is_made_up_for_and_never_less_than_nothing() -> None:
    limiter = Limiter(4)
    permits = [await limiter.admit(100) for _ in range(2)]
    permits[0].heard(200, {})
    assert limiter.report().accepted == 1
    permits[0].end(AnswerRecord(), RateLimitedError("slow down", in_band=True))
    assert _accepted(limiter) == (0, 0)
    permits[1].heard(200, {})
    permits[1].end(GOOD, None)
    assert _accepted(limiter) == (0, 0), "the one that was told too many"
    (await limiter.admit(100)).end(GOOD, None)
    assert limiter.report().accepted == 1


def _accepted(limiter: Limiter) -> tuple[int, int]:
    report = limiter.report()
    return report.accepted, report.accepted_tokens


def _refuse(permit: Permit, retry_after_s: float) -> None:
    permit.heard(429, {"retry-after": str(retry_after_s)})
    permit.end(AnswerRecord(status=429), RateLimitedError("no", status=429, retry_after=retry_after_s))


def _headers(limit: int, remaining: int) -> Mapping[str, str]:
    return {"x-ratelimit-limit-requests": str(limit), "x-ratelimit-remaining-requests": str(remaining)}


def _share(requests_per_minute: float) -> Share:
    return Share(requests_per_minute=requests_per_minute, requests_from="headers")


async def test_the_first_request_that_somebody_waits_for_is_sent_before_there_is_a_share_and_the_second_is_not() -> (
    None
):
    nothing_yet = Share(processes=9, portion=0.0, requests_per_minute=0.0, endpoint_requests_per_minute=600.0)
    night, waiter = Limiter(4), Limiter(4, first_at_once=True)
    for limiter in (night, waiter):
        limiter.allot(nothing_yet)

    async with asyncio.timeout(SOON_S):
        (await waiter.admit(100)).end(GOOD, None)
    waiting = [asyncio.create_task(limiter.admit(100)) for limiter in (night, waiter)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_endpoint_that_asks_to_be_left_alone_is_left_alone_by_who_waits_too() -> None:
    limiter = Limiter(4, first_at_once=True, patience_s=1)
    limiter.allot(Share(closed_for_s=60.0, closed_because="another was told so"))
    with pytest.raises(EndpointClosedError):
        await limiter.admit(100)
