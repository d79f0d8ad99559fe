"""What people order of a run, obeyed by all its processes: real ones, which serve shards of the same run."""

import asyncio
import getpass
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import OrderKind, RunKind, RunState
from pipeline.night_lock import hold_the_night
from pipeline.orders import give_order, read_heard
from pipeline.run_states import begin_run, end_run
from pipeline.runs import Run, plan_run
from tests.fixtures.command_line import CommandLine, Started
from tests.fixtures.held_endpoint import HeldEndpoint, held_endpoint
from tests.fixtures.shop import RANKER, add_customer, add_product, comes_to, read, scalar

PATIENCE_S = 120.0
pytestmark = pytest.mark.timeout(600)  # many processes start here, on a machine that may be busy
AT_A_TIME = 4  # in one process
SHARD = 8
WORKER = """
import asyncio
import os
import sys
from uuid import UUID

from pipeline.database import open_engine
from pipeline.errors import RecstreamError
from pipeline.provisioning import provided_endpoint
from pipeline.runs import find_run
from pipeline.services import open_run_services
from pipeline.settings import load_settings
from pipeline.shards import serve_shard

async def main(run_id, shard):
    settings, url = load_settings(), os.environ["DATABASE_URL"]
    with provided_endpoint(settings) as endpoint:
        async with open_engine(url, connections=1) as engine:
            run = await find_run(engine, run_id)
        async with open_run_services(settings, url, endpoint, run) as services:
            report = await serve_shard(run, shard, services)
    print("served", report.customers)

try:
    asyncio.run(main(UUID(sys.argv[1]), int(sys.argv[2])))
except RecstreamError as error:
    print(type(error).__name__, error)
"""


class Crew:
    """Processes that serve the shards of one run, each its own."""

    def __init__(self, recstream: CommandLine, run: Run, ends: AsyncExitStack) -> None:
        self._recstream, self._run, self._ends = recstream, run, ends
        self.processes: list[Started] = []

    async def start(self, shard: int) -> None:
        """One more, which serves this shard."""
        started = going_on(self._recstream, str(self._run.run_id), str(shard), program=WORKER)
        self.processes.append(await self._ends.enter_async_context(started))

    async def lose_one(self) -> None:
        """Kill the one that was started last."""
        victim = self.processes.pop().process
        victim.kill()
        await asyncio.to_thread(victim.wait, PATIENCE_S)

    async def said(self) -> list[str]:
        """What each of them says at its end."""
        return [(await asyncio.to_thread(process.end)).stdout.strip() for process in self.processes]


@asynccontextmanager
async def going_on(recstream: CommandLine, *words: str, program: str | None = None) -> AsyncIterator[Started]:
    """A command, or a program, that goes on; it is over at the end, killed if need be."""
    command = recstream.forked(*words, program=program)
    started = await asyncio.to_thread(command.__enter__)
    try:
        yield started
    finally:
        await asyncio.to_thread(command.__exit__, None, None, None)


@pytest.fixture
async def held() -> AsyncIterator[HeldEndpoint]:
    async with held_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def shop(engine: AsyncEngine) -> None:
    """Two products, and sixteen customers."""
    for number in range(1, 3):
        await add_product(engine, f"p{number}")
    for number in range(2 * SHARD):
        await add_customer(engine, f"c{number:02}")


@pytest.fixture
async def run(engine: AsyncEngine, shop: None) -> Run:
    """A run over two shards of eight customers each, that has begun."""
    planned = await plan_run(engine, RunKind.NIGHTLY, RANKER, slate_size=2, shard_size=SHARD)
    await begin_run(engine, planned.run_id)
    return planned


@pytest.fixture
def settings(database_url: str, held: HeldEndpoint, tmp_path: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "OPENAI_BASE_URL": held.base_url,
        "RECSTREAM_MODEL": "test-model",
        "RECSTREAM_CONCURRENCY": str(AT_A_TIME),
        "RECSTREAM_SLATE_SIZE": "2",
        "RECSTREAM_SHARD_SIZE": str(SHARD),
        "RECSTREAM_HOME": str(tmp_path / "home"),
    }


