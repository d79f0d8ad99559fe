"""A database fits the code or is told what to do; and what a migration would do is said before it does it."""

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_connection, open_engine
from pipeline.domain import CustomerId, RunKind
from pipeline.errors import ConfigurationError, DatabaseError, SchemaError
from pipeline.runs import plan_run
from pipeline.schema import migrate, plan_migration
from pipeline.schema_version import known_versions, require_current
from tests.fixtures.releases import administer, tables_of
from tests.fixtures.shop import RANKER, add_run, change, scalar

HEAD = "0018"


def test_a_database_without_tables_is_told_to_be_initialised(empty_database_url: str) -> None:
    with pytest.raises(SchemaError, match="has no recstream tables: run `recstream init`"):
        require_current(empty_database_url)


@pytest.mark.usefixtures("template")  # the cluster has the roles, by another database
def test_a_database_of_before_the_roles_in_a_cluster_that_has_them(empty_database_url: str) -> None:
    migrate(empty_database_url, "0002")

    with pytest.raises(SchemaError, match=f"is at version 0002, this recstream needs {HEAD}: run `recstream init`"):
        require_current(empty_database_url)


def test_a_current_database_is_good(database_url: str) -> None:
    require_current(database_url)


def test_a_newer_database_is_neither_used_nor_changed(database_url: str) -> None:
    administer(database_url, "UPDATE alembic_version SET version_num = '9999'")

    for look in (require_current, migrate, plan_migration):
        with pytest.raises(SchemaError, match=r"9999.*install a newer recstream"):
            look(database_url)
    assert "recommendations" in tables_of(database_url)


def test_an_unknown_version_is_refused_in_one_line(database_url: str) -> None:
    with pytest.raises(SchemaError, match="'0815' is unknown") as refused:
        migrate(database_url, "0815")
    assert "\n" not in str(refused.value)


def test_the_plan_of_an_empty_database_names_every_step_and_changes_nothing(empty_database_url: str) -> None:
    plan = plan_migration(empty_database_url)

    assert (plan.before, plan.after) == (None, HEAD)
    assert [step.version for step in plan.steps] == [
        "0001",
        "0002",
        "0003",
        "0004",
        "0005",
        "0006",
        "0007",
        "0008",
        "0009",
        "0010",
        "0011",
        "0012",
        "0013",
        "0014",
        "0015",
        "0016",
        "0017",
        "0018",
    ]
    assert plan.steps[0].purpose.startswith("The first tables: ")
    assert all("\n" not in step.purpose for step in plan.steps)
    assert (plan.standing.schema, plan.missing_rights) == ("public", ())
    assert tables_of(empty_database_url) == set()


def test_the_plan_of_a_released_database_names_the_steps_that_are_left(empty_database_url: str) -> None:
    migrate(empty_database_url, "0002")

    plan = plan_migration(empty_database_url)
    assert plan.before == "0002"
    assert [step.version for step in plan.steps] == [
        "0003",
        "0004",
        "0005",
        "0006",
        "0007",
        "0008",
        "0009",
        "0010",
        "0011",
        "0012",
        "0013",
        "0014",
        "0015",
        "0016",
        "0017",
        "0018",
    ]


def test_the_plan_of_a_current_database_has_no_step(database_url: str) -> None:
    plan = plan_migration(database_url)

    assert (plan.before, plan.after, plan.steps, plan.new_roles) == (HEAD, HEAD, (), ())


@pytest.fixture
def elsewhere(empty_database_url: str) -> str:
    """A database whose address leads to a schema of its own."""
    administer(empty_database_url, "CREATE SCHEMA shop")
    return f"{empty_database_url}&options=-csearch_path%3Dshop"


async def test_a_schema_that_the_address_names_is_used_by_all(elsewhere: str, empty_database_url: str) -> None:
    migrate(elsewhere)
    require_current(elsewhere)

    async with open_engine(elsewhere, connections=1) as engine:
        run = await add_run(engine, "c", kind=RunKind.ON_DEMAND)
        assert await scalar(engine, "SELECT customer_id FROM slates WHERE day = :day", day=run.day) == CustomerId("c")
        assert await scalar(engine, "SELECT count(*) FROM current_recommendations") == 0
    assert tables_of(empty_database_url) == set(), "nothing lies in the schema public"
    assert migrate(elsewhere, "base") == (HEAD, None)


def test_a_schema_that_is_not_there_is_told_before_anything_is_made(empty_database_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no schema of the search path 'nowhere'.*csearch_path") as refused:
        migrate(f"{empty_database_url}&options=-csearch_path%3Dnowhere")
    assert "\n" not in str(refused.value)


def test_a_schema_that_only_this_login_would_find_is_refused(empty_database_url: str) -> None:
    with open_connection(empty_database_url, role=None) as connection:
        login = connection.info.user
        connection.execute(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(login)))

    for look in (migrate, plan_migration):
        with pytest.raises(ConfigurationError, match=f"leads this login alone: name the schema.*%3D{login}"):
            look(empty_database_url)
    named = f"{empty_database_url}&options=-csearch_path%3D{login}"
    assert migrate(named) == (None, HEAD)
    require_current(named)


