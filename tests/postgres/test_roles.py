"""Who may do what, tried with real logins: the reader reads two views, the writer writes, and the owner is neither."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import LiteralString, cast

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import connect_as_writer, libpq_url, open_connection, open_engine
from pipeline.domain import CustomerId, RunKind
from pipeline.embedded_postgres import EmbeddedPostgres, discard_embedded_postgres, embedded_postgres
from pipeline.errors import DatabaseError, SchemaError
from pipeline.group_commit import open_group_commit
from pipeline.loading import load_file
from pipeline.night_lock import hold_the_night
from pipeline.roles import Role
from pipeline.schema import migrate, plan_migration
from pipeline.schema_version import require_current
from pipeline.slates import SlateLedger
from tests.fixtures.releases import administer, as_superuser
from tests.fixtures.shop import add_run, change, row_of, scalar, some_candidates

VIEWS = ("current_recommendations", "live_recommendations")
TABLES = (
    "customers", "products", "events", "runs", "slates", "recommendations", "rejections", "llm_calls", "published",
    "published_runs", "rejects_files", "alembic_version", "slates_kept", "slates_20261123", "recommendations_20261123",
)  # fmt: skip
TODAY = date(2026, 11, 23)


def url_of(server: EmbeddedPostgres, url: str, login: str) -> str:
    """The address of the same database for another login."""
    return url.replace(f"{server.superuser}@", f"{login}@", 1)


def make_login(url: str, login: str, *roles: str, rights: LiteralString = "") -> None:
    """A login that has been granted these roles, and nothing of what a login of that name had before."""
    with as_superuser(url) as connection:
        known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [login]).fetchone() is not None
        if not known:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN " + rights).format(sql.Identifier(login)))
        for role in roles:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(login)))


@pytest.fixture
def prepared(database_url: str) -> str:
    """A database with the partitions of one day."""
    administer(database_url, "SELECT recstream_prepare_day('2026-11-23')")
    return database_url


@pytest.fixture
def reader(prepared: str, postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    """A connection of a login that is a reader."""
    make_login(prepared, "anna", Role.READER)
    with psycopg.connect(libpq_url(url_of(postgres, prepared, "anna")), autocommit=True) as connection:
        yield connection


@pytest.fixture
def service_url(prepared: str, postgres: EmbeddedPostgres) -> str:
    """The address with which the service logs in, as a writer."""
    make_login(prepared, "service", Role.WRITER)
    return url_of(postgres, prepared, "service")


@pytest.fixture
def writer(service_url: str) -> Iterator[psycopg.Connection]:
    """A connection as the service has them."""
    with psycopg.connect(libpq_url(service_url), autocommit=True) as connection:
        connection.execute("SET ROLE recstream_writer")
        yield connection


@pytest.mark.parametrize("view", VIEWS)
def test_a_reader_reads_the_views(reader: psycopg.Connection, view: str) -> None:
    assert reader.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(view))).fetchall() == []


@pytest.mark.parametrize("table", TABLES)
def test_a_reader_reads_no_table(reader: psycopg.Connection, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"permission denied for table {table}"):
        reader.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(table)))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT recstream_prepare_day('2026-11-24')",
        "SELECT recstream_bind_views()",
        "DELETE FROM current_recommendations",
        "SET ROLE recstream_writer",
        "SET ROLE recstream_owner",
        "CREATE TABLE mine ()",
    ],
)
def test_a_reader_does_nothing_else(reader: psycopg.Connection, statement: LiteralString) -> None:
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
        reader.execute(statement)


def test_what_a_reader_asks_is_not_asked_about_rows_that_he_may_not_see(
    prepared: str, reader: psycopg.Connection
) -> None:
    with as_superuser(prepared) as connection:
        connection.execute("INSERT INTO customers (customer_id) VALUES ('nobody he may know of')")
    assert reader.execute("SELECT * FROM current_recommendations WHERE customer_id::integer = 1").fetchall() == []


def test_the_roles_have_exactly_these_rights(prepared: str) -> None:
    with as_superuser(prepared) as connection:
        rights = connection.execute("""
            SELECT replace(grantee::regrole::text, 'recstream_', ''), relname,
                   string_agg(left(privilege_type, 1), '' ORDER BY privilege_type)
            FROM pg_class, aclexplode(relacl) WHERE relnamespace = 'public'::regnamespace AND grantee <> relowner
            GROUP BY 1, 2 ORDER BY 1, 2
        """).fetchall()
    assert rights == [
        ("reader", "current_recommendations", "S"),
        ("reader", "live_recommendations", "S"),
        ("writer", "alembic_version", "S"),
        ("writer", "candidate_builds", "IS"),  # and of some columns U
        ("writer", "candidate_histories", "IS"),
        ("writer", "candidate_neighbours", "IS"),
        ("writer", "candidate_newcomers", "IS"),
        ("writer", "candidate_products", "IS"),
        ("writer", "current_recommendations", "S"),
        ("writer", "customers", "ISU"),
        ("writer", "endpoint_limits", "ISU"),
        ("writer", "events", "ISU"),
        ("writer", "limit_leases", "DISU"),
        ("writer", "live_recommendations", "S"),
        ("writer", "llm_calls", "ISU"),
        ("writer", "product_rules", "S"),  # and of some columns IU
        ("writer", "products", "ISU"),
        ("writer", "published", "ISU"),
        ("writer", "published_runs", "ISU"),
        ("writer", "recommendations", "IS"),
        ("writer", "rejections", "IS"),
        ("writer", "rejects_files", "ISU"),
        ("writer", "run_orders", "S"),  # and of some columns I
        ("writer", "run_processes", "DISU"),
        ("writer", "run_shards", "ISU"),
        ("writer", "runs", "IS"),  # and of some columns U
        ("writer", "slates", "IS"),  # the same
        ("writer", "spenders", "DISU"),
        ("writer", "spending", "ISU"),
        ("writer", "standing_orders", "S"),
        ("writer", "standing_rules", "S"),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE slates SET customer_id = 'another'",
        "UPDATE slates SET day = '0001-01-01'",
        "UPDATE runs SET as_of = now()",
        "UPDATE runs SET pruned_at = now()",
    ],
)
def test_a_writer_does_not_change_what_was_planned(writer: psycopg.Connection, statement: LiteralString) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute(statement)


def test_all_that_is_ours_belongs_to_the_owner(prepared: str) -> None:
    with as_superuser(prepared) as connection:
        owners = connection.execute("""
            SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
            UNION SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        """).fetchall()
    assert owners == [("recstream_owner",)]


FORBIDDEN_TO_THE_WRITER: Sequence[LiteralString] = (
    *(
        "DELETE FROM " + table
        for table in (
            "customers", "events", "runs", "slates", "recommendations", "rejections", "llm_calls", "published",
            "published_runs", "rejects_files", "run_orders", "spending", "product_rules",
        )
    ),
    "UPDATE product_rules SET rule = 'pin'",
    "UPDATE run_orders SET ordered_by = 'nobody'",
    "UPDATE candidate_builds SET as_of = now()",
    "UPDATE candidate_products SET buyers = 0",
    "UPDATE recommendations SET rank = 2",
    "UPDATE rejections SET raw = ''",
    "TRUNCATE slates",
    "DROP TABLE recommendations",
    "DROP TABLE recommendations_20261123",
    "ALTER TABLE recommendations DISABLE TRIGGER recommendations_stay",
    "ALTER TABLE recommendations DETACH PARTITION recommendations_20261123",
    "SET session_replication_role = replica",
    "SELECT FROM recommendations_20261123",
    "INSERT INTO alembic_version VALUES ('9999')",
    "CREATE TABLE mine ()",
    "SELECT FROM pg_authid",
    "SET ROLE recstream_owner",
)  # fmt: skip


@pytest.mark.parametrize("statement", FORBIDDEN_TO_THE_WRITER)
def test_the_writer_removes_and_changes_nothing_that_is_committed(
    writer: psycopg.Connection, statement: LiteralString
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute(statement)


async def test_the_writer_does_the_whole_work_of_the_service(service_url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(require_current, service_url)
    await asyncio.to_thread(load_a_product, service_url, tmp_path)
    async with hold_the_night(service_url), open_engine(service_url, connections=2) as engine:
        run = await add_run(engine, "c", kind=RunKind.ON_DEMAND)
        ledger = SlateLedger(engine, run.run_id, run.day)
        slate = await ledger.open(CustomerId("c"), some_candidates(1), 1)
        async with open_group_commit(service_url, run.run_id, run.day, run.provenance) as commits:
            await commits.commit(row_of("c", 1, lease=slate.lease, product_id="p1"))
        await change(
            engine,
            "INSERT INTO published_runs (run_id, day, precedence, served_share, rows_per_slate, refused_share)"
            " VALUES (:run_id, :day, now(), 1, 1, 0)",
            run_id=run.run_id,
            day=run.day,
        )
        await change(engine, "UPDATE published_runs SET withdrawn_at = now()")
        assert await scalar(engine, "SELECT count(*) FROM recommendations") == 1
        assert await scalar(engine, "SELECT session_user") == "service"


def load_a_product(url: str, folder: Path) -> None:
    catalog = folder / "catalog.csv"
    catalog.write_text("product_id,name\np1,Laptop\n")
    with open_connection(url) as connection:
        report = load_file(
            connection, "products", catalog, mapping={}, time_zone="UTC", rejects=folder / "rejects.jsonl"
        )
    assert report.inserted == 1


async def current_user_of_engine(url: str) -> object:
    async with open_engine(url, connections=1) as engine:
        for _ in range(2):  # a connection that comes back to the pool is rolled back
            async with engine.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
                await connection.rollback()
        return await scalar(engine, "SELECT current_user")


async def current_user_of_connection(url: str) -> object:
    def ask() -> object:
        with open_connection(url) as connection:
            connection.execute("SELECT 1")
            connection.rollback()
            (name,) = cast(tuple[str], connection.execute("SELECT current_user").fetchone())
            return name

    return await asyncio.to_thread(ask)


async def current_user_of_writer(url: str) -> object:
    async with await connect_as_writer(url, "test") as connection:
        cursor = await connection.execute("SELECT current_user")
        (name,) = cast(tuple[str], await cursor.fetchone())
        return name


WAYS_IN = [current_user_of_engine, current_user_of_connection, current_user_of_writer]


@pytest.mark.parametrize("ask", WAYS_IN)
async def test_even_a_superuser_works_as_the_writer(database_url: str, ask: Callable[[str], object]) -> None:
    assert await cast(Callable[[str], "asyncio.Future[object]"], ask)(database_url) == "recstream_writer"


@pytest.mark.parametrize("ask", WAYS_IN)
async def test_a_login_that_nobody_has_granted_the_role_is_told_what_to_ask_for(
    database_url: str, postgres: EmbeddedPostgres, ask: Callable[[str], object]
) -> None:
    make_login(database_url, "no body")
    with pytest.raises(DatabaseError, match=r'have its administrator run GRANT recstream_writer TO "no body"$') as told:
        await cast(Callable[[str], "asyncio.Future[object]"], ask)(url_of(postgres, database_url, "no%20body"))
    assert "\n" not in str(told.value)


def test_a_login_that_may_not_look_at_the_version_is_told_the_same(
    database_url: str, postgres: EmbeddedPostgres
) -> None:
    make_login(database_url, "no body")
    with pytest.raises(DatabaseError, match=r'GRANT recstream_writer TO "no body"$'):
        require_current(url_of(postgres, database_url, "no%20body"))


def test_a_service_login_that_inherits_nothing_is_as_good(database_url: str, postgres: EmbeddedPostgres) -> None:
    make_login(database_url, "formal", Role.WRITER, rights="NOINHERIT")
    require_current(url_of(postgres, database_url, "formal"))


def test_the_owner_can_be_worked_as_where_it_was_granted(
    database_url: str, postgres: EmbeddedPostgres, service_url: str
) -> None:
    make_login(database_url, "keeper", Role.OWNER)
    with open_connection(url_of(postgres, database_url, "keeper"), role=Role.OWNER) as connection:
        assert connection.execute("DELETE FROM recommendations").rowcount == 0
    with (
        pytest.raises(DatabaseError, match="GRANT recstream_owner TO service"),
        open_connection(service_url, role=Role.OWNER),
    ):
        pytest.fail("it opened")


def test_preparing_a_day_looks_at_nothing_that_its_caller_made(writer: psycopg.Connection) -> None:
    writer.execute("CREATE TEMPORARY TABLE slates (day date) PARTITION BY RANGE (day)")
    writer.execute("SET search_path = pg_temp, public")
    writer.execute("SELECT public.recstream_prepare_day('2026-11-25')")

    attached = "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = 'public.slates_20261125'::regclass"
    assert writer.execute(attached).fetchall() == [("public.slates",)]


@pytest.mark.parametrize("function", ["prepare", "drop", "analyze"])
def test_a_reader_touches_no_build(reader: psycopg.Connection, function: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(f"SELECT recstream_{function}_build(1)".encode())


def test_preparing_a_build_looks_at_nothing_that_its_caller_made(writer: psycopg.Connection) -> None:
    writer.execute("CREATE TEMPORARY TABLE candidate_products (build_id integer) PARTITION BY LIST (build_id)")
    writer.execute(
        "INSERT INTO candidate_builds (state, method, as_of, recipe) VALUES ('building', 'sql', now(), '{}')"
    )
    writer.execute("SET search_path = pg_temp, public")
    writer.execute("SELECT public.recstream_prepare_build(1)")

    attached = "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = 'candidate_products_1'::regclass"
    assert writer.execute(attached).fetchall() == [("public.candidate_products",)]


def test_only_the_writer_prepares_a_day(prepared: str, postgres: EmbeddedPostgres) -> None:
    make_login(prepared, "no body")
    with (
        psycopg.connect(libpq_url(url_of(postgres, prepared, "no%20body"))) as nobody,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        nobody.execute("SELECT recstream_prepare_day('2026-11-24')")


# What follows needs servers on which nobody has made the roles yet.


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    folder = tmp_path_factory.mktemp("fresh")
    try:
        with embedded_postgres(folder) as server:
            yield server
    finally:
        discard_embedded_postgres(folder)


async def test_a_server_without_the_roles_is_told_to_be_initialised(fresh: EmbeddedPostgres) -> None:
    for ask in WAYS_IN:
        with pytest.raises(SchemaError, match="has no role recstream_writer: run `recstream init`"):
            await ask(fresh.url())


def test_a_login_that_may_not_make_roles_says_what_an_administrator_runs_and_then_works(
    fresh: EmbeddedPostgres,
) -> None:
    make_login(fresh.url(), "shop")
    url = url_of(fresh, fresh.url(), "shop")
    wanted = (
        "CREATE ROLE recstream_owner",
        "CREATE ROLE recstream_writer",
        "CREATE ROLE recstream_reader",
        "GRANT recstream_owner TO shop",
        "GRANT USAGE, CREATE ON SCHEMA public TO recstream_owner",
    )

    assert plan_migration(url).missing_rights == wanted
    with pytest.raises(
        SchemaError, match=r"the login shop may not make.*have an administrator run CREATE ROLE"
    ) as told:
        migrate(url)
    assert all(statement in str(told.value) for statement in wanted)
    assert "\n" not in str(told.value)
    assert plan_migration(url).before is None, "nothing was begun"

    administer(fresh.url(), *cast(Sequence[LiteralString], wanted))
    assert plan_migration(url).missing_rights == ()
    migrate(url)
    with pytest.raises(DatabaseError, match="GRANT recstream_writer TO shop"):
        asyncio.run(current_user_of_engine(url))
    administer(fresh.url(), "GRANT recstream_writer TO shop")
    assert asyncio.run(current_user_of_engine(url)) == "recstream_writer"
    assert migrate(url, "base")[1] is None


def test_a_login_that_may_make_roles_and_has_the_database_needs_nobody(fresh: EmbeddedPostgres) -> None:
    make_login(fresh.url(), "dba", rights="CREATEROLE")
    administer(fresh.url(), "ALTER DATABASE recstream OWNER TO dba")
    url = url_of(fresh, fresh.url(), "dba")

    plan = plan_migration(url)
    assert plan.new_roles == ("recstream_owner", "recstream_writer", "recstream_reader")
    assert plan.missing_rights == ()
    migrate(url)
    require_current(url)
    assert asyncio.run(current_user_of_engine(url)) == "recstream_writer", "who made the tables goes on using them"
    make_login(fresh.url(), "other", rights="CREATEROLE")
    with pytest.raises(SchemaError, match="GRANT recstream_owner TO other"):
        plan_migration(url_of(fresh, fresh.url(), "other"))


def test_tables_of_a_former_login_are_updated_by_whoever_may_act_as_it(fresh: EmbeddedPostgres) -> None:
    make_login(fresh.url(), "former")
    administer(fresh.url(), "GRANT CREATE ON SCHEMA public TO former")
    with as_superuser(fresh.url()) as connection:
        connection.execute("CREATE ROLE recstream_owner; CREATE ROLE recstream_writer; CREATE ROLE recstream_reader")
        connection.execute("GRANT recstream_owner TO former")
        connection.execute("GRANT CREATE ON SCHEMA public TO recstream_owner")
    migrate(url_of(fresh, fresh.url(), "former"), "0002")
    make_login(fresh.url(), "later", "recstream_owner")
    later = url_of(fresh, fresh.url(), "later")

    with pytest.raises(SchemaError, match="GRANT former TO later"):
        migrate(later)
    administer(fresh.url(), "GRANT former TO later")
    assert migrate(later)[0] == "0002"


async def test_the_service_plans_in_a_database_that_another_login_made(
    fresh: EmbeddedPostgres,
) -> None:
    await asyncio.to_thread(migrate, fresh.url())
    make_login(fresh.url(), "service", Role.WRITER)
    async with open_engine(url_of(fresh, fresh.url(), "service"), connections=1) as engine:
        run = await add_run(engine, "c")
        assert await partitions_of(engine, run.day) == 4


async def partitions_of(engine: AsyncEngine, day: date) -> object:
    return await scalar(
        engine, "SELECT count(*) FROM pg_inherits WHERE inhrelid::regclass::text LIKE :name", name=f"%_{day:%Y%m%d}"
    )