@pytest.fixture
async def crew(settings: dict[str, str], tmp_path: Path, run: Run) -> AsyncIterator[Crew]:
    async with AsyncExitStack() as ends:
        yield Crew(CommandLine(tmp_path, settings), run, ends)


@pytest.fixture
def recstream(settings: dict[str, str], tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, {"DATABASE_URL": settings["DATABASE_URL"]})


async def obeyed(engine: AsyncEngine, run: Run, kind: OrderKind, most: int | None = None, *, by: int) -> None:
    """Give an order, and wait until all processes have heard of it, and there are so many at least."""
    given = await give_order(engine, run.run_id, kind, most)
    async with asyncio.timeout(PATIENCE_S):
        while (heard := await read_heard(engine, run.run_id, given.order_id)).unaware or heard.processes < by:  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.05)  # it happens in other processes


async def order(recstream: CommandLine, *words: str) -> str:
    """What a command says that all processes have obeyed."""
    told = await asyncio.to_thread(recstream, *words, "--wait")
    assert (told.status, told.stderr) == (0, "")
    return told.stdout


async def states(engine: AsyncEngine) -> dict[object, object]:
    return dict(await read(engine, "SELECT state, count(*) FROM slates GROUP BY 1"))  # type: ignore[arg-type] # pairs


def all_begun(number: int) -> Callable[[HeldEndpoint], bool]:
    return lambda held: held.under_way == number


async def test_a_pause_holds_all_processes_also_one_that_is_killed_and_started_again(
    engine: AsyncEngine, held: HeldEndpoint, run: Run, crew: Crew
) -> None:
    for shard in (0, 1):
        await crew.start(shard)
    await held.until(all_begun(2 * AT_A_TIME))

    await obeyed(engine, run, OrderKind.PAUSE, by=2)
    await held.let_go(2 * AT_A_TIME)
    await comes_to(engine, "SELECT count(*) FROM slates WHERE state = 'complete'", 2 * AT_A_TIME)
    assert held.begun == 2 * AT_A_TIME, "what was in flight has ended, and nothing was sent since"

    await crew.lose_one()
    await crew.start(1)
    await comes_to(engine, "SELECT count(*) FROM run_processes", 3)  # the dead one's row too
    assert held.begun == 2 * AT_A_TIME

    await obeyed(engine, run, OrderKind.CONTINUE, by=2)
    await held.until(all_begun(2 * AT_A_TIME))
    await held.let_go(2 * SHARD)
    assert await crew.said() == [f"served {SHARD}", f"served {SHARD - AT_A_TIME}"]
    assert await states(engine) == {"complete": 2 * SHARD}


async def test_a_limit_is_kept_over_all_processes_also_one_that_is_killed_and_started_again(
    engine: AsyncEngine, held: HeldEndpoint, run: Run, crew: Crew
) -> None:
    await obeyed(engine, run, OrderKind.LIMIT, 3, by=0)
    for shard in (0, 1):
        await crew.start(shard)
    await held.until(all_begun(3))
    await held.let_go(2)
    await held.until(lambda held: held.begun == 5)

    await crew.lose_one()
    await crew.start(1)
    await held.let_go(SHARD)
    await held.until(lambda held: held.begun >= 5 + SHARD - 3)
    assert held.most == 3

    await obeyed(engine, run, OrderKind.LIMIT, by=1)
    await held.let_go(3 * SHARD)
    await crew.said()
    assert await states(engine) == {"complete": 2 * SHARD}


async def test_a_drain_ends_with_the_customers_that_were_begun(
    engine: AsyncEngine, held: HeldEndpoint, run: Run, crew: Crew
) -> None:
    for shard in (0, 1):
        await crew.start(shard)
    await held.until(all_begun(2 * AT_A_TIME))
    await obeyed(engine, run, OrderKind.DRAIN, by=2)
    assert await scalar(engine, "SELECT state FROM runs") == "draining"

    await held.let_go(2 * AT_A_TIME)
    assert [words.split(" by ")[0] for words in await crew.said()] == ["RunHaltedError drained"] * 2
    assert held.begun == 2 * AT_A_TIME
    assert held.left == 0
    assert await states(engine) == {"complete": 2 * AT_A_TIME, "pending": 2 * SHARD - 2 * AT_A_TIME}


