"""What `recstream plan` says of a night, beside what the night then reports.

The first plan has to estimate tokens, for nobody has asked yet; the ranker counts them by a rule of its own, which is
no model's, so its error is no model's either. The second plan knows what the first night was reported to take, as the
plan of every shop does but for its first night; half of the customers that it is for were not asked for in that night.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from psycopg import AsyncConnection

from bench.limits.money import cost, write_price_list
from bench.limits.plan import Plan
from bench.limits.running import Ours, Server, crew, environment_of, limited_server, serve
from bench.limits.server_log import ServerLog, read_server_log
from bench.limits.workers import output_of
from pipeline.database import libpq_url, open_engine
from pipeline.domain import RunId, RunState
from pipeline.errors import UnfinishedRunError
from pipeline.offline_ranker.limits import LimitPlan
from pipeline.run_states import begin_run, end_run

_REPORTED = """
    SELECT coalesce(sum(tokens_in), 0), coalesce(sum(tokens_cached), 0), coalesce(sum(tokens_out), 0),
           coalesce(sum(cost), 0)
    FROM llm_calls WHERE run_id = %s
"""


@dataclass(frozen=True, slots=True)
class Night:
    """Tokens and cost, foretold or reported."""

    tokens_in: float
    tokens_cached: float
    tokens_out: float
    cost: float

    def __str__(self) -> str:
        return (
            f"{self.tokens_in:>10,.0f} in, {self.tokens_cached:>9,.0f} of them cached, {self.tokens_out:>8,.0f} out, "
            f"cost {self.cost:.6f}"
        )


@dataclass(frozen=True, slots=True)
class Foretold:
    """Two nights, the second for twice as many customers: the plan before and the report after each.

    `log` is the server's, of both; `last_run` is the second night.
    """

    planned: tuple[Night, Night]
    reported: tuple[Night, Night]
    log: ServerLog
    last_run: str

    def report_error(self) -> float:
        """How far what both nights reported is from what the server knows that they used, in share of that."""
        cached = sum(request.cached_tokens for request in self.log.requests)
        true = float(cost(self.log.tokens_in, self.log.tokens_out, cached))
        return abs(sum(night.cost for night in self.reported) / true - 1)

    def errors(self) -> tuple[float, float]:
        """Of each night: how far the planned cost is off, in share of the reported one."""
        first, second = (
            abs(planned.cost / reported.cost - 1) for planned, reported in zip(self.planned, self.reported, strict=True)
        )
        return first, second


async def foretell(url: str, plan: Plan) -> Foretold:
    """Plan a night of the real shop, run it, and both again for more customers.

    Raises:
        UnfinishedRunError: a night did not come to its end.
    """
    with TemporaryDirectory(prefix="limits-") as name:
        prices = {"RECSTREAM_PRICE_LIST": str(write_price_list(Path(name))), "RECSTREAM_UNCHANGED_MAX_AGE_DAYS": "0"}
        ours = Ours(1, plan.in_flight, settings=prices)
        async with limited_server(Path(name), LimitPlan(prompt_cache=True), tokens_per_second=0) as server:
            numbers = plan.planned_customers // 2, plan.planned_customers
            nights = [await _night(url, server, ours, number) for number in numbers]
        (first, first_report, _), (second, second_report, last_run) = nights
        log = read_server_log(server.log)
    return Foretold((first, second), (first_report, second_report), log, last_run)


async def _night(url: str, server: Server, ours: Ours, customers: int) -> tuple[Night, Night, str]:
    planned = await _planned(url, server, ours, customers)
    async with crew(url, server, ours, customers) as (processes, last):
        served = await serve(url, server, ours, processes, last)
    if served.failed:
        raise UnfinishedRunError(f"the night that was planned broke off: {served.failed[0]}")
    async with open_engine(url, connections=1) as engine:  # a plan learns from nights that have ended
        run_id = RunId(UUID(served.run))
        await begin_run(engine, run_id)
        await end_run(engine, run_id, RunState.FINISHED)
    return planned, await _reported(url, served.run), served.run


async def _planned(url: str, server: Server, ours: Ours, customers: int) -> Night:
    words = ("plan", "--limit", str(customers), "--refresh", "--json")
    told = json.loads(await output_of("flows.cli", words, server.folder, environment_of(url, server, ours)))
    return Night(told["tokens_in"], told["tokens_cached"], told["tokens_out"], float(told["cost"]))


async def _reported(url: str, run: str) -> Night:
    async with await AsyncConnection.connect(libpq_url(url)) as connection:
        found = await connection.execute(_REPORTED, [run])
        row = await found.fetchone()
    assert row is not None
    return Night(*map(float, row))
