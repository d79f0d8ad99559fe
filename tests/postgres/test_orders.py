"""Orders on a real server: who gave them, what stands, what makes no sense, and what each process hears."""

import asyncio
import getpass
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from pipeline.database import PUBLISHING_LOCK, open_connection, open_engine, sqlalchemy_url, statement
from pipeline.domain import OrderKind, RunId, RunKind, RunState
from pipeline.errors import DatabaseError, InputError, RecstreamError, RunConflictError, RunHaltedError
from pipeline.gates import Gates
from pipeline.night import working_on
from pipeline.night_lock import hold_the_night
from pipeline.orders import (
    Hands,
    StandingOrders,
    give_order,
    open_hands,
    read_heard,
    read_standing,
    take_no_more_orders,
)
from pipeline.run_lock import hold_new_run
from pipeline.run_states import begin_run, end_run
from pipeline.runs import Run
from pipeline.shard_ledger import ALIVE_S
from tests.fixtures.readers import add_slates, runs_that_readers_see
from tests.fixtures.shop import add_run, change, read, scalar

PATIENCE_S = 30
PAUSE, CONTINUE, DRAIN, LIMIT, CANCEL, RESUME = OrderKind


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    """A nightly run that goes on."""
    planned = await add_run(engine, "a")
    await begin_run(engine, planned.run_id)
    return planned


async def state_of(engine: AsyncEngine, run: Run) -> object:
    return await scalar(engine, "SELECT state FROM runs WHERE run_id = :run_id", run_id=run.run_id)


async def standing_of(engine: AsyncEngine, run: Run) -> set[str]:
    standing = await read_standing(engine, run.run_id)
    return {kind for kind in ("pause", "drain", "cancel", "limit") if getattr(standing, kind) is not None}


async def until(hands: Hands, **wanted: bool) -> None:
    """Wait until this process has heard what stands."""
    async with asyncio.timeout(PATIENCE_S):
        while {kind: getattr(hands.standing, kind) is not None for kind in wanted} != wanted:  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.02)  # `Hands` tells of what may be done, and not of what was heard


async def until_parts_are(parts: Sequence[int | None], *processes: Hands) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while sorted(hands.concurrency or 0 for hands in processes) != sorted(part or 0 for part in parts):
            assert sum(hands.concurrency or 0 for hands in processes) <= sum(part or 0 for part in parts)
            await asyncio.sleep(0.02)


async def test_an_order_is_written_down_with_who_and_when(engine: AsyncEngine, run: Run) -> None:
    before = await scalar(engine, "SELECT clock_timestamp()")
    done = await give_order(engine, None, LIMIT, 12)

    ((order_id, run_id, kind, concurrency, by, at),) = await read(engine, "SELECT * FROM standing_orders")
    assert (done.run_id, done.order_id, done.processes) == (run_id, order_id, 0)
    assert (run_id, kind, concurrency) == (run.run_id, "limit", 12)
    login = await scalar(engine, "SELECT session_user")
    assert by == f"{getpass.getuser()}@{socket.gethostname()} (as {login})"
    assert isinstance(at, datetime)
    assert isinstance(before, datetime)
    assert before < at < (await scalar(engine, "SELECT clock_timestamp()"))  # type: ignore[operator] # a moment too


async def test_what_is_shown_names_the_database_login_which_nobody_can_write(engine: AsyncEngine, run: Run) -> None:
    order = "INSERT INTO run_orders (run_id, kind, ordered_by) VALUES (:run_id, 'pause', 'ceo@hq (as postgres)')"
    await change(engine, order, run_id=run.run_id)
    login = await scalar(engine, "SELECT session_user")
    standing = (await read_standing(engine, run.run_id)).pause
    assert standing is not None
    assert standing.given().startswith(f"by ceo@hq (as postgres) (as {login}) at ")