async def test_a_drain_that_is_taken_back_goes_on_to_the_last_customer(
    engine: AsyncEngine, held: HeldEndpoint, run: Run, crew: Crew
) -> None:
    for shard in (0, 1):
        await crew.start(shard)
    await held.until(all_begun(2 * AT_A_TIME))
    await obeyed(engine, run, OrderKind.DRAIN, by=2)
    await obeyed(engine, run, OrderKind.CONTINUE, by=2)
    await held.let_go(2 * SHARD)
    assert await crew.said() == [f"served {SHARD}"] * 2
    assert await states(engine) == {"complete": 2 * SHARD}
    assert await scalar(engine, "SELECT state FROM runs") == "running"


async def test_a_cancelled_run_closes_what_is_in_flight_and_gives_the_slates_back(
    engine: AsyncEngine, held: HeldEndpoint, run: Run, crew: Crew
) -> None:
    for shard in (0, 1):
        await crew.start(shard)
    await held.until(all_begun(2 * AT_A_TIME))
    assert (await give_order(engine, run.run_id, OrderKind.CANCEL)).processes == 2
    assert [words.split(" by ")[0] for words in await crew.said()] == ["RunHaltedError cancelled"] * 2
    assert (held.begun, held.left) == (2 * AT_A_TIME, 2 * AT_A_TIME)
    assert await states(engine) == {"pending": 2 * SHARD}
    assert set(await read(engine, "SELECT ending FROM llm_calls")) == {("abandoned",)}


async def test_orders_that_make_no_sense_are_one_line_each(
    engine: AsyncEngine, run: Run, recstream: CommandLine
) -> None:
    async def complaint(*words: str) -> str:
        told = await asyncio.to_thread(recstream, *words)
        assert told.status == 2
        return told.complaint

    assert "is neither paused nor draining" in await complaint("continue")
    assert "name the limit with --concurrency N, or take it away with --off" in await complaint("limit")
    assert "--off" in await complaint("limit", "--off", "--concurrency", "3")
    assert "concurrency" in await complaint("limit", "--concurrency", "0")
    await end_run(engine, run.run_id, RunState.FAILED)
    assert "no nightly run is going on" in await complaint("drain")
    assert "has ended (failed)" in await complaint("cancel", str(run.run_id))
    assert "there is no run" in await complaint("pause", "00000000-0000-0000-0000-000000000001")


async def test_without_a_process_an_order_is_written_down_for_the_next_one(run: Run, recstream: CommandLine) -> None:
    told = await asyncio.to_thread(recstream, "limit", "--concurrency", "1")
    assert told.stdout == (
        f"Run {run.run_id} is limited to 1 request at a time. No process works on it now: whichever does next obeys.\n"
    )


@pytest.mark.parametrize("words", [("drain",), ("cancel",), ("pause", "--wait")])
async def test_who_answers_for_a_run_obeys_an_order_also_while_nobody_serves_a_shard_of_it(
    run: Run, recstream: CommandLine, database_url: str, words: tuple[str, ...]
) -> None:
    async with hold_the_night(database_url):
        told = await asyncio.to_thread(recstream, *words)
    assert told.stdout.endswith(
        ". Nobody serves a shard of it now: who answers for it obeys within 5 s, and whoever serves one next.\n"
    )


@pytest.mark.parametrize("kind", ["drain", "cancel"])
async def test_to_end_a_run_whose_process_has_died_is_to_be_told_that_only_a_resume_works_on_it(
    run: Run, recstream: CommandLine, kind: str
) -> None:
    told = await asyncio.to_thread(recstream, kind)
    assert told.stdout == (
        f"Run {run.run_id}: its process has died. Nothing will be done of it until `recstream resume`, which begins "
        "anew, without this order; a pause and a limit stand.\n"
    )


@pytest.fixture
def by_hand(settings: dict[str, str], tmp_path: Path, prefect_api_url: str) -> CommandLine:
    """The command line with all that a night needs."""
    return CommandLine(tmp_path, {**settings, "PREFECT_API_URL": prefect_api_url})


