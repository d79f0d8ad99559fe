"""What a build finds, what it leaves of former ones, and that nothing that goes wrong takes away what is in service."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.building import build_candidates, drop_build
from pipeline.candidates.builds import Build, BuildState, current_build, find_build, list_builds, take_into_service
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.database import libpq_url
from pipeline.domain import CustomerId, RunKind
from pipeline.erasing import erase_from_tables
from pipeline.errors import BuildFailedError, DatabaseError, InputError, RunConflictError
from tests.fixtures.releases import as_superuser
from tests.fixtures.shop import add_run

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
RECIPE = CandidateRecipe(least_shared=2)
PARTITIONS: LiteralString = (
    "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^candidate_[a-z]+_[0-9]+$' "
    "AND relname LIKE '%%\\_' || %s"
)


@pytest.fixture
def shop(database_url: str) -> Iterator[psycopg.Connection]:
    """A catalog of a, b, c and d, and a connection that may do everything."""
    with as_superuser(database_url) as connection:
        for product_id in "abcd":
            add_product(connection, product_id)
        yield connection


def add_product(shop: psycopg.Connection, product_id: str, name: str | None = None, **columns: str) -> None:
    shop.execute(
        "INSERT INTO products (product_id, name, brand, category) VALUES (%s, %s, %s, %s)",
        [product_id, name or f"Product {product_id}", columns.get("brand"), columns.get("category")],
    )


def add(
    shop: psycopg.Connection,
    customer_id: str,
    products: Sequence[str],
    *,
    days_ago: float = 30,
    kind: str = "purchase",
    value: float | None = 10,
) -> None:
    """An event of each of these products."""
    for product_id in products:
        shop.execute(
            "INSERT INTO events (event_key, customer_id, product_id, kind, value, occurred_at) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            [uuid4(), customer_id, product_id, kind, value, NOW - timedelta(days=days_ago)],
        )


def built(url: str, recipe: CandidateRecipe = RECIPE, *, trial: bool = False) -> Build:
    return build_candidates(url, recipe, as_of=NOW, method="sql", trial=trial)


def neighbours(shop: psycopg.Connection, build: Build) -> dict[str, dict[str, float]]:
    """Of each product with any its neighbours and their weights, heaviest first."""
    rows = shop.execute(
        "SELECT source.product_id, target.product_id, weight "
        "FROM candidate_neighbours AS found, unnest(neighbours, weights) WITH ORDINALITY "
        "AS one (number, weight, place), "
        "candidate_products AS source, candidate_products AS target "
        "WHERE found.build_id = %(build)s AND (source.build_id, source.number) = (%(build)s, found.number) "
        "AND (target.build_id, target.number) = (%(build)s, one.number) ORDER BY 1, place",
        {"build": build.build_id},
    ).fetchall()
    found: dict[str, dict[str, float]] = {}
    for source, target, weight in rows:
        found.setdefault(source, {})[target] = weight
    return found


def history(shop: psycopg.Connection, build: Build, customer_id: str) -> list[tuple[str, int, float, float]]:
    """What the build has of a customer: product, days, and days since the first and the last purchase."""
    return shop.execute(
        "SELECT product_id, days, round(first_day::numeric, 1)::float8, round(last_day::numeric, 1)::float8 "
        "FROM candidate_histories AS history, "
        "unnest(numbers, times, first_days, last_days) WITH ORDINALITY "
        "AS one (number, days, first_day, last_day, place) "
        "JOIN candidate_products AS product ON product.build_id = %(build)s AND product.number = one.number "
        "WHERE history.build_id = %(build)s AND customer_id = %(customer)s ORDER BY place",
        {"build": build.build_id, "customer": customer_id},
    ).fetchall()


def three_customers(shop: psycopg.Connection) -> None:
    add(shop, "x", "ab")
    add(shop, "y", "abc")
    add(shop, "z", "ad", days_ago=3)


def test_weights_are_those_of_the_formula(shop: psycopg.Connection, database_url: str) -> None:
    three_customers(shop)
    found = neighbours(shop, built(database_url))

    g = 1 / 2 + 1 / 3  # of a and b: x has two products, y three
    assert list(found) == ["a", "b"], "c and d share no two customers with anything"
    assert found["a"]["b"] == pytest.approx(g / (math.sqrt(3) * 2) * math.sqrt(0 + 0.1))
    assert found["b"]["a"] == pytest.approx(g / (math.sqrt(2) * 3) * math.sqrt(1 + 0.1))


def test_only_the_heaviest_neighbours_are_kept_and_the_heaviest_comes_first(
    shop: psycopg.Connection, database_url: str
) -> None:
    for customer_id in ("x", "y", "z"):
        add(shop, customer_id, "abc")
    for customer_id in ("v", "w"):
        add(shop, customer_id, "ad")
    everything = neighbours(shop, built(database_url))
    two = neighbours(shop, built(database_url, RECIPE.model_copy(update={"neighbours": 2})))

    assert len(everything["a"]) == 3
    assert list(everything["a"].values()) == sorted(everything["a"].values(), reverse=True)
    assert list(two["a"].items()) == list(everything["a"].items())[:2]


def test_nothing_after_the_as_of_time_is_known(shop: psycopg.Connection, database_url: str) -> None:
    three_customers(shop)
    before = neighbours(shop, built(database_url))
    for customer_id in ("x", "y", "z"):
        add(shop, customer_id, "cd", days_ago=-0.1)
    build = built(database_url)

    assert neighbours(shop, build) == before
    assert [product_id for product_id, *_ in history(shop, build, "x")] == ["a", "b"]


def test_a_history_has_each_product_once_the_newest_first_and_counts_days(
    shop: psycopg.Connection, database_url: str
) -> None:
    add(shop, "x", "a", days_ago=40)
    add(shop, "x", "ab", days_ago=10)
    add(shop, "x", "a", days_ago=10)  # told twice
    add(shop, "x", "c", days_ago=2.5)

    assert history(shop, built(database_url), "x") == [("c", 1, 2.5, 2.5), ("a", 2, 40, 10), ("b", 1, 10, 10)]


@pytest.mark.parametrize("returned", [10, 10_000, None])
def test_what_was_given_back_wholly_does_not_count(
    shop: psycopg.Connection, database_url: str, returned: float | None
) -> None:
    add(shop, "x", "ab")
    add(shop, "x", "a", kind="return", value=returned, days_ago=20)
    assert [product_id for product_id, *_ in history(shop, built(database_url), "x")] == ["b"]


def test_where_the_value_of_one_is_unknown_what_was_given_back_is_counted(
    shop: psycopg.Connection, database_url: str
) -> None:
    add(shop, "x", "ab", days_ago=30)
    add(shop, "x", "ab", kind="return", days_ago=20)
    add(shop, "x", "a", value=None, days_ago=10)  # bought again
    assert [product_id for product_id, *_ in history(shop, built(database_url), "x")] == ["a"]


def test_what_was_given_back_in_part_counts(shop: psycopg.Connection, database_url: str) -> None:
    add(shop, "x", "a")
    add(shop, "x", "a", kind="return", value=4, days_ago=20)
    add(shop, "x", "b", kind="return")  # bought before our time
    assert [product_id for product_id, *_ in history(shop, built(database_url), "x")] == ["a"]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York"])
def test_the_time_zone_of_the_session_changes_nothing(
    shop: psycopg.Connection, database_url: str, zone: LiteralString
) -> None:
    three_customers(shop)
    for hours in (0, 2, 11):  # of one day by UTC, of two in the others
        add(shop, "x", "c", days_ago=100 + hours / 24)
    shop.execute(f"ALTER DATABASE {shop.info.dbname} SET timezone = '{zone}'".encode())
    build = built(database_url)

    assert history(shop, build, "x")[-1] == ("c", 1, 100.5, 100)
    assert build.as_of == NOW
    assert build.as_of.tzinfo is UTC


def test_products_that_have_left_the_catalog_still_tell_who_is_like_whom(
    shop: psycopg.Connection, database_url: str
) -> None:
    three_customers(shop)
    add(shop, "x", ["gone"])
    add(shop, "y", ["gone"])
    assert set(neighbours(shop, built(database_url))["gone"]) == {"a", "b"}


def test_ids_may_be_long(shop: psycopg.Connection, database_url: str) -> None:
    customer_ids, long = ["ü" * 199 + end for end in "123"], "p" * 199 + "'"
    for customer_id in customer_ids:
        add(shop, customer_id, ["a", long])
    build = built(database_url)

    assert list(neighbours(shop, build)["a"]) == [long]
    assert len(history(shop, build, customer_ids[0])) == 2


def test_of_a_customer_with_very_many_products_his_newest_make_pairs(
    shop: psycopg.Connection, database_url: str
) -> None:
    for customer_id in ("x", "y"):
        add(shop, customer_id, "cd", days_ago=300)
        add(shop, customer_id, "ab", days_ago=3)
    build = built(database_url, RECIPE.model_copy(update={"history": 2}))

    found = neighbours(shop, build)
    assert set(found) == {"a", "b"}
    assert found["a"]["b"] == pytest.approx((1 / 2 + 1 / 2) / (math.sqrt(2) * 2) * math.sqrt(2.1))
    assert len(history(shop, build, "x")) == 4, "he owns all of them"


async def test_a_shop_without_a_purchase_gets_an_empty_build_and_hears_so(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    told: list[str] = []
    build = build_candidates(database_url, RECIPE, tell=told.append)

    assert (build.customers, build.purchases, build.pairs, build.products) == (0, 0, 0, 4)
    assert "nobody has purchased anything yet: popularity serves" in told
    assert await current_build(engine) == build


def test_a_newcomer_is_found_by_what_it_is_like(shop: psycopg.Connection, database_url: str) -> None:
    add_product(shop, "mug", "Red coffee mug", category="Kitchen")
    add_product(shop, "tent", "Tent for two", category="Camping")
    add_product(shop, "new", "Blue coffee mug", category="Kitchen")
    for customer_id in ("x", "y", "z"):
        add(shop, customer_id, ["mug", "tent"])
    build = built(database_url)

    rows = shop.execute(
        "SELECT source.product_id, target.product_id FROM candidate_newcomers AS found, unnest(newcomers) AS one, "
        "candidate_products AS source, candidate_products AS target "
        "WHERE found.build_id = %(build)s AND (source.build_id, source.number) = (%(build)s, found.number) "
        "AND (target.build_id, target.number) = (%(build)s, one)",
        {"build": build.build_id},
    ).fetchall()
    assert rows == [("mug", "new")]


def test_of_two_newcomers_the_one_that_is_less_of_anything_else_is_the_likest(
    shop: psycopg.Connection, database_url: str
) -> None:
    add_product(shop, "mug", "Red coffee mug")
    add_product(shop, "1 set", "Blue coffee mug with a kettle, a tray and six spoons")
    add_product(shop, "2 mug", "Blue coffee mug")
    shop.execute("INSERT INTO products (product_id, name, hidden) VALUES ('0 off', 'Red coffee mug', true)")
    for customer_id in ("x", "y", "z"):
        add(shop, customer_id, ["mug"])
    build = built(database_url)

    rows = shop.execute(
        "SELECT product_id FROM candidate_newcomers AS found, "
        "unnest(newcomers) WITH ORDINALITY AS one (number, place), candidate_products AS product "
        "WHERE found.build_id = %(build)s AND (product.build_id, product.number) = (%(build)s, one.number) "
        "ORDER BY place",
        {"build": build.build_id},
    ).fetchall()
    assert rows == [("2 mug",), ("1 set",)]


def test_who_bought_when_the_days_began_is_no_recent_buyer(shop: psycopg.Connection, database_url: str) -> None:
    add(shop, "x", "a", days_ago=RECIPE.popularity_days)
    add(shop, "y", "a", days_ago=RECIPE.popularity_days - 0.01)
    build = built(database_url)
    counted = "SELECT buyers, recent_buyers FROM candidate_products WHERE build_id = %s AND product_id = 'a'"
    assert shop.execute(counted, [build.build_id]).fetchone() == (2, 1)


async def test_the_former_build_stays_and_the_one_before_it_goes(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    three_customers(shop)
    first, second, third = (built(database_url) for _ in range(3))

    assert [build.state for build in await list_builds(engine, 10)] == [
        BuildState.READY, BuildState.READY, BuildState.DROPPED,
    ]  # fmt: skip
    assert await current_build(engine) == third
    assert neighbours(shop, second) == neighbours(shop, third)
    assert partitions(shop, first) == 0


async def test_a_build_that_a_run_has_begun_with_stays_until_the_run_has_ended(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    three_customers(shop)
    first = built(database_url)
    run = await add_run(engine, "x", kind=RunKind.ON_DEMAND)
    built(database_url)
    built(database_url)
    assert partitions(shop, first) == 4, "also before the first of its slates is made"

    shop.execute("UPDATE runs SET state = 'cancelled' WHERE run_id = %s", [run.run_id])
    built(database_url)
    assert partitions(shop, first) == 0


async def test_a_build_stays_as_long_as_its_night_is_one_of_the_last_three_and_can_be_resumed(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    three_customers(shop)
    first = built(database_url)
    await add_run(engine, "x")
    shop.execute("UPDATE runs SET state = 'cancelled'")
    for _ in range(2):
        built(database_url)
        await add_run(engine, "x")
    shop.execute("UPDATE runs SET state = 'cancelled'")
    built(database_url)
    assert partitions(shop, first) == 4

    await add_run(engine, "x")
    built(database_url)
    assert partitions(shop, first) == 0


@pytest.mark.parametrize("ended", ["state = 'finished'", "pruned_at = now()"])
async def test_a_build_of_a_night_that_cannot_be_resumed_goes(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine, ended: LiteralString
) -> None:
    three_customers(shop)
    first = built(database_url)
    await add_run(engine, "x")
    shop.execute("UPDATE runs SET state = 'running'")
    shop.execute("UPDATE runs SET state = 'failed'")
    built(database_url)
    if ended.startswith("state"):
        shop.execute("UPDATE runs SET state = 'running'")
    shop.execute(f"UPDATE runs SET {ended}".encode())
    built(database_url)
    assert partitions(shop, first) == 0


def test_what_is_taken_into_service_meanwhile_is_not_dropped(shop: psycopg.Connection, database_url: str) -> None:
    first = built(database_url)
    built(database_url)
    with ThreadPoolExecutor() as threads, psycopg.connect(libpq_url(database_url)) as using:
        using.execute(
            "UPDATE candidate_builds SET in_service_at = clock_timestamp() WHERE build_id = %s", [first.build_id]
        )
        dropping = threads.submit(drop_build, database_url, first.build_id)
        waits(shop, "transactionid")
        using.commit()
        with pytest.raises(DatabaseError, match=f"build {first.build_id} is in service"):
            dropping.result(timeout=60)
    assert partitions(shop, first) == 4


async def test_a_build_by_a_recipe_of_another_version_serves(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    build = built(database_url)
    shop.execute("""UPDATE candidate_builds SET recipe = recipe - 'neighbours' || '{"later": 1}'""")
    current = await current_build(engine)
    assert current is not None
    assert current.recipe == build.recipe


async def test_what_was_made_on_trial_does_not_push_the_one_in_service_off_the_list(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    serving = built(database_url)
    later = [built(database_url) for _ in range(2)]
    await take_into_service(engine, later[0].build_id)
    trial = built(database_url, trial=True)

    assert [it.build_id for it in await list_builds(engine, 1)] == [later[1].build_id, later[0].build_id]
    everything = [trial.build_id, later[1].build_id, later[0].build_id, serving.build_id]
    assert [it.build_id for it in await list_builds(engine, 4, trials=True)] == everything


def test_nothing_is_built_as_of_the_future(shop: psycopg.Connection, database_url: str) -> None:
    with pytest.raises(InputError, match="cannot be built as of 2099-01-01 00:00 UTC: that is in the future"):
        build_candidates(database_url, RECIPE, as_of=datetime(2099, 1, 1, tzinfo=UTC))
    assert shop.execute("SELECT FROM candidate_builds").fetchall() == []


def test_without_the_right_to_temporary_tables_it_says_which_it_takes(
    shop: psycopg.Connection, database_url: str
) -> None:
    shop.execute(f"REVOKE TEMPORARY ON DATABASE {shop.info.dbname} FROM PUBLIC".encode())
    needed = rf"GRANT TEMPORARY ON DATABASE \"?{shop.info.dbname}\"? TO recstream_writer"
    with pytest.raises(DatabaseError, match=needed):
        built(database_url)
    shop.execute(f"GRANT TEMPORARY ON DATABASE {shop.info.dbname} TO recstream_writer".encode())
    built(database_url)


async def test_whatever_ends_a_build_is_told_in_our_words_and_nothing_of_it_is_left(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    three_customers(shop)
    before = built(database_url)

    def run_out(_: str) -> None:
        raise MemoryError("Unable to allocate 3 GiB")

    with pytest.raises(BuildFailedError, match=r"out of memory: Unable to allocate 3 GiB .*stays") as told:
        build_candidates(database_url, RECIPE, as_of=NOW, tell=run_out)

    assert isinstance(told.value.__cause__, MemoryError)
    assert await current_build(engine) == before
    failed = (await list_builds(engine, 1))[0]
    assert (failed.state, partitions(shop, failed)) == (BuildState.FAILED, 0)


async def test_a_build_on_trial_is_never_in_service_and_is_dropped_by_whoever_made_it(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    three_customers(shop)
    serving = built(database_url)
    trial = built(database_url, trial=True)
    assert await current_build(engine) == serving
    with pytest.raises(InputError, match=f"build {trial.build_id} cannot be in service: it was made on trial"):
        await take_into_service(engine, trial.build_id)

    drop_build(database_url, trial.build_id)
    assert partitions(shop, trial) == 0
    assert partitions(shop, serving) == 4


def test_what_is_in_service_is_not_dropped(shop: psycopg.Connection, database_url: str) -> None:
    build = built(database_url)
    with pytest.raises(DatabaseError, match=f"build {build.build_id} is in service"):
        drop_build(database_url, build.build_id)
    assert partitions(shop, build) == 4


async def test_a_former_build_can_be_taken_into_service_again(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    first, second = built(database_url), built(database_url)
    assert await current_build(engine) == second
    taken = await take_into_service(engine, first.build_id)
    assert await current_build(engine) == taken
    assert taken.build_id == first.build_id
    with pytest.raises(InputError, match="there is no build 99"):
        await take_into_service(engine, 99)


def test_nothing_is_in_service_for_ever(shop: psycopg.Connection, database_url: str) -> None:
    built(database_url)
    with pytest.raises(psycopg.errors.CheckViolation):
        shop.execute("UPDATE candidate_builds SET in_service_at = 'infinity'")


def test_two_are_not_built_at_a_time(shop: psycopg.Connection, database_url: str) -> None:
    refused: list[str] = []

    def try_another(_: str) -> None:
        with pytest.raises(RunConflictError, match="candidates are being built by another process") as told:
            built(database_url)
        refused.append(str(told.value))

    build_candidates(database_url, RECIPE, as_of=NOW, tell=try_another)
    assert refused
    built(database_url)  # the lock went with the first


Hindrance = Callable[[psycopg.Connection], None]


def _statements_end_soon(shop: psycopg.Connection) -> None:
    shop.execute("CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); END'")
    shop.execute("CREATE TRIGGER wait BEFORE INSERT ON candidate_neighbours FOR EACH ROW EXECUTE FUNCTION wait()")
    shop.execute(f"ALTER DATABASE {shop.info.dbname} SET statement_timeout = '500ms'".encode())


def _no_room_for_temporary_files(shop: psycopg.Connection) -> None:
    shop.execute(f"ALTER DATABASE {shop.info.dbname} SET temp_file_limit = 0".encode())
    shop.execute(
        "INSERT INTO events (event_key, customer_id, product_id, kind, occurred_at) "
        "SELECT gen_random_uuid(), repeat('x', 180) || one, 'a', 'purchase', '2026-01-01 12:00+00' "
        "FROM generate_series(1, 400000) AS one"
    )


def _disk_full(shop: psycopg.Connection) -> None:
    shop.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END$$"
    )
    shop.execute(
        "CREATE TRIGGER full_disk BEFORE INSERT ON candidate_neighbours FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )


@pytest.mark.parametrize(
    ("hinder", "said"),
    [
        (_statements_end_soon, "canceling statement due to statement timeout"),
        (_no_room_for_temporary_files, "temporary file size exceeds"),
        (_disk_full, "No space left on device"),
    ],
)
async def test_a_build_that_fails_leaves_the_former_in_service_and_nothing_of_itself(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine, hinder: Hindrance, said: str
) -> None:
    three_customers(shop)
    before = built(database_url)
    hinder(shop)
    with pytest.raises(
        DatabaseError, match=rf"candidates could not be built: .*{said}.*; the build in service stays"
    ) as told:
        built(database_url)

    assert "\n" not in str(told.value)
    assert await current_build(engine) == before
    assert neighbours(shop, before)
    failed = (await list_builds(engine, 1))[0]
    assert failed.state is BuildState.FAILED
    assert said in (failed.reason or "")
    assert partitions(shop, failed) == 0


async def test_what_a_killed_build_left_goes_with_the_next(
    shop: psycopg.Connection, database_url: str, engine: AsyncEngine
) -> None:
    three_customers(shop)

    def kill(_: str) -> None:
        shop.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'recstream candidates'"
        )

    before = built(database_url)
    with pytest.raises(DatabaseError):
        build_candidates(database_url, RECIPE, as_of=NOW, method="sql", tell=kill)
    killed = (await list_builds(engine, 1))[0]
    assert (killed.state, partitions(shop, killed)) == (BuildState.BUILDING, 4)
    assert await current_build(engine) == before

    after = built(database_url)
    dead = await find_build(engine, killed.build_id)
    assert dead is not None
    assert (dead.state, dead.reason) == (BuildState.FAILED, "its process ended before it was whole")
    assert partitions(shop, killed) == 0
    assert await current_build(engine) == after


def test_readers_of_the_former_build_wait_for_nothing(shop: psycopg.Connection, database_url: str) -> None:
    three_customers(shop)
    first = built(database_url)
    built(database_url)
    with psycopg.connect(libpq_url(database_url)) as reader:
        reader.execute("SELECT FROM candidate_neighbours WHERE build_id = %s", [first.build_id])
        third = built(database_url)  # would drop the first, and leaves it to the next
        assert partitions(shop, first) == 4
        assert partitions(shop, third) == 4
        assert neighbours(reader, first)
    built(database_url)
    assert partitions(shop, first) == 0


def test_an_erased_customer_is_in_no_build(shop: psycopg.Connection, database_url: str) -> None:
    three_customers(shop)
    builds = [built(database_url), built(database_url)]
    erased = erase_from_tables(database_url, CustomerId("x"))

    for build in builds:
        assert erased.rows[f"candidate_histories_{build.build_id}"] == 1
        assert history(shop, build, "x") == []
        assert history(shop, build, "y") != []


def test_who_is_erased_while_candidates_are_built_is_not_in_them(shop: psycopg.Connection, database_url: str) -> None:
    three_customers(shop)
    with ThreadPoolExecutor() as threads, psycopg.connect(libpq_url(database_url)) as erasing:
        erasing.execute("SELECT pg_advisory_xact_lock(hashtext('recstream: purchases are read'))")
        building = threads.submit(built, database_url)
        erasing.execute("DELETE FROM events WHERE customer_id = 'x'")
        waits(shop)
        erasing.commit()
        build = building.result(timeout=60)
    assert history(shop, build, "x") == []
    assert history(shop, build, "y") != []


def waits(shop: psycopg.Connection, kind: LiteralString = "advisory") -> None:
    """Return when somebody waits for a lock of this kind; a minute at most."""
    waiting = f"SELECT count(*) FROM pg_locks WHERE locktype = '{kind}' AND NOT granted"
    shop.execute(
        "DO $$ BEGIN FOR turn IN 1..6000 LOOP "
        f"EXIT WHEN ({waiting}) > 0; PERFORM pg_sleep(0.01); END LOOP; END $$".encode()
    )
    assert shop.execute(waiting.encode()).fetchone() != (0,)


def partitions(shop: psycopg.Connection, build: Build) -> int:
    """How many partitions there are of a build."""
    row = shop.execute(PARTITIONS, [str(build.build_id)]).fetchone()
    assert row is not None
    return int(row[0])
