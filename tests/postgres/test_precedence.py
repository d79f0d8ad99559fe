"""Who waits for one slate, beside nights that use the whole limit up: processes that share it through Postgres."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import AnswerRecord, Usage
from pipeline.limits.limiter import Limiter
from pipeline.limits.sharing import LimitKey, open_shared_limits
from tests.fixtures.shop import comes_to

KEY = LimitKey("http://provider/v1", "a-model", "account")
GOOD = AnswerRecord(status=200, usage=Usage(tokens_in=1_000, tokens_out=60), first_byte_s=0.1, whole_s=0.6)
LIMIT = {"x-ratelimit-limit-requests": "1200", "x-ratelimit-reset-requests": "1s"}
PATIENCE_S = 60.0


async def ask(limiter: Limiter, sent: list[str], who: str) -> None:
    permit = await limiter.admit(1_000)
    sent.append(who)
    permit.heard(200, LIMIT)
    permit.end(GOOD, None)


@asynccontextmanager
async def night(url: str, sent: list[str]) -> AsyncIterator[None]:
    """A process of a night, with always more to ask for than it may."""
    limiter = Limiter(64)

    async def go_on() -> None:
        while True:
            await ask(limiter, sent, "night")

    async with open_shared_limits(url, KEY, limiter):
        asking = [asyncio.create_task(go_on()) for _ in range(64)]
        try:
            yield
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def until(sent: list[str], number: int) -> None:
    """Wait until so many requests were sent."""
    while len(sent) < number:  # noqa: ASYNC110 - the list is all that there is to look at
        await asyncio.sleep(0.01)


async def test_no_request_of_a_night_that_uses_the_limit_up_is_sent_before_the_first_that_somebody_waits_for(
    database_url: str, engine: AsyncEngine
) -> None:
    sent: list[str] = []
    waiter = Limiter(64, first_at_once=True)
    async with asyncio.timeout(PATIENCE_S), night(database_url, sent), night(database_url, sent):
        await comes_to(engine, "SELECT count(*) FROM limit_leases WHERE held BETWEEN 0.49 AND 0.51", 2)
        async with open_shared_limits(database_url, KEY, waiter, precedence=True):
            assert waiter.report().demand == 0
            before = len(sent)
            await ask(waiter, sent, "waiter")
    assert sent[before] == "waiter"


async def test_a_list_that_somebody_waits_for_has_half_of_the_requests_beside_many_processes_of_a_night(
    database_url: str,
) -> None:
    sent: list[str] = []
    waiter = Limiter(64, first_at_once=True)
    nights = [night(database_url, sent) for _ in range(4)]
    async with asyncio.timeout(PATIENCE_S), nights[0], nights[1], nights[2], nights[3]:
        await until(sent, 60)
        async with open_shared_limits(database_url, KEY, waiter, precedence=True):
            await asyncio.gather(*(ask(waiter, sent, "waiter") for _ in range(100)))
            hundredth = len(sent)
    last = sent[:hundredth][-60:]
    share = last.count("waiter") / len(last)
    assert 0.35 < share < 0.65, "a fair share of five would be a fifth"
