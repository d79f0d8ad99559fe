"""The bench of flows: to whom a sample belongs, what Prefect adds, who is served twice, when a process has grown."""

import json
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg import sql

from bench.candidates.usage import own_memory
from bench.families import all_below, parent_of
from bench.flows.grounds import Grounds
from bench.flows.growing import growth_figures, held_at
from bench.flows.judging import Kill, doubled, paid_twice, recovery_s
from bench.flows.ledger import ShardSeen, Written, open_ledger
from bench.flows.orchestration import Nights
from bench.flows.plan import QUICK, SHORT_SLATE_SIZE
from bench.flows.prefect import Prefect, free_port, profile
from bench.flows.spreading import last_closed_s
from bench.flows.stages import REST, sampled, shares, stage_of
from bench.flows.starting import first_object_s, recommend_figures
from bench.flows.targets import TARGETS
from bench.flows.waiting import until
from bench.limits.server_log import ServedRequest
from bench.limits.workers import started
from bench.targets import last_line, table
from pipeline.database import open_connection
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.errors import UnfinishedRunError

TINY = replace(QUICK, grown=40)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def second(number: float) -> datetime:
    return NOON + timedelta(seconds=number)


def request(customer: str = "c1", *, received: float = 0, ended: float = 1, how: str = "complete") -> ServedRequest:
    return ServedRequest(
        customer,
        refused=False,
        received_at=received,
        ended_at=ended,
        prompt_tokens=700,
        cached_tokens=0,
        charged_tokens=900,
        sent_tokens=20,
        objects=['{"i":3,"s":92}'],
        ended=how,
    )


def row(rank: int = 1, product: str = "p1", *, begun: float = 0, committed: float = 1) -> Written:
    return Written("c1", rank, product, shard=0, committed_at=second(committed), begun_at=second(begun))


def shard(number: int = 0, attempt: int = 2, state: str = "served", ended: float = 40) -> ShardSeen:
    return ShardSeen(number, attempt, state, offered_at=second(10), ended_at=second(ended), rows=9)


# Which stage a sample belongs to


def test_a_sample_belongs_to_the_innermost_frame_that_is_of_a_stage() -> None:
    assert stage_of(["psycopg.cursor", "pipeline.database", "pipeline.slates", "pipeline.shards"]) == "ledger"
    assert stage_of(["json.decoder", "pipeline.parsing", "pipeline.writing"]) == "parsing"


def test_what_the_loop_calls_by_itself_belongs_to_the_library_that_it_calls() -> None:
    assert stage_of(["socket", "aiohttp.client", "asyncio.events"]) == "HTTP client"
    assert stage_of(["selectors", "asyncio.base_events"]) == REST
    assert stage_of([]) == REST


def test_a_part_of_a_package_belongs_to_its_stage() -> None:
    assert stage_of(["pipeline.limits.sharing"]) == "limits and budget"
    assert stage_of(["pipeline.candidates.lookup.pages"]) == "candidates"


def test_shares_add_up_and_the_greatest_comes_first() -> None:
    assert shares({"a": 1, "b": 3}) == {"b": 0.75, "a": 0.25}
    assert list(shares({"a": 1, "b": 3})) == ["b", "a"]


def test_a_process_that_is_busy_is_sampled_and_rests_from_it_afterwards() -> None:
    with sampled() as samples:
        while not samples:
            sum(range(10_000))
    before = dict(samples)
    sum(range(3_000_000))
    assert dict(samples) == before


# What Prefect adds


def test_what_prefect_adds_is_divided_into_the_flows_part_and_each_shards() -> None:
    nights = Nights(flow_few=51.4, flow_many=55, alone_few=50, alone_many=50)
    assert nights.shard_s == pytest.approx(0.2)
    assert nights.flow_s == pytest.approx(1.0)
    assert nights.share == pytest.approx(1.4 / 51.4)
    assert nights.share_of_larger == pytest.approx(5 / 505)


# Whether a process grows


def test_what_is_held_is_the_median_of_the_looks_around_that_many_customers() -> None:
    samples = [(0, 1.0), (95, 10.0), (100, 12.0), (105, 90.0), (500, 99.0)]
    assert held_at(samples, 100) == 12
    assert math.isnan(held_at(samples, 300))


# Who was served twice, and how late


def test_a_rank_or_a_product_that_is_there_twice_is_seen() -> None:
    assert doubled([row(1, "p1"), row(2, "p2")], {}) == 0
    assert doubled([row(1, "p1"), row(1, "p2")], {}) == 1
    assert doubled([row(1, "p1"), row(2, "p1"), row(2, "p2")], {}) == 2


def test_a_row_of_an_attempt_that_was_over_is_seen() -> None:
    offers = {(0, 1): second(-5), (0, 2): second(10), (1, 2): second(0.5)}
    assert doubled([row(begun=0, committed=9)], offers) == 0
    assert doubled([row(begun=11, committed=12)], offers) == 0
    assert doubled([row(begun=0, committed=12)], offers) == 1


