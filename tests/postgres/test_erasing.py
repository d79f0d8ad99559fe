"""Erasing a customer, on a real database and real files: nothing of him is left, nothing of others is touched."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import libpq_url, open_connection
from pipeline.domain import CustomerId, RunKind
from pipeline.erasing import erase_from_tables, find_our_tables, verify_tables
from pipeline.erasing_files import erase_from_files
from pipeline.errors import DatabaseError, InputError, SlateTakenOverError
from pipeline.group_commit import open_group_commit
from pipeline.loading import load_file, remember_rejects
from pipeline.pruning import prune
from pipeline.runs import plan_run
from tests.fixtures.shop import RANKER, add_customer, add_event, add_product, add_run, change, read, row_of

HIM = CustomerId("ann")
BOB = CustomerId("bob")


_ROW_IN_EACH = (
    """
    INSERT INTO slates (run_id, customer_id, day, shard, state)
    VALUES (%(run_id)s, %(customer_id)s, %(day)s, 0, 'complete')
    """,
    """
    INSERT INTO recommendations (run_id, customer_id, day, rank, product_id, product_name, relevance_score, provenance,
                                 attempt)
    VALUES (%(run_id)s, %(customer_id)s, %(day)s, 1, 'p1', 'P', 0.5, 'language_model', 1)
    """,
    """
    INSERT INTO rejections (run_id, customer_id, attempt, number, day, reason, detail, raw)
    VALUES (%(run_id)s, %(customer_id)s, 1, 1, %(day)s, 'not_json', 'd', 'r')
    """,
    """
    INSERT INTO llm_calls (run_id, customer_id, attempt, lease, day, ending)
    VALUES (%(run_id)s, %(customer_id)s, 1, 1, %(day)s, 'enough')
    """,
    """
    INSERT INTO published (customer_id, run_id, day) VALUES (%(customer_id)s, %(run_id)s, %(day)s)
    ON CONFLICT DO NOTHING
    """,
)


@pytest.fixture
def shop(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection that may do everything, in a shop where two customers have a row in every table of two days."""
    with open_connection(database_url, autocommit=True, role=None) as connection:
        connection.execute("INSERT INTO products (product_id, name) VALUES ('p1', 'Product 12')")
        for customer_id in (HIM, BOB):
            connection.execute("INSERT INTO customers (customer_id) VALUES (%s)", [customer_id])
            connection.execute(
                "INSERT INTO events (event_key, customer_id, product_id, kind, occurred_at) "
                "VALUES (gen_random_uuid(), %s, 'p1', 'purchase', now())",
                [customer_id],
            )
        for day in ("0001-01-01", "2024-03-11", "2024-03-12"):
            add_rows(connection, day, HIM, BOB)
        yield connection


def add_rows(shop: psycopg.Connection, day: str, *customers: str) -> UUID:
    """A run of that day, and a row of each of these customers in every table of the ledger."""
    if day > "2000":
        shop.execute("SELECT recstream_prepare_day(%s)", [day])
    made = shop.execute(
        "INSERT INTO runs (run_id, kind, state, model, endpoint, provenance, slate_size, temperature, prompt_version, "
        "code_version, as_of, day, shuffle_seed, parameters) VALUES (gen_random_uuid(), 'nightly', 'finished', 'm', "
        "'e', 'language_model', 3, 0.1, 'v', 'v', now(), %s, 0, %s) RETURNING run_id",
        [day, json.dumps({"shard_size": 12, "only": list(customers)})],
    ).fetchone()
    assert made is not None
    values = {"run_id": made[0], "day": day}
    for customer_id in customers:
        for statement in _ROW_IN_EACH:
            shop.execute(statement.encode(), {**values, "customer_id": customer_id})
    return UUID(str(made[0]))


def rows_of(shop: psycopg.Connection, customer_id: str) -> dict[str, int]:
    """Of every table that has customers: how many rows are this one's."""
    found = {}
    for table in find_our_tables(shop):
        if "customer_id" in table.columns:
            row = shop.execute(
                f"SELECT count(*) FROM {table.name} WHERE customer_id = %s".encode(), [customer_id]
            ).fetchone()
            assert row is not None
            found[table.name] = row[0]
    return found