@pytest.mark.parametrize(
    "forged",
    [
        "INSERT INTO run_orders (run_id, kind, ordered_by, login) VALUES (:run_id, 'pause', 'x', 'postgres')",
        "INSERT INTO run_orders (run_id, kind, ordered_by, ordered_at) VALUES (:run_id, 'pause', 'x', '2020-01-01')",
        """INSERT INTO run_orders (order_id, run_id, kind, ordered_by) OVERRIDING SYSTEM VALUE
           VALUES (9223372036854775806, :run_id, 'cancel', 'x')""",
    ],
)
async def test_an_order_is_given_in_nobody_elses_name_nor_at_another_time(
    engine: AsyncEngine, run: Run, forged: str
) -> None:
    with pytest.raises(RecstreamError, match="permission denied for table run_orders"):
        await change(engine, forged, run_id=run.run_id)


async def test_nothing_that_was_ordered_is_ever_changed(engine: AsyncEngine, run: Run) -> None:
    await give_order(engine, None, PAUSE)
    for change_of_history in ("UPDATE run_orders SET ordered_by = 'nobody'", "DELETE FROM run_orders"):
        with pytest.raises(RecstreamError, match="permission denied for table run_orders"):
            await change(engine, change_of_history)


@pytest.mark.parametrize(
    ("orders", "standing", "state"),
    [
        ([], set(), "running"),
        ([PAUSE], {"pause"}, "running"),
        ([PAUSE, CONTINUE], set(), "running"),
        ([PAUSE, CONTINUE, PAUSE], {"pause"}, "running"),
        ([DRAIN], {"drain"}, "draining"),
        ([DRAIN, CONTINUE], set(), "running"),
        ([PAUSE, DRAIN], {"drain"}, "draining"),
        ([PAUSE, DRAIN, CONTINUE], set(), "running"),
        ([LIMIT, PAUSE], {"limit", "pause"}, "running"),
        ([LIMIT, PAUSE, CONTINUE], {"limit"}, "running"),
        ([PAUSE, CANCEL], {"pause", "cancel"}, "running"),
        ([DRAIN, CANCEL], {"drain", "cancel"}, "draining"),
    ],
)
async def test_a_later_order_ends_the_one_that_it_contradicts(
    engine: AsyncEngine, run: Run, orders: Sequence[OrderKind], standing: set[str], state: str
) -> None:
    for kind in orders:
        await give_order(engine, run.run_id, kind, 5 if kind is LIMIT else None)
    assert await standing_of(engine, run) == standing
    assert await state_of(engine, run) == state


async def test_a_limit_is_replaced_and_taken_away(engine: AsyncEngine, run: Run) -> None:
    for most in (5, 3):
        await give_order(engine, run.run_id, LIMIT, most)
        limit = (await read_standing(engine, run.run_id)).limit
        assert limit is not None
        assert limit.concurrency == most
    await give_order(engine, run.run_id, LIMIT)
    assert await read_standing(engine, run.run_id) == StandingOrders()


@pytest.mark.parametrize("ended", [RunState.FAILED, RunState.CANCELLED])
async def test_a_run_that_is_resumed_stays_paused_and_limited_but_is_neither_drained_nor_cancelled(
    engine: AsyncEngine, run: Run, ended: RunState
) -> None:
    for kind, most in ((LIMIT, 5), (PAUSE, None), (CANCEL, None)):
        await give_order(engine, run.run_id, kind, most)
    await end_run(engine, run.run_id, ended)
    assert await standing_of(engine, run) == {"pause", "limit", "cancel"}
    await begin_run(engine, run.run_id)
    assert await standing_of(engine, run) == {"pause", "limit"}

    await give_order(engine, run.run_id, DRAIN)
    await end_run(engine, run.run_id, ended)
    await begin_run(engine, run.run_id)
    assert await standing_of(engine, run) == {"limit"}
    resumed = await read(engine, "SELECT ordered_by FROM run_orders WHERE kind = 'resume'")
    assert [str(by).startswith(f"{getpass.getuser()}@") for (by,) in resumed] == [True, True]