def test_only_answers_that_came_to_their_end_are_paid_twice() -> None:
    assert paid_twice([request(how="client-left"), request()]) == 0
    assert paid_twice([request(), request("c2"), request()]) == 1


def test_recovery_is_the_longest_time_from_a_kill_to_the_end_of_another_attempt() -> None:
    kills = [Kill(0, 1, second(0)), Kill(1, 1, second(30))]
    assert recovery_s(kills, [shard(0, ended=40), shard(1, ended=45)]) == 40


def test_a_shard_that_nobody_else_has_served_has_not_recovered() -> None:
    kill = Kill(0, 1, second(0))
    assert math.isnan(recovery_s([kill], [shard(attempt=1)]))
    assert math.isnan(recovery_s([kill], [shard(state="broken_off")]))
    assert math.isnan(recovery_s([kill, Kill(1, 1, second(0))], [shard(), shard(1, attempt=1)]))
    assert math.isnan(recovery_s([], [shard()]))


# When the last stream was closed, and what the model took


def test_the_last_stream_that_counts_is_one_that_was_open_or_was_opened_after() -> None:
    before, open_, after, of_the_next = (
        request(received=0, ended=9),
        request(received=8, ended=11),
        request(received=10.5, ended=13),
        request(received=31, ended=50),
    )
    assert last_closed_s([before, open_, after, of_the_next], at=10, until_at=30) == 3
    assert last_closed_s([before, open_, of_the_next], at=10, until_at=30) == 1
    assert math.isnan(last_closed_s([before], at=10, until_at=30))


def test_the_models_part_is_up_to_the_end_of_the_first_object() -> None:
    assert first_object_s(request(ended=2)) == pytest.approx(2 * 34 / 80)


# The bench itself


def test_every_target_has_its_figure_in_the_table() -> None:
    figures = dict.fromkeys((target.key for target in TARGETS), 0.0) | {"seconds": 1.0}
    assert len(list(table(TARGETS, figures))) == len(TARGETS) + 1
    assert json.loads(last_line(TARGETS, figures))["seconds"] == 1


def test_the_shipped_settings_of_one_machine_are_the_servers() -> None:
    assert profile()["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert all(name == name.strip() and name.isupper() for name in profile())


async def test_what_never_comes_is_told_and_not_waited_for() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(UnfinishedRunError, match="in vain: the moon"):
        await until(never, "the moon", within_s=0)


def test_the_memory_of_a_process_is_seen_to_grow(tmp_path: Path) -> None:
    before = own_memory(os.getpid())
    held = bytearray(b"x" * 40_000_000)
    assert own_memory(os.getpid()) - before > 30_000_000
    assert held


@pytest.fixture
async def grounds(postgres: EmbeddedPostgres, tmp_path: Path) -> AsyncIterator[Grounds]:
    """The session's server, without Prefect's; the databases that a section makes are dropped."""
    async with AsyncExitStack() as nothing:
        yield Grounds(postgres, Prefect(tmp_path, free_port(), nothing), tmp_path, TINY)
    with open_connection(postgres.url("postgres"), autocommit=True, role=None) as connection:
        for name in ("growing", "recommend"):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


async def test_what_a_process_has_started_in_a_session_of_its_own_is_killed_with_it(tmp_path: Path) -> None:
    async with started("tests.bench.test_flows_bench", (), tmp_path, {}) as process:
        below = (await process.told())["ready"]
        assert parent_of(below) == process.pid
        assert all_below(process.pid) == [process.pid, below]
        process.kill_with_all_below()
        await process.ended()

        async def has_ended() -> bool:
            return parent_of(below) is None

        await until(has_ended, "what it has started has not ended", within_s=20)


async def test_a_process_that_serves_a_shard_is_watched_to_its_last_customer(grounds: Grounds) -> None:
    figures = await growth_figures(grounds)
    assert figures["rss_mb"] > 20
    async with open_ledger(grounds.server.url("growing")) as ledger:
        assert await ledger.complete() == TINY.grown
        run = await ledger.run()
        assert run is not None
        assert await ledger.incomplete(run) == 0
        assert [(it.shard, it.attempt, it.state) for it in await ledger.shards(run)] == [(0, 1, "served")]
        assert [it.rows for it in await ledger.shards(run)] == [TINY.grown * SHORT_SLATE_SIZE]
        assert doubled(await ledger.written(run), {(0, 2): await ledger.now()}) == 0
        assert all(it.begun_at is not None for it in await ledger.written(run))


async def test_the_first_row_of_the_command_takes_longer_than_the_models_part_of_it(grounds: Grounds) -> None:
    figures = await recommend_figures(grounds)
    assert figures["first_row_recommend_s"] > figures["first_row_recommend_beyond_model_s"] > 0


def _start_another() -> None:
    """This module as a program: it has a child in a session of its own, and waits for it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as child:
        print(json.dumps({"ready": child.pid}), flush=True)
        child.wait()  # before its standard input is closed, with which it would end


if __name__ == "__main__":
    _start_another()