def test_he_leaves_every_table_and_partition_and_everybody_else_stays(
    shop: psycopg.Connection, database_url: str
) -> None:
    his, others = rows_of(shop, HIM), rows_of(shop, BOB)
    assert len(his) == 3 + 4 * 3
    assert all(number == 1 for number in his.values())

    erased = erase_from_tables(database_url, HIM)

    assert erased.known
    assert erased.rows == {**his, "runs.parameters": 3}
    assert set(rows_of(shop, HIM).values()) == {0}
    assert rows_of(shop, BOB) == others
    assert verify_tables(database_url, HIM).found == {}
    found = shop.execute("SELECT DISTINCT parameters FROM runs").fetchall()
    assert found == [({"shard_size": 12, "only": [BOB]},)]


def test_a_partition_on_its_way_out_is_one_of_them(shop: psycopg.Connection, database_url: str) -> None:
    shop.execute("ALTER TABLE llm_calls DETACH PARTITION llm_calls_20240311")
    with psycopg.connect(libpq_url(database_url)) as reader:
        reader.execute("SELECT FROM rejections")
        shop.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            shop.execute("ALTER TABLE rejections DETACH PARTITION rejections_20240311 CONCURRENTLY")

    assert verify_tables(database_url, HIM).found["rejections_20240311.customer_id"] == 1
    rows = erase_from_tables(database_url, HIM).rows

    assert rows["llm_calls_20240311"] == rows["rejections_20240311"] == 1
    assert set(rows_of(shop, HIM).values()) == {0}


def test_a_dry_run_tells_the_same_and_changes_nothing(shop: psycopg.Connection, database_url: str) -> None:
    before = rows_of(shop, HIM)
    foreseen = erase_from_tables(database_url, HIM, dry_run=True)
    assert rows_of(shop, HIM) == before
    assert erase_from_tables(database_url, HIM) == foreseen


def test_erasing_twice_and_erasing_nobody_is_harmless(shop: psycopg.Connection, database_url: str) -> None:
    erase_from_tables(database_url, HIM)
    for customer_id in (HIM, CustomerId("nobody")):
        again = erase_from_tables(database_url, customer_id)
        assert (again.known, again.rows, again.texts) == (False, {}, {})


def test_texts_of_others_that_name_him_are_kept_without_his_name(shop: psycopg.Connection, database_url: str) -> None:
    named = "customer 'ann' is not active; anna and rank ann stay"
    shop.execute("UPDATE runs SET reason = %s", [named])
    shop.execute("UPDATE slates SET reason = %s WHERE customer_id = 'bob'", [named])
    shop.execute("UPDATE llm_calls SET error = %s WHERE customer_id = 'bob'", [named])
    shop.execute(
        "UPDATE rejections SET detail = %s, raw = %s WHERE customer_id = 'bob'", [named, '{"customer": "ann"}']
    )
    assert verify_tables(database_url, HIM).found["rejections_kept.raw"] == 1

    erased = erase_from_tables(database_url, HIM)

    kept = "customer '[erased]' is not active; anna and rank ann stay"
    assert erased.texts == {
        "runs.reason": 3,
        **{
            f"{table}_{day}.{column}": 1
            for table, column in (
                ("slates", "reason"),
                ("llm_calls", "error"),
                ("rejections", "detail"),
                ("rejections", "raw"),
            )
            for day in ("kept", "20240311", "20240312")
        },
    }
    assert shop.execute("SELECT DISTINCT reason FROM runs").fetchall() == [(kept,)]
    assert shop.execute("SELECT DISTINCT detail, raw FROM rejections").fetchall() == [
        (kept, '{"customer": "[erased]"}')
    ]
    assert verify_tables(database_url, HIM).found == {}


def test_a_short_number_is_not_taken_for_a_product_a_rank_or_a_longer_number(
    shop: psycopg.Connection, database_url: str
) -> None:
    shop.execute("INSERT INTO customers (customer_id) VALUES ('1'), ('12'), ('123')")
    shop.execute('UPDATE rejections SET raw = \'{"i": 12, "s": 1}\'')
    before = shop.execute("SELECT * FROM rejections ORDER BY 1, 2, 5").fetchall()

    erased = erase_from_tables(database_url, CustomerId("12"))

    assert (erased.rows, erased.texts) == ({"customers": 1}, {})
    assert shop.execute("SELECT * FROM rejections ORDER BY 1, 2, 5").fetchall() == before
    assert verify_tables(database_url, CustomerId("12")).found == {}
    assert shop.execute("SELECT customer_id FROM customers ORDER BY 1").fetchall() == [
        ("1",),
        ("123",),
        ("ann",),
        ("bob",),
    ]