async def test_a_night_that_is_paused_and_killed_is_resumed_as_a_paused_one_which_it_says(
    engine: AsyncEngine, held: HeldEndpoint, shop: None, by_hand: CommandLine
) -> None:
    async with going_on(by_hand, "run") as night:
        await held.until(all_begun(AT_A_TIME))
        ordered = await order(by_hand, "pause")
        assert re.fullmatch(r"Run .{36} is paused: no more requests .+ 1 process obeys\.\n", ordered)
        said = await asyncio.to_thread(night.wait_for, "paused by")
        assert re.fullmatch(r"night: paused by .+@.+ \(as .+\) at .+ UTC: `recstream continue` ends it\n", said)
        night.process.kill()
        await asyncio.to_thread(night.process.wait, PATIENCE_S)
    asked = held.begun
    async with going_on(by_hand, "resume") as night:
        await asyncio.to_thread(night.wait_for, "night: paused by")
        await comes_to(engine, "SELECT count(*) FROM run_orders WHERE kind = 'resume'", 1)
        status = await asyncio.to_thread(by_hand, "status", "--json")
        assert status.document["standing_orders"]["pause"]["ordered_by"].startswith(getpass.getuser())
        assert held.begun == asked
        await held.let_go(5 * SHARD)
        assert "goes on" in await order(by_hand, "continue")
        told = await asyncio.to_thread(night.end)
    assert (told.status, await scalar(engine, "SELECT state FROM runs")) == (0, "finished"), told
    assert [kind for (kind,) in await read(engine, "SELECT kind FROM run_orders ORDER BY order_id")] == [
        "pause",
        "resume",
        "continue",
    ]


async def test_a_night_that_is_drained_ends_with_its_reason_and_is_gone_on_with(
    engine: AsyncEngine, held: HeldEndpoint, shop: None, by_hand: CommandLine
) -> None:
    async with going_on(by_hand, "run") as night:
        await held.until(all_begun(AT_A_TIME))
        await order(by_hand, "drain")
        await held.let_go(AT_A_TIME)
        told = await asyncio.to_thread(night.end)
    assert told.status == 1
    left = 2 * SHARD - AT_A_TIME
    because = (
        rf"drained by .+ UTC; {left} customers have no complete slate; `recstream resume` takes only those; not pub"
    )
    ((state, reason),) = await read(engine, "SELECT state, reason FROM runs")
    assert state == "cancelled"
    assert re.match(because, str(reason))
    assert re.search(f"cancelled: {because}", told.stderr)

    await held.let_go(5 * SHARD)
    resumed = await asyncio.to_thread(by_hand, "resume", "--quiet", "--json")
    assert (resumed.status, resumed.document["complete"]) == (0, 2 * SHARD)


async def test_a_night_that_is_cancelled_ends_at_once_and_is_not_published(
    engine: AsyncEngine, held: HeldEndpoint, shop: None, by_hand: CommandLine
) -> None:
    async with going_on(by_hand, "run") as night:
        await held.until(all_begun(AT_A_TIME))
        await held.let_go(2)
        await held.until(lambda held: held.begun == AT_A_TIME + 2)
        assert (await order(by_hand, "cancel")).endswith(" is cancelled: what is committed stays. It has ended.\n")
        assert await scalar(engine, "SELECT state FROM runs") == "cancelled"
        told = await asyncio.to_thread(night.end)
    assert told.status == 1
    assert re.search(
        r"cancelled by .+@.+ UTC; `recstream resume` goes on from the rows that are committed", told.stderr
    )
    assert await scalar(engine, "SELECT count(*) FROM published_runs") == 0
    assert await states(engine) == {"complete": 2, "pending": 2 * SHARD - 2}


async def test_a_slate_on_demand_is_cancelled_by_the_name_of_its_run(
    engine: AsyncEngine, held: HeldEndpoint, shop: None, by_hand: CommandLine
) -> None:
    async with going_on(by_hand, "recommend", "c00") as one:
        await held.until(all_begun(1))
        await order(by_hand, "cancel", str(await scalar(engine, "SELECT run_id FROM runs")))
        told = await asyncio.to_thread(one.end)
    assert (told.status, held.left) == (1, 1)
    assert "recstream: cancelled by" in told.stderr
    assert await scalar(engine, "SELECT state FROM runs") == "cancelled"
