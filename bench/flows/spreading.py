"""Nights whose shards are served by the workers of a pool: how much faster two are, and how fast all of them stop."""

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from math import nan

from bench.flows.grounds import Figures, Grounds
from bench.flows.ledger import Ledger, open_ledger
from bench.flows.nights import night_s
from bench.flows.plan import IN_FLIGHT_A_WORKER, POOL_SHARDS
from bench.flows.pool import Pool, deployed
from bench.flows.prefect import free_port
from bench.flows.settings import environment_of
from bench.flows.shop import another_database, fill_alike
from bench.flows.starting import on_demand_figures
from bench.flows.waiting import until
from bench.limits.running import limited_server
from bench.limits.server_log import ServedRequest, read_server_log
from bench.limits.workers import output_of
from pipeline.offline_ranker.limits import LimitPlan

_BEGUN_WITHIN_S = 120.0
_ENDED_WITHIN_S = 120.0
_ENDS = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
_OVER = ("cancelled", "failed", "finished")


def last_closed_s(requests: Sequence[ServedRequest], at: float, until_at: float) -> float:
    """Seconds from then until the last stream was closed of those that were open, or were opened before `until_at`."""
    ended = [it.ended_at for it in requests if it.received_at < until_at and it.ended_at > at]
    return max(ended) - at if ended else nan


async def pool_figures(grounds: Grounds) -> Figures:
    """What needs a pool, on one pool: its workers start once.

    Raises:
        UnfinishedRunError: a night did not come to its end, or does not stop.
    """
    url, folder, port = another_database(grounds.server, "pool"), grounds.place("pool"), free_port()
    fill_alike(url, POOL_SHARDS * grounds.plan.pool_shard)
    settings = {"RECSTREAM_SHARD_SIZE": grounds.plan.pool_shard, "RECSTREAM_CONCURRENCY": IN_FLIGHT_A_WORKER}
    ours = environment_of(url, f"http://127.0.0.1:{port}/v1", folder, settings)
    pool = await deployed("recstream", grounds.prefect, folder, ours)
    async with AsyncExitStack() as workers, open_ledger(url) as ledger:
        await workers.enter_async_context(pool.ready_worker())
        figures = await _speedup(grounds, pool, port, workers)
        await workers.enter_async_context(pool.ready_worker())
        figures |= await _cancel_figures(grounds, pool, port, ledger)
        figures |= await on_demand_figures(pool, port, ledger, grounds.plan.recommended)
    return figures


async def _speedup(grounds: Grounds, pool: Pool, port: int, workers: AsyncExitStack) -> Figures:
    """One worker's seconds, and those of two; the second stays."""
    customers = POOL_SHARDS * grounds.plan.pool_shard
    async with limited_server(grounds.place("ranker"), LimitPlan(), grounds.plan.pool_rate, port):
        one = await night_s("flow", customers, pool.folder, pool.environment)
        await workers.enter_async_context(pool.ready_worker())
        two = await night_s("flow", customers, pool.folder, pool.environment)
    print(f"{customers} customers in {POOL_SHARDS} shards: {one:.1f} s by one worker, {two:.1f} s by two", flush=True)
    return {"two_workers_speedup": one / two}


async def _cancel_figures(grounds: Grounds, pool: Pool, port: int, ledger: Ledger) -> Figures:
    """Two nights, parent and shards in workers: one cancelled by command, one in Prefect."""
    async with limited_server(grounds.place("ranker"), LimitPlan(), grounds.plan.cancel_rate, port) as server:
        by_command = await _cancelled(pool, ledger, by_command=True)
        second_at = time.time()
        in_prefect = await _cancelled(pool, ledger, by_command=False)
        end_at = time.time()
    requests = read_server_log(server.log).requests
    command_s = last_closed_s(requests, by_command, second_at)
    prefect_s = last_closed_s(requests, in_prefect, end_at)
    print(f"cancelled: {command_s:.1f} s by recstream cancel, {prefect_s:.1f} s in Prefect", flush=True)
    return {"cancel_s": max(command_s, prefect_s), "cancel_command_s": command_s, "cancel_prefect_s": prefect_s}


async def _cancelled(pool: Pool, ledger: Ledger, *, by_command: bool) -> float:
    """A night that is cancelled while two workers serve it; when that was, in seconds since 1970."""
    former = await ledger.run()
    flow_run = await pool.prefect.api.begin("nightly/nightly", {"refresh": True})

    async def is_served_by_two() -> bool:
        run = await ledger.run()
        if run is None or run == former:
            return False
        return sum(it.state == "serving" and it.rows > 0 for it in await ledger.shards(run)) >= 2

    async def is_over() -> bool:
        run = await ledger.run()
        has_ended = run is not None and await ledger.state(run) in _OVER
        return has_ended and await pool.prefect.api.state(flow_run) in _ENDS

    await until(is_served_by_two, "the night is not served by two workers", _BEGUN_WITHIN_S)
    at = time.time()
    if by_command:
        await output_of("flows.cli", ("cancel",), pool.folder, pool.environment)
    else:
        await pool.prefect.api.cancel(flow_run)
    await until(is_over, "the night that was cancelled does not end", _ENDED_WITHIN_S)
    return at