def test_the_search_finds_an_unmistakable_id_in_any_column_and_says_where(
    shop: psycopg.Connection, database_url: str
) -> None:
    shop.execute("UPDATE customers SET attributes = '{\"friends\": [\"c-1729\"]}' WHERE customer_id = 'bob'")
    shop.execute("UPDATE slates SET candidate_ids = ARRAY['c-1729'] WHERE day = '2024-03-12' AND customer_id = 'bob'")
    erase_from_tables(database_url, CustomerId("c-1729"))
    verified = verify_tables(database_url, CustomerId("c-1729"))
    assert verified.found == {"customers.attributes": 1, "slates_20240312.candidate_ids": 1}
    assert verified.looked_at["recommendations_20240312"] == 2
    assert set(verified.looked_at) == {table.name for table in find_our_tables(shop)}


def test_the_search_knows_every_table_that_there_is(shop: psycopg.Connection) -> None:
    there = {
        name
        for (name,) in shop.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        )
    }
    assert {table.name for table in find_our_tables(shop)} == there


def test_a_view_of_the_shop_is_told_and_searched_and_not_written_to(
    shop: psycopg.Connection, database_url: str
) -> None:
    shop.execute("ALTER TABLE events RENAME TO shop_events")
    shop.execute("CREATE VIEW events AS SELECT * FROM shop_events")
    shop.execute("GRANT SELECT ON events TO recstream_owner")
    erased = erase_from_tables(database_url, HIM)
    assert erased.of_the_shop == ("events",)
    assert "events" not in erased.rows
    assert verify_tables(database_url, HIM).found == {"events.customer_id": 1}


def test_the_writers_role_cannot_erase(shop: psycopg.Connection, database_url: str) -> None:
    shop.execute("CREATE ROLE erasing_test_login LOGIN PASSWORD 'p' IN ROLE recstream_writer")
    try:
        url = database_url.replace("recstream@", "erasing_test_login@", 1).replace(
            "//recstream:", "//erasing_test_login:"
        )
        assert url != database_url
        with pytest.raises(DatabaseError, match="may not act as recstream_owner"):
            erase_from_tables(url, HIM)
    finally:
        shop.execute("DROP ROLE erasing_test_login")


async def test_whoever_serves_him_at_this_moment_can_write_nothing_more_of_him(
    engine: AsyncEngine, database_url: str
) -> None:
    await add_event(engine, HIM, "view", product_id="p")
    run = await add_run(engine, HIM, BOB)
    await change(engine, "UPDATE slates SET state = 'streaming', lease = 1")
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as writer:
        for customer_id in (HIM, BOB):
            await writer.commit(row_of(customer_id, 1, lease=1))

        erase_from_tables(database_url, HIM)

        with pytest.raises(SlateTakenOverError):
            await writer.commit(row_of(HIM, 2, lease=1))
        await writer.commit(row_of(BOB, 2, lease=1))
    assert await read(engine, "SELECT DISTINCT customer_id FROM recommendations") == [(BOB,)]
    assert verify_tables(database_url, HIM).found == {}


_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'runs'::regclass"
_LOCKED_OUT = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND pid <> pg_backend_pid()"
)
# The planner has written its slates, and nothing else, when it comes to wait here.
_HOLD_PLANNING = """
CREATE FUNCTION wait_after_slates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
CREATE TRIGGER wait_after_slates AFTER INSERT ON slates EXECUTE FUNCTION wait_after_slates();
"""


def wait_until(watcher: psycopg.Connection, query: str, number: int = 1, *, or_ended: threading.Thread) -> None:
    """Until the query counts so many, or this thread has ended; a minute at most."""
    pause = threading.Event()
    for _ in range(3_000):
        row = watcher.execute(query.encode()).fetchone()
        if not or_ended.is_alive() or (row is not None and row[0] >= number):
            return
        pause.wait(0.02)
    pytest.fail(f"it did not come to {number} of: {query}")