async def test_a_run_that_begins_for_the_first_time_obeys_what_was_ordered_before(engine: AsyncEngine) -> None:
    planned = await add_run(engine, "a")
    await give_order(engine, planned.run_id, CANCEL)
    await begin_run(engine, planned.run_id)
    assert await standing_of(engine, planned) == {"cancel"}


@pytest.mark.parametrize(
    ("before", "kind", "most", "complaint"),
    [
        ([], CONTINUE, None, "is neither paused nor draining"),
        ([], LIMIT, None, "has no limit that could be taken away"),
        ([PAUSE], PAUSE, None, r"is paused already, by .+ UTC: `recstream continue` ends it"),
        ([DRAIN], DRAIN, None, r"is draining, as ordered by .+ UTC: `recstream continue` takes that back"),
        ([DRAIN], PAUSE, None, "is draining"),
        ([LIMIT], LIMIT, 5, r"is limited to 5 already, by .+ UTC"),
        *[([CANCEL], kind, 7 if kind is LIMIT else None, "was cancelled by") for kind in OrderKind if kind != RESUME],
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_in_one_line_and_not_written_down(
    engine: AsyncEngine, run: Run, before: Sequence[OrderKind], kind: OrderKind, most: int | None, complaint: str
) -> None:
    for former in before:
        await give_order(engine, run.run_id, former, 5 if former is LIMIT else None)
    with pytest.raises(RunConflictError, match=rf"^run {run.run_id} {complaint}") as refused:
        await give_order(engine, run.run_id, kind, most)
    assert "\n" not in str(refused.value)
    assert await scalar(engine, "SELECT count(*) FROM run_orders") == len(before)


@pytest.mark.parametrize("kind", [kind for kind in OrderKind if kind != RESUME])
async def test_a_run_that_has_ended_takes_no_order(engine: AsyncEngine, run: Run, kind: OrderKind) -> None:
    await end_run(engine, run.run_id, RunState.FAILED)
    with pytest.raises(RunConflictError, match=r"has ended \(failed\).*`recstream resume`"):
        await give_order(engine, run.run_id, kind, 3)


async def test_a_run_that_has_not_begun_cannot_be_drained(engine: AsyncEngine) -> None:
    planned = await add_run(engine, "a")
    with pytest.raises(RunConflictError, match="has not begun: drain it once it runs"):
        await give_order(engine, planned.run_id, DRAIN)


async def test_an_unknown_run_and_a_night_without_a_run_are_one_line_each(engine: AsyncEngine) -> None:
    with pytest.raises(InputError, match=r"^there is no run .*`recstream runs`"):
        await give_order(engine, RunId(uuid4()), PAUSE)
    with pytest.raises(RunConflictError, match=r"^no nightly run is going on"):
        await give_order(engine, None, PAUSE)


async def test_without_a_name_the_newest_nightly_run_that_goes_on_is_meant(engine: AsyncEngine, run: Run) -> None:
    on_demand = await add_run(engine, "a", kind=RunKind.ON_DEMAND)
    ended = await add_run(engine, "a")
    await begin_run(engine, ended.run_id)
    await end_run(engine, ended.run_id, RunState.CANCELLED)
    assert (await give_order(engine, None, PAUSE)).run_id == run.run_id
    assert (await give_order(engine, on_demand.run_id, CANCEL)).run_id == on_demand.run_id


@pytest.mark.parametrize("kind", [PAUSE, DRAIN, CANCEL])
async def test_of_two_people_who_order_the_same_at_once_one_is_told_of_the_other(
    engine: AsyncEngine, run: Run, kind: OrderKind
) -> None:
    told = await asyncio.gather(*(give_order(engine, None, kind) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(each, RunConflictError) for each in told) == 5
    assert await scalar(engine, "SELECT count(*) FROM run_orders") == 1


async def test_an_order_that_meets_the_end_of_its_run_comes_before_it_or_is_refused(
    engine: AsyncEngine, run: Run
) -> None:
    for _ in range(10):
        ordered, _ = await asyncio.gather(
            give_order(engine, run.run_id, DRAIN),
            end_run(engine, run.run_id, RunState.CANCELLED, "the end"),
            return_exceptions=True,
        )
        written = await scalar(engine, "SELECT count(*) FROM run_orders WHERE kind = 'drain'")
        assert isinstance(ordered, RunConflictError) == (written == 0)
        assert await state_of(engine, run) == "cancelled"
        await begin_run(engine, run.run_id)
        assert await standing_of(engine, run) == set()
        if written:
            return


@pytest.mark.parametrize("end", [None, RunHaltedError("drained", drained=True), DatabaseError("one row is refused")])
async def test_a_cancellation_that_comes_when_the_last_customer_was_served_is_obeyed(
    engine: AsyncEngine, database_url: str, end: RecstreamError | None
) -> None:
    made = await add_slates(engine, database_url, ended=False, a="complete")
    with pytest.raises(RecstreamError, match="^cancelled by" if end is None else str(end)):
        async with working_on(engine, made, Gates()):
            await give_order(engine, None, CANCEL)
            if end is not None:
                raise end
    ((state, reason),) = await read(engine, "SELECT state, reason FROM runs")
    assert (state, str(reason).split(" by ")[0]) == ("cancelled", "cancelled")
    assert await runs_that_readers_see(engine) == {}


@pytest.mark.parametrize("end", [None, RunHaltedError("drained", drained=True)])
async def test_a_run_that_is_being_published_takes_no_order(
    engine: AsyncEngine, database_url: str, end: RecstreamError | None
) -> None:
    made = await add_slates(engine, database_url, ended=False, a="complete")
    with open_connection(database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [PUBLISHING_LOCK])
        publishing = asyncio.create_task(work_on(engine, made, end))
        async with asyncio.timeout(PATIENCE_S):
            while await scalar(engine, "SELECT ending_at IS NULL FROM runs"):  # noqa: ASYNC110 - it happens in the database
                await asyncio.sleep(0.02)
        for kind in (CANCEL, DRAIN, PAUSE, LIMIT):
            with pytest.raises(RunConflictError, match=r"is ending: its slates are made and being published$"):
                await give_order(engine, made.run_id, kind, 3)
    await asyncio.wait_for(publishing, PATIENCE_S)
    assert await runs_that_readers_see(engine) == {"a": made.run_id}
    assert await scalar(engine, "SELECT count(*) FROM run_orders") == 0


async def work_on(engine: AsyncEngine, run: Run, end: RecstreamError | None) -> None:
    """All of the run's work, which was done before, ended so."""
    with suppress(RunHaltedError):
        async with working_on(engine, run, Gates()):
            if end is not None:
                raise end


async def test_a_run_that_begins_anew_takes_orders_again(engine: AsyncEngine, run: Run) -> None:
    await take_no_more_orders(engine, run.run_id)
    await end_run(engine, run.run_id, RunState.FAILED)
    await begin_run(engine, run.run_id)
    assert await scalar(engine, "SELECT ending_at FROM runs") is None
    await give_order(engine, run.run_id, PAUSE)


async def test_whoever_holds_a_run_is_alive_before_its_processes_have_checked_in(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with hold_new_run(database_url) as run_id:
        on_demand = await add_run(engine, "a", kind=RunKind.ON_DEMAND, run_id=run_id)
        assert not (await give_order(engine, run.run_id, LIMIT, 1)).alive
        assert (await give_order(engine, on_demand.run_id, LIMIT, 1)).alive
    assert not (await give_order(engine, on_demand.run_id, LIMIT, 2)).alive
    async with hold_the_night(database_url):
        assert (await give_order(engine, run.run_id, LIMIT, 2)).alive
        assert not (await give_order(engine, on_demand.run_id, LIMIT, 3)).alive


async def test_a_process_hears_an_order_and_its_end(engine: AsyncEngine, run: Run) -> None:
    async with open_hands(engine, run.run_id) as hands:
        assert (await give_order(engine, None, PAUSE)).processes == 1
        await until(hands, pause=True)
        waiting = asyncio.create_task(hands.may_ask())
        await give_order(engine, None, CONTINUE)
        await asyncio.wait_for(waiting, PATIENCE_S)
        ordered = await give_order(engine, None, CANCEL)
        with pytest.raises(RunHaltedError, match=r"^cancelled by"):
            await asyncio.wait_for(hands.cancelled(), PATIENCE_S)
        heard = await read_heard(engine, run.run_id, ordered.order_id)
        assert (heard.processes, heard.unaware) == (1, 0)
    assert await scalar(engine, "SELECT count(*) FROM run_processes") == 0


async def test_a_process_that_starts_knows_what_stands_before_it_asks_anything(engine: AsyncEngine, run: Run) -> None:
    await give_order(engine, None, PAUSE)
    async with open_hands(engine, run.run_id) as hands:
        assert hands.standing.pause is not None
        assert hands.concurrency == 0
        heard = await read_heard(engine, run.run_id, 10**6)
        assert (heard.processes, heard.unaware) == (1, 1)


async def test_orders_of_one_run_are_nothing_to_another(engine: AsyncEngine, run: Run) -> None:
    another = await add_run(engine, "b", kind=RunKind.ON_DEMAND)
    await give_order(engine, run.run_id, CANCEL)
    async with open_hands(engine, another.run_id) as hands:
        assert hands.standing == StandingOrders()


async def test_a_limit_is_shared_evenly_and_a_process_that_leaves_gives_its_part_back(
    engine: AsyncEngine, run: Run
) -> None:
    await give_order(engine, None, LIMIT, 7)
    async with AsyncExitStack() as leaving:
        first = await leaving.enter_async_context(open_hands(engine, run.run_id))
        async with open_hands(engine, run.run_id) as second, open_hands(engine, run.run_id) as third:
            assert [hands.concurrency for hands in (first, second, third)] == [0, 0, 0], "none knows of the others yet"
            await until_parts_are([3, 2, 2], first, second, third)
        async with asyncio.timeout(PATIENCE_S):
            while first.concurrency != 7:  # noqa: ASYNC110 - it happens in the database
                await asyncio.sleep(0.02)
        await give_order(engine, None, LIMIT)
        async with asyncio.timeout(PATIENCE_S):
            while first.concurrency is not None:  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.02)


@contextmanager
def way_to(url: str) -> Iterator[tuple[Path, str]]:
    """A file that leads to the server, to be taken away and put back, and the address that goes by it."""
    address = sqlalchemy_url(url)
    name = f".s.PGSQL.{address.query['port']}"
    with TemporaryDirectory(prefix="way") as folder:  # a path short enough for a socket
        way = Path(folder) / name
        way.symlink_to(Path(str(address.query["host"])) / name)
        yield way, address.update_query_dict({"host": folder}).render_as_string(hide_password=False)


async def test_where_postgres_cannot_be_reached_the_last_orders_stand_and_are_heard_again_later(
    engine: AsyncEngine, admin: AsyncEngine, run: Run, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pipeline.orders")
    await give_order(engine, None, PAUSE)
    with way_to(database_url) as (way, url):
        async with open_engine(url, connections=1) as through, open_hands(through, run.run_id) as hands:
            holder = await scalar(through, "SELECT pg_backend_pid()")
            server = way.readlink()
            way.unlink()
            await change(admin, "SELECT pg_terminate_backend(:holder, 10000)", holder=holder)
            async with asyncio.timeout(PATIENCE_S):
                while "the last ones stand" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody
                    await asyncio.sleep(0.02)
            assert hands.concurrency == 0
            await give_order(engine, None, CONTINUE)
            way.symlink_to(server)
            await asyncio.wait_for(hands.may_ask(), PATIENCE_S)
            assert [record.levelname for record in caplog.records if "heard" in record.message] == ["WARNING", "INFO"]


class Processes:
    """Made-up processes that check in by hand: what each was told, as it would know it."""

    def __init__(self, connection: Connection, run_id: UUID) -> None:
        self._connection, self._run_id = connection, run_id
        self.parts: dict[UUID, int | None] = {}

    def check_in(self, process: UUID) -> None:
        asked = {"run_id": self._run_id, "process": process, "alive_s": ALIVE_S}
        self.parts[process] = self._connection.execute(statement("check_in"), asked).all()[0].part

    def limit(self, most: int | None) -> None:
        self._connection.execute(
            statement("give_order"), {"run_id": self._run_id, "kind": "limit", "concurrency": most, "ordered_by": "x"}
        )

    def die(self, process: UUID) -> None:
        """It is silent for as long as makes it dead."""
        self.parts.pop(process, None)
        self._connection.execute(
            text("UPDATE run_processes SET seen_at = seen_at - make_interval(secs => :s) WHERE process = :process"),
            {"s": ALIVE_S + 1, "process": process},
        )


@pytest.fixture
async def made_up(database_url: str, run: Run) -> AsyncIterator[tuple[Connection, RunId]]:
    opened = create_engine(sqlalchemy_url(database_url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with opened.connect() as connection:
        yield connection, run.run_id
    opened.dispose()


NAMES = [UUID(int=number) for number in range(1, 6)]
STEP = st.tuples(st.sampled_from(["check in", "check in", "check in", "die"]), st.sampled_from(NAMES))


def test_the_parts_never_add_up_to_more_than_the_limit_and_end_even(made_up: tuple[Connection, RunId]) -> None:
    connection, run_id = made_up

    @settings(max_examples=60, deadline=None)
    @given(st.lists(STEP, max_size=40), st.integers(1, 12))
    def whatever_happens(steps: Sequence[tuple[str, UUID]], most: int) -> None:
        connection.execute(text("TRUNCATE run_processes, run_orders"))
        processes = Processes(connection, run_id)
        processes.limit(most)
        for what, process in steps:
            processes.die(process) if what == "die" else processes.check_in(process)
            assert sum(part or 0 for part in processes.parts.values()) <= most
        for _ in range(3):
            for process in processes.parts:
                processes.check_in(process)
        parts = [part or 0 for part in processes.parts.values()]
        if parts:
            assert sum(parts) == most
            assert max(parts) - min(parts) <= 1

    whatever_happens()


def test_a_limit_that_is_lowered_is_kept_by_all_once_each_has_asked(made_up: tuple[Connection, RunId]) -> None:
    processes = Processes(*made_up)
    for _ in range(2):
        for process in NAMES:
            processes.check_in(process)
    assert set(processes.parts.values()) == {None}
    for most, parts in ((10, [2] * 5), (3, [0, 0, 1, 1, 1]), (12, [2, 2, 2, 3, 3]), (None, [0] * 5)):
        processes.limit(most)
        for _ in range(2):
            for process in NAMES:
                processes.check_in(process)
        assert sorted(part or 0 for part in processes.parts.values()) == parts


def test_processes_that_died_long_ago_are_swept_away(made_up: tuple[Connection, RunId]) -> None:
    processes = Processes(*made_up)
    for process in NAMES[:3]:
        processes.check_in(process)
    for _ in range(12):
        processes.die(NAMES[0])
    processes.check_in(NAMES[1])
    found = made_up[0].execute(text("SELECT process FROM run_processes ORDER BY 1")).scalars()
    assert list(found) == NAMES[1:3]