CATALOG = """
    CREATE SCHEMA own;
    CREATE TABLE own.articles (number bigint PRIMARY KEY, title text NOT NULL, stock integer NOT NULL);
    INSERT INTO own.articles VALUES (1, 'Laptop', 5), (2, 'Kindle', 0);
    CREATE VIEW own.products AS
    SELECT number::text AS product_id, title AS name, CAST(NULL AS text) AS description, CAST(NULL AS text) AS brand,
           CAST(NULL AS text) AS category, CAST(NULL AS numeric(14, 2)) AS price, stock > 0 AS available,
           false AS hidden, CAST('{}' AS jsonb) AS attributes, now() AS updated_at
    FROM own.articles;
"""
REPLACED = """
    BEGIN;
    ALTER TABLE products RENAME TO products_unused;
    ALTER VIEW own.products SET SCHEMA public;
    GRANT SELECT ON products TO recstream_owner, recstream_writer;
    SELECT recstream_bind_views();
    COMMIT;
"""


LACKING = """
    BEGIN;
    ALTER TABLE products RENAME TO products_unused;
    CREATE VIEW products AS
    SELECT number AS product_id, title AS name, CAST(NULL AS text) AS description, CAST(NULL AS text) AS category,
           CAST(NULL AS numeric) AS price, stock > 0 AS available, false AS hidden, CAST('{}' AS jsonb) AS attributes,
           now() AS updated_at
    FROM own.articles;
    SELECT recstream_bind_views();
"""
ANEW = """
    BEGIN;
    DROP VIEW products CASCADE;
    CREATE VIEW products AS SELECT * FROM products_unused;
    GRANT SELECT ON products TO recstream_owner, recstream_writer;
    SELECT recstream_bind_views();
    COMMIT;
"""


def test_a_view_that_lacks_what_we_read_is_refused_with_its_names(database_url: str) -> None:
    with pytest.raises(DatabaseError, match="recstream reads columns that are not there: ") as refused:
        administer(database_url, CATALOG, LACKING)
    lacking = {"products.product_id of type text", "products.brand of type text"}
    assert set(str(refused.value).partition("not there: ")[2].split(", ")) == lacking


async def test_views_that_a_shop_dropped_with_its_own_are_made_anew_for_whoever_read_them(
    admin: AsyncEngine, database_url: str
) -> None:
    administer(database_url, CATALOG, REPLACED, ANEW)

    rights = "SELECT has_table_privilege('recstream_reader', 'current_recommendations', 'SELECT')"
    assert await scalar(admin, rights) is True
    owner = "SELECT DISTINCT viewowner FROM pg_views WHERE viewname LIKE '%\\_recommendations'"
    assert await scalar(admin, owner) == "recstream_owner"


async def test_a_view_of_the_shop_takes_the_place_of_a_table(admin: AsyncEngine, database_url: str) -> None:
    administer(database_url, CATALOG, REPLACED)
    await change(admin, "INSERT INTO customers (customer_id) VALUES ('c')")
    async with open_engine(database_url, connections=1) as engine:
        run = await plan_run(engine, RunKind.NIGHTLY, RANKER, slate_size=2, shard_size=1)  # the catalog is the shop's
        for rank in (1, 2):
            await change(
                engine,
                "INSERT INTO recommendations (run_id, customer_id, rank, day, product_id, product_name,"
                " relevance_score, provenance, attempt)"
                " VALUES (:run_id, 'c', :rank, :day, CAST(:rank AS text), 'Name', 1, 'language_model', 1)",
                run_id=run.run_id,
                rank=rank,
                day=run.day,
            )
    await change(admin, "UPDATE slates SET state = 'streaming'")
    await change(admin, "UPDATE slates SET state = 'complete'")
    await change(admin, "INSERT INTO published (customer_id, run_id, day) SELECT customer_id, run_id, day FROM slates")
    readers_see = "SELECT string_agg(product_id, ' ') FROM current_recommendations"

    assert await scalar(admin, readers_see) == "1", "the second is out of stock, by the shop's own table"
    await change(admin, "UPDATE own.articles SET stock = 1 - CAST(stock > 0 AS integer)")
    assert await scalar(admin, readers_see) == "2"


def test_the_versions_that_commands_know_are_those_that_the_migrations_lead_to(empty_database_url: str) -> None:
    assert list(known_versions()) == [step.version for step in plan_migration(empty_database_url).steps]