async def test_a_run_that_is_planned_meanwhile_has_no_slate_for_him(engine: AsyncEngine, database_url: str) -> None:
    await add_product(engine, "p1")
    for customer_id in (HIM, BOB):
        await add_customer(engine, customer_id)
    erasing = threading.Thread(target=erase_from_tables, args=(database_url, HIM))
    with open_connection(database_url, autocommit=True, role=None) as watcher:
        watcher.execute(_HOLD_PLANNING)
        watcher.execute("SELECT pg_advisory_lock(4711)")
        planning = asyncio.create_task(plan_run(engine, RunKind.NIGHTLY, RANKER, slate_size=3, shard_size=100))
        for _ in range(3_000):
            if planning.done() or watcher.execute(_LOCKED_OUT).fetchone() == (1,):
                break
            await asyncio.sleep(0.02)
        assert not planning.done()
        erasing.start()
        await asyncio.to_thread(wait_until, watcher, _WAITING, or_ended=erasing)
        watcher.execute("SELECT pg_advisory_unlock(4711)")
        await planning
        await asyncio.to_thread(erasing.join, 60)
    assert await read(engine, "SELECT customer_id FROM slates") == [(BOB,)]
    assert verify_tables(database_url, HIM).found == {}


def test_a_prune_that_is_copying_his_slate_keeps_nothing_of_him(shop: psycopg.Connection, database_url: str) -> None:
    shop.execute(
        "INSERT INTO published_runs (run_id, day, precedence, served_share, rows_per_slate, refused_share) "
        "SELECT run_id, day, created_at, 1, 1, 0 FROM runs WHERE day = '2024-03-11'"
    )
    shop.execute("DELETE FROM published")
    erasing = threading.Thread(target=erase_from_tables, args=(database_url, HIM))
    # It waits for his attempt, and has deleted his slates and their rows before.
    holder = psycopg.connect(libpq_url(database_url))
    holder.execute("SELECT FROM llm_calls_20240311 WHERE customer_id = 'ann' FOR UPDATE")

    def let_go() -> None:
        with psycopg.connect(libpq_url(database_url), autocommit=True) as watcher:
            wait_until(watcher, _LOCKED_OUT, 2, or_ended=erasing)
        holder.close()

    letting_go = threading.Thread(target=let_go)

    def tell(step: str) -> None:
        if "keeping 2 slates" in step and not letting_go.is_alive():
            erasing.start()
            wait_until(shop, _LOCKED_OUT, or_ended=erasing)
            letting_go.start()

    prune(database_url, keep=1, tell=tell)

    for thread in (erasing, letting_go):
        thread.join(60)
    assert verify_tables(database_url, HIM).found == {}
    kept = "SELECT customer_id FROM recommendations JOIN runs USING (run_id) WHERE runs.day = '2024-03-11'"
    assert shop.execute(kept).fetchall() == [("bob",)]


def test_a_dry_run_waits_for_nobody_and_nobody_for_it(shop: psycopg.Connection, database_url: str) -> None:
    shop.execute("UPDATE slates SET reason = 'customer ann' WHERE customer_id = 'bob'")
    with psycopg.connect(libpq_url(database_url)) as busy:
        busy.execute("SELECT pg_advisory_xact_lock(hashtext('recstream: publishing'))")
        busy.execute("LOCK TABLE runs IN ROW EXCLUSIVE MODE")
        busy.execute("SELECT FROM slates FOR UPDATE")
        foreseen = erase_from_tables(database_url, HIM, dry_run=True)
    assert erase_from_tables(database_url, HIM) == foreseen
    assert foreseen.texts == {f"slates_{day}.reason": 1 for day in ("kept", "20240311", "20240312")}


def test_who_plans_or_publishes_does_not_wait_for_the_texts(shop: psycopg.Connection, database_url: str) -> None:
    shop.execute("UPDATE llm_calls SET error = 'customer ann' WHERE customer_id = 'bob'")
    erasing = threading.Thread(target=erase_from_tables, args=(database_url, HIM))
    with psycopg.connect(libpq_url(database_url)) as busy:
        busy.execute("SELECT FROM llm_calls WHERE customer_id = 'bob' FOR UPDATE")
        erasing.start()
        wait_until(shop, _LOCKED_OUT, or_ended=erasing)
        shop.execute("SET lock_timeout = '10s'")
        with shop.transaction():
            shop.execute("SELECT pg_advisory_xact_lock(hashtext('recstream: publishing'))")
            shop.execute("LOCK TABLE runs IN ROW EXCLUSIVE MODE")
        assert erasing.is_alive()
    erasing.join(60)
    assert verify_tables(database_url, HIM).found == {}


CUSTOMERS = "customer_id,active\nann,perhaps\nbob,perhaps\nanna,perhaps\ncarl,true\n"


