"""What it costs to keep to limits, to count retries and to keep a budget: our CPU per request, with nothing asked.

Admission is driven alone: orders, breaker, limiter (which reads the headers of every answer), budget (whose statements
go to a real database) and the judgement of every ending, 64 at a time, against a stream that is over at once. The
estimate of a prompt's tokens is in it. The lease of shared limits is renewed meanwhile, as in a run.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from uuid import uuid4

from bench.limits.money import PRICE
from bench.limits.plan import SLATE_SIZE, Plan
from bench.limits.questions import first_questions
from pipeline.admission import Admission
from pipeline.budgets import Caps, open_budget
from pipeline.domain import AnswerRecord, RunId, Usage
from pipeline.limits.sharing import open_shared_limits_of_all
from pipeline.orders import Hands
from pipeline.prompts import Prompt
from pipeline.retrying.failures import Case
from pipeline.retrying.retry_budget import RetryBudget
from pipeline.retrying.tries import Tries
from pipeline.routes import Prices, Route, open_route
from pipeline.streaming import Endpoint
from pipeline.terms import Terms

_URL = "http://127.0.0.1:9/v1"  # nobody is asked
_CAPS = Caps(run_cost=Decimal(1_000_000), day_cost=Decimal(1_000_000), run_tokens=10**15, day_tokens=10**15)
_HEADERS = {
    "content-type": "text/event-stream",
    "x-ratelimit-limit-requests": "100000000",
    "x-ratelimit-remaining-requests": "99999999",
    "x-ratelimit-reset-requests": "1ms",
    "x-ratelimit-limit-tokens": "100000000000",
    "x-ratelimit-remaining-tokens": "99999990000",
    "x-ratelimit-reset-tokens": "6ms",
}
_WELL = Case(placed=True, spoke=True)


async def overhead_us(url: str, plan: Plan) -> float:
    """CPU microseconds of this process per request."""
    prompt = (await first_questions(url, 1, SLATE_SIZE))[0]
    async with _opened(url, plan) as (admission, route):
        retry_budget = RetryBudget(plan.in_flight)
        each = -(-plan.overhead_requests // plan.in_flight)
        await _ask_in_a_row(admission, route, prompt, retry_budget, each=10)  # what happens once
        begun = time.process_time()
        async with asyncio.TaskGroup() as streams:
            for _ in range(plan.in_flight):
                streams.create_task(_ask_in_a_row(admission, route, prompt, retry_budget, each))
        return (time.process_time() - begun) * 1e6 / (each * plan.in_flight)


@asynccontextmanager
async def _opened(url: str, plan: Plan) -> AsyncIterator[tuple[Admission, Route]]:
    run_id = RunId(uuid4())
    async with (
        open_route(_endpoint(), concurrency=plan.in_flight, patience_s=900, prices=Prices(PRICE, PRICE)) as route,
        open_shared_limits_of_all(url, {route.limit_key: route.limiter}),
        open_budget(url, run_id, "UTC", _CAPS) as budget,
    ):
        yield Admission(Hands(run_id), budget), route


async def _ask_in_a_row(
    admission: Admission, route: Route, prompt: Prompt, retry_budget: RetryBudget, each: int
) -> None:
    for _ in range(each):
        tries = Tries(3, retry_budget)
        record = AnswerRecord()
        async with admission.admitted(prompt, [route], tries.barred) as leave:
            leave.heard(200, _HEADERS)
            await asyncio.sleep(0)
            leave.answered()
            record.status, record.first_byte_s, record.whole_s = 200, 0.2, 1.0
            record.usage = Usage(tokens_in=700, tokens_out=45)
            record.cost = PRICE.cost(record.usage)
            leave.end(record, None, _WELL)
            retry_budget.earn()


def _endpoint() -> Endpoint:
    return Endpoint(
        base_url=_URL,
        api_key="bench",
        model="offline-ranker",
        temperature=0.1,
        connect_timeout_s=1,
        first_byte_timeout_s=1,
        idle_timeout_s=1,
        answer_timeout_s=1,
        terms=Terms(_URL),
        is_offline_ranker=True,
    )