def load(shop: psycopg.Connection, folder: Path, name: str = "customers.csv") -> Path:
    """Load a file in which all lines but one are refused; returns the rejects file."""
    file, rejects = folder / name, folder / f"{name}.rejects.jsonl"
    file.write_text(CUSTOMERS, encoding="utf-8")
    shop.autocommit = False
    remember_rejects(shop, rejects)
    assert load_file(shop, "customers", file, mapping={}, time_zone="UTC", rejects=rejects).refused == 3
    shop.commit()
    shop.autocommit = True
    return rejects


def test_his_lines_leave_the_rejects_file_and_the_others_stay_as_they_are(
    shop: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    rejects = load(shop, tmp_path)
    rejects.chmod(0o640)
    before = rejects.read_text("utf-8").splitlines()

    foreseen = erase_from_files(database_url, HIM, dry_run=True)
    assert rejects.read_text("utf-8").splitlines() == before
    erased = erase_from_files(database_url, HIM)

    assert erased == foreseen
    assert [(file.path, file.lines, file.erased) for file in erased.files] == [(rejects, 3, 1)]
    assert rejects.read_text("utf-8").splitlines() == before[1:]
    assert rejects.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["customers.csv", "customers.csv.rejects.jsonl"]
    assert [file.erased for file in erase_from_files(database_url, HIM).files] == [0]


def test_a_rejects_file_that_is_gone_or_on_another_machine_is_told(
    shop: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    rejects = load(shop, tmp_path)
    rejects.unlink()
    shop.execute("INSERT INTO rejects_files (machine, path) VALUES ('another', '/data/r.jsonl')")
    erased = erase_from_files(database_url, HIM)
    assert (erased.files, erased.gone, erased.elsewhere) == ((), (rejects,), ("another:/data/r.jsonl",))


def test_a_rejects_file_is_known_before_the_load_begins_and_once(shop: psycopg.Connection, tmp_path: Path) -> None:
    shop.autocommit = False
    for path in (tmp_path / "r.jsonl", tmp_path / "r.jsonl", Path("/dev/null")):
        remember_rejects(shop, path)
    shop.rollback()
    found = shop.execute("SELECT machine, path FROM rejects_files").fetchall()
    assert found == [(socket.gethostname(), str(tmp_path / "r.jsonl"))]


def test_a_rejects_file_that_cannot_be_read_is_an_error_and_not_passed_over(
    shop: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    rejects = tmp_path / ("r" * 300)  # longer than a name may be
    shop.execute("INSERT INTO rejects_files (machine, path) VALUES (%s, %s)", [socket.gethostname(), str(rejects)])
    with pytest.raises(InputError, match=r"r cannot be searched .* \(File name too long\)"):
        erase_from_files(database_url, HIM)


def refuse(shop: psycopg.Connection, folder: Path, file: Path, rejects: Path | None = None) -> Path:
    """Load a file that is there already; returns the rejects file."""
    refused = rejects or folder / f"{file.name}.rejects.jsonl"
    shop.autocommit = False
    remember_rejects(shop, refused)
    load_file(shop, "customers", file, mapping={}, time_zone="UTC", rejects=refused)
    shop.commit()
    shop.autocommit = True
    return refused


def test_the_file_behind_a_link_is_cleaned_and_the_link_stays(
    shop: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    real, link = tmp_path / "volume" / "real.jsonl", tmp_path / "customers.csv.rejects.jsonl"
    real.touch()
    link.symlink_to(real)
    load(shop, tmp_path)
    assert '"ann' in real.read_text("utf-8")

    erase_from_files(database_url, HIM)

    assert link.is_symlink()
    assert '"ann,' not in real.read_text("utf-8")
    assert '"anna,' in real.read_text("utf-8")


@pytest.mark.parametrize(
    ("customer_id", "written", "encoding", "name"),
    [
        ('o"neil-4711', 'customer_id,active\n"o""neil-4711",perhaps\n', "utf-8", "c.csv"),
        ("josé-4711", "customer_id,active\njosé-4711,perhaps\n", "latin-1", "c.csv"),
        ("josé-4711", '{"customer_id": "jos\\u00E9-4711", "active": "perhaps"}\n', "utf-8", "c.jsonl"),
        ("shop/4711", '{"customer_id": "shop\\/4711", "active": "perhaps"}\n', "utf-8", "c.jsonl"),
        ("o'neil-4711", "customer_id,active\no'neil-4711,perhaps\n", "utf-8", "c.csv"),
    ],
)
def test_a_refused_line_in_the_shops_own_spelling_is_found(
    shop: psycopg.Connection,
    database_url: str,
    tmp_path: Path,
    customer_id: str,
    written: str,
    encoding: str,
    name: str,
) -> None:
    (tmp_path / name).write_bytes(written.encode(encoding))
    rejects = refuse(shop, tmp_path, tmp_path / name)
    assert rejects.read_text("utf-8").count("\n") == 1
    assert [file.erased for file in erase_from_files(database_url, CustomerId(customer_id)).files] == [1]
    assert rejects.read_text("utf-8") == ""


def test_the_line_of_an_address_that_ends_alike_stays(
    shop: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.csv"
    file.write_text("customer_id,active\nann@example.org,perhaps\nmary.ann@example.org,perhaps\n", encoding="utf-8")
    rejects = refuse(shop, tmp_path, file)
    erase_from_files(database_url, CustomerId("ann@example.org"))
    (left,) = rejects.read_text("utf-8").splitlines()
    assert "mary.ann@example.org" in left


def test_files_beside_are_touched_only_where_an_erasure_made_them(
    shop: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    rejects = load(shop, tmp_path)
    foreign = rejects.with_name(f"{rejects.name}.{os.getpid()}")
    foreign.write_text("foreign", encoding="utf-8")
    left_by_a_killed_one = rejects.with_name(f".{rejects.name}.abc.erasing")
    left_by_a_killed_one.write_bytes(rejects.read_bytes())

    erase_from_files(database_url, HIM)

    assert foreign.read_text("utf-8") == "foreign"
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "customers.csv", rejects, foreign])


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives a file away")
def test_a_rejects_file_stays_its_owners(shop: psycopg.Connection, database_url: str, tmp_path: Path) -> None:
    rejects = load(shop, tmp_path)
    os.chown(rejects, 1234, 1235)
    erase_from_files(database_url, HIM)
    assert (rejects.stat().st_uid, rejects.stat().st_gid) == (1234, 1235)


def test_a_file_of_another_machine_that_is_here_as_well_is_cleaned_too(
    shop: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    rejects = load(shop, tmp_path)
    shop.execute("UPDATE rejects_files SET machine = 'another'")
    assert [file.erased for file in erase_from_files(database_url, HIM).files] == [1]
    assert '"ann,' not in rejects.read_text("utf-8")


def test_a_rejects_file_whose_name_is_no_text_is_refused(shop: psycopg.Connection, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has bytes in its name that are no UTF-8"):
        remember_rejects(shop, tmp_path / "r\udcff.jsonl")


def test_lines_with_which_a_log_goes_on_are_cleaned_as_the_one_before(
    shop: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "server.log"
    log.write_text(
        "1 CONTEXT:  COPY s, line 3:\n\tann\n1 STATEMENT:  INSERT INTO x\n\tVALUES ('ann', 'anna')\n"
        "2 LOG:  something\n\tann\n",
        encoding="utf-8",
    )
    erase_from_files(database_url, HIM, logs=[log])
    assert log.read_text("utf-8") == (
        "1 CONTEXT:  COPY s, line 3:\n\t[erased]\n1 STATEMENT:  INSERT INTO x\n\tVALUES ('[erased]', 'anna')\n"
        "2 LOG:  something\n\tann\n"
    )


def test_a_log_keeps_its_lines_without_his_name(shop: psycopg.Connection, database_url: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(
        "2024 ERROR: customer 'ann' ann\n2024 DETAIL:  Failing row contains (ann, anna, 12).\nbob\n", encoding="utf-8"
    )
    with log.open("a", encoding="utf-8") as writer:
        (erased,) = erase_from_files(database_url, HIM, logs=[log, tmp_path / "missing"]).files
        writer.write("and on\n")
    assert (erased.lines, erased.erased) == (3, 2)
    assert log.read_text("utf-8") == (
        "2024 ERROR: customer '[erased]' ann\n2024 DETAIL:  Failing row contains ([erased], anna, 12).\nbob\nand on\n"
    )


def test_a_log_that_becomes_shorter_has_nothing_left_at_its_end(
    shop: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "server.log"
    log.write_text("customer c-1729-long-id\nlast line\n", encoding="utf-8")
    erase_from_files(database_url, CustomerId("c-1729-long-id"), logs=[log])
    assert log.read_text("utf-8") == "customer [erased]\nlast line\n"


def test_who_is_in_the_ledger_alone_is_erased_from_it(shop: psycopg.Connection, database_url: str) -> None:
    shop.execute("DELETE FROM customers")
    assert not erase_from_tables(database_url, HIM).known
    assert set(rows_of(shop, HIM).values()) == {0}
