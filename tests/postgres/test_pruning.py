"""Dropping old days, on a real database: what readers see outlives its day, whatever ends the pruning on the way."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from pipeline.database import libpq_url, open_connection
from pipeline.errors import DatabaseUnavailableError, InputError, RunConflictError
from pipeline.pruning import PruneReport, prune

TODAY = date(2024, 3, 12)
PARENTS = ("slates", "recommendations", "rejections", "llm_calls")
ROWS = 3
_RUN = """
INSERT INTO runs (run_id, kind, state, model, endpoint, provenance, slate_size, temperature, prompt_version,
                  code_version, as_of, day, shuffle_seed, created_at)
VALUES (%(run_id)s, %(kind)s, %(state)s, 'm', 'e', 'language_model', 3, 0.1, 'v', 'v', %(at)s, %(day)s, 0, %(at)s)
"""
_SLATES = """
INSERT INTO slates (run_id, customer_id, day, shard, state, lease, attempts, ending, candidate_ids, input_hash,
                    tokens_in, tokens_out, tokens_cached, cost, first_row_s, last_row_s, whole_s, content_hash, variant)
SELECT %(run_id)s, customer_id, %(day)s, 7, %(slate)s, 2, 2, 'enough', ARRAY['p1', 'p2', 'p3'], 'hash',
       10, 20, 5, 0.5, 1, 2, 3, 'content', 'control'
FROM unnest(%(customers)s::text[]) AS customer_id
"""
_ROWS = """
INSERT INTO recommendations (run_id, customer_id, day, rank, product_id, product_name, relevance_score, provenance,
                             attempt, committed_at, model)
SELECT %(run_id)s, customer_id, %(day)s, rank, 'p' || rank, 'Product', 0.5, 'language_model', 2, %(at)s, 'm'
FROM unnest(%(customers)s::text[]) AS customer_id, generate_series(1, 3) AS rank
"""
_REJECTIONS = """
INSERT INTO rejections (run_id, customer_id, attempt, number, day, reason, detail, raw)
SELECT %(run_id)s, customer_id, 1, 1, %(day)s, 'not_json', 'd', 'r' FROM unnest(%(customers)s::text[]) AS customer_id
"""
_CALLS = """
INSERT INTO llm_calls (run_id, customer_id, attempt, lease, day, ending)
SELECT %(run_id)s, customer_id, 1, 1, %(day)s, 'enough' FROM unnest(%(customers)s::text[]) AS customer_id
"""


@pytest.fixture
def shop(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection that may do everything, in a shop with the customers a to e and the products that slates name."""
    with open_connection(database_url, autocommit=True, role=None) as connection:
        connection.execute("INSERT INTO customers (customer_id) SELECT unnest(ARRAY['a', 'b', 'c', 'd', 'e'])")
        connection.execute("INSERT INTO products (product_id, name) SELECT 'p' || n, 'P' FROM generate_series(1, 3) n")
        yield connection


def add_night(
    shop: psycopg.Connection,
    days_ago: int,
    customers: str,
    *,
    state: str = "finished",
    slate: str = "complete",
    published: bool = True,
    precedence: datetime | None = None,
    run_id: UUID | None = None,
) -> UUID:
    """A run of a former day, with a slate of three rows for each letter of `customers`."""
    day = TODAY - timedelta(days=days_ago)
    at = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
    run = {"run_id": run_id or uuid4(), "day": day, "at": at, "kind": "nightly", "state": state, "slate": slate}
    with shop.transaction():
        shop.execute("SELECT recstream_prepare_day(%s)", [day])
        for statement in (_RUN, _SLATES, _ROWS, _REJECTIONS, _CALLS):
            shop.execute(statement, {**run, "customers": list(customers)})
        if published:
            shop.execute(
                "INSERT INTO published_runs (run_id, day, precedence, served_share, rows_per_slate, refused_share) "
                "VALUES (%s, %s, %s, 1, 3, 0)",
                [run["run_id"], day, precedence or at],
            )
    return UUID(str(run["run_id"]))


def add_for_one(shop: psycopg.Connection, days_ago: int, customer_id: str) -> UUID:
    """A slate made on demand, to which the customer's pointer leads."""
    run_id = add_night(shop, days_ago, customer_id, published=False)
    shop.execute("UPDATE runs SET kind = 'on_demand' WHERE run_id = %s", [run_id])
    shop.execute(
        "INSERT INTO published (customer_id, run_id, day) SELECT customer_id, run_id, day FROM slates "
        "WHERE run_id = %s ON CONFLICT (customer_id) DO UPDATE SET run_id = excluded.run_id, day = excluded.day",
        [run_id],
    )
    return run_id


def seen(shop: psycopg.Connection) -> dict[str, tuple[UUID, int]]:
    """Of every customer who has a slate: its run, and how many rows readers see."""
    found = shop.execute(
        "SELECT customer_id, array_agg(DISTINCT run_id), count(*) FROM current_recommendations GROUP BY 1"
    )
    return {customer_id: (run_id, rows) for customer_id, (run_id,), rows in found}


def days_of(shop: psycopg.Connection, parent: str) -> list[int]:
    """How many days ago each partition's day was, kept rows apart."""
    found = shop.execute(
        "SELECT relname FROM pg_class WHERE relname ~ %s AND relkind = 'r'", [f"^{parent}_[0-9]{{8}}$"]
    )
    return sorted((TODAY - datetime.strptime(name[-8:], "%Y%m%d").date()).days for (name,) in found)


def count(shop: psycopg.Connection, query: str, *parameters: object) -> int:
    found = shop.execute(query.encode(), parameters).fetchone()
    assert found is not None
    return int(found[0])


def test_the_newest_days_stay_and_older_ones_are_dropped_with_all_their_tables(
    shop: psycopg.Connection, database_url: str
) -> None:
    nights = {ago: add_night(shop, ago, "abc") for ago in (1, 2, 3, 9)}

    report = prune(database_url, keep=2)

    assert [day.day for day in report.dropped] == [TODAY - timedelta(days=9), TODAY - timedelta(days=3)]
    assert report.dropped[0].tables == tuple(f"{parent}_20240303" for parent in PARENTS)
    assert report.dropped[0].bytes > 0
    assert report.staying == (TODAY - timedelta(days=2), TODAY - timedelta(days=1))
    for parent in PARENTS:
        assert days_of(shop, parent) == [1, 2]
    pruned = {run_id for (run_id,) in shop.execute("SELECT run_id FROM runs WHERE pruned_at IS NOT NULL")}
    assert pruned == {nights[3], nights[9]}
    assert seen(shop) == dict.fromkeys("abc", (nights[1], ROWS))


def test_what_readers_see_outlives_its_day_and_nothing_else_of_it_does(
    shop: psycopg.Connection, database_url: str
) -> None:
    old = add_night(shop, 9, "abcd")
    add_night(shop, 8, "abcde", slate="short")
    middle = add_night(shop, 5, "b")
    for_one = add_for_one(shop, 6, "c")
    add_night(shop, 4, "d", published=False)
    new = add_night(shop, 1, "a")
    before = seen(shop)
    assert {customer_id: run_id for customer_id, (run_id, _) in before.items()} == {
        "a": new,
        "b": middle,
        "c": for_one,
        "d": old,
    }

    report = prune(database_url, keep=1)

    assert seen(shop) == before
    assert {day.day: day.kept for day in report.dropped} == {
        TODAY - timedelta(days=ago): kept for ago, kept in ((9, 1), (8, 0), (6, 1), (5, 1), (4, 0))
    }
    assert count(shop, "SELECT count(*) FROM slates WHERE day = '0001-01-01'") == 3
    assert count(shop, "SELECT count(*) FROM recommendations WHERE day = '0001-01-01'") == 3 * ROWS
    assert count(shop, "SELECT count(*) FROM slates") == 4


@pytest.mark.parametrize("table", ["slates", "recommendations"])
def test_a_kept_slate_is_the_same_in_every_column_but_its_day(
    shop: psycopg.Connection, database_url: str, table: str
) -> None:
    add_night(shop, 9, "ab")
    add_night(shop, 1, "a")
    shop.execute(
        "UPDATE slates SET reason = 'why', kept_run_id = run_id, kept_rows = 3, candidate_scores = '{1}', "
        "candidate_sources = 'n', candidates_as_of = now(), candidate_build = 1, removed_candidates = '{}'"
    )
    rows = f"SELECT to_jsonb(t) - 'day' FROM {table} AS t WHERE customer_id = 'b' ORDER BY 1".encode()
    before = shop.execute(rows).fetchall()
    assert before
    assert all(value is not None for (row,) in before for value in row.values())

    prune(database_url, keep=1)

    assert shop.execute(rows).fetchall() == before


def test_what_unchanged_customers_keep_outlives_its_day(shop: psycopg.Connection, database_url: str) -> None:
    kept = add_night(shop, 9, "ab")
    for days_ago in (2, 1):
        night = add_night(shop, days_ago, "ab", slate="unchanged")
        with shop.transaction():
            shop.execute("DELETE FROM recommendations WHERE run_id = %s", [night])
    before = seen(shop)
    assert before == dict.fromkeys("ab", (kept, ROWS))

    for keep in (2, 1):
        prune(database_url, keep=keep)
        assert seen(shop) == before
    content = "SELECT count(*) FROM slates WHERE content_hash = 'content' AND state = 'complete' AND day = '0001-01-01'"
    assert count(shop, content) == 2


def test_what_an_unchanged_slate_of_a_day_that_stays_leads_to_is_kept_for_a_rollback(
    shop: psycopg.Connection, database_url: str
) -> None:
    kept = add_night(shop, 9, "abc")
    unchanged = add_night(shop, 2, "ab", slate="unchanged")
    shop.execute("DELETE FROM recommendations WHERE run_id = %s", [unchanged])
    shop.execute("UPDATE slates SET kept_run_id = %s WHERE run_id = %s", [kept, unchanged])
    last = add_night(shop, 1, "abc")

    prune(database_url, keep=2)
    shop.execute("UPDATE published_runs SET withdrawn_at = now() WHERE run_id = %s", [last])
    assert seen(shop) == dict.fromkeys("ab", (kept, ROWS))

    shop.execute("UPDATE published_runs SET withdrawn_at = NULL")
    prune(database_url, keep=1)
    assert count(shop, "SELECT count(*) FROM slates WHERE day = '0001-01-01'") == 0


def test_a_run_published_again_by_hand_is_what_readers_see_and_stays(
    shop: psycopg.Connection, database_url: str
) -> None:
    by_hand = add_night(shop, 9, "ab", precedence=datetime(2024, 3, 12, 9, tzinfo=UTC))
    add_night(shop, 1, "ab")
    prune(database_url, keep=1)
    assert seen(shop) == dict.fromkeys("ab", (by_hand, ROWS))


def test_a_withdrawn_run_is_not_kept(shop: psycopg.Connection, database_url: str) -> None:
    withdrawn = add_night(shop, 9, "a")
    shop.execute("UPDATE published_runs SET withdrawn_at = now() WHERE run_id = %s", [withdrawn])
    add_night(shop, 1, "b")
    prune(database_url, keep=1)
    assert count(shop, "SELECT count(*) FROM slates WHERE customer_id = 'a'") == 0


@pytest.mark.parametrize("state", ["planned", "running", "draining"])
def test_a_day_with_a_run_that_goes_on_is_left_and_told(
    shop: psycopg.Connection, database_url: str, state: str
) -> None:
    going_on = add_night(shop, 9, "a", state=state)
    add_night(shop, 8, "a")
    add_night(shop, 1, "a")

    report = prune(database_url, keep=1)

    assert [(left.day, str(going_on) in left.reason) for left in report.left] == [(TODAY - timedelta(days=9), True)]
    assert days_of(shop, "slates") == [1, 9]
    assert count(shop, "SELECT count(*) FROM runs WHERE pruned_at IS NOT NULL") == 1


def test_a_dry_run_tells_the_same_and_changes_nothing(shop: psycopg.Connection, database_url: str) -> None:
    add_night(shop, 9, "ab")
    add_night(shop, 1, "a")

    foreseen = prune(database_url, keep=1, dry_run=True)

    assert days_of(shop, "slates") == [1, 9]
    assert count(shop, "SELECT count(*) FROM slates WHERE day = '0001-01-01'") == 0
    assert count(shop, "SELECT count(*) FROM runs WHERE pruned_at IS NOT NULL") == 0
    assert prune(database_url, keep=1).dropped == foreseen.dropped


def test_pruning_again_changes_nothing(shop: psycopg.Connection, database_url: str) -> None:
    add_night(shop, 9, "ab")
    add_night(shop, 1, "a")
    prune(database_url, keep=1)
    before = seen(shop)
    again = prune(database_url, keep=1)
    assert (again.dropped, again.left, again.superseded) == ((), (), 0)
    assert seen(shop) == before


def test_what_was_kept_and_has_been_superseded_since_goes_with_what_pointed_to_it(
    shop: psycopg.Connection, database_url: str
) -> None:
    add_night(shop, 9, "ab")
    add_for_one(shop, 8, "c")
    add_night(shop, 2, "d")
    prune(database_url, keep=1)
    assert count(shop, "SELECT count(*) FROM slates WHERE day = '0001-01-01'") == 3

    newer = add_night(shop, 1, "abc")
    report = prune(database_url, keep=2)

    assert (report.superseded, report.pointers, report.publications) == (3, 1, 1)
    assert count(shop, "SELECT count(*) FROM slates WHERE day = '0001-01-01'") == 0
    assert count(shop, "SELECT count(*) FROM recommendations WHERE day = '0001-01-01'") == 0
    assert {run_id for run_id, _ in seen(shop).values()} >= {newer}


def test_what_was_there_before_there_were_days_goes_as_well_but_for_what_readers_see(
    shop: psycopg.Connection, database_url: str
) -> None:
    before = add_night(shop, 9, "ab")
    for table in (*PARENTS[:1], *PARENTS[2:]):
        shop.execute(f"UPDATE {table} SET day = '0001-01-01'".encode())
    shop.execute("ALTER TABLE recommendations DISABLE TRIGGER recommendations_stay")
    shop.execute("UPDATE recommendations SET day = '0001-01-01'")
    shop.execute("ALTER TABLE recommendations ENABLE TRIGGER recommendations_stay")
    shop.execute("UPDATE runs SET day = '0001-01-01'")
    shop.execute("UPDATE published_runs SET day = '0001-01-01'")
    newer = add_night(shop, 1, "a")

    assert prune(database_url, keep=3).superseded == 0  # the few days that there are may all stay
    assert prune(database_url, keep=1).superseded == 1

    assert seen(shop) == {"a": (newer, ROWS), "b": (before, ROWS)}
    assert count(shop, "SELECT count(*) FROM llm_calls WHERE customer_id = 'a'") == 1
    assert count(shop, "SELECT count(*) FROM runs WHERE pruned_at IS NOT NULL") == 1


def steps_of(url: str) -> list[str]:
    steps: list[str] = []
    prune(url, keep=1, tell=steps.append)
    return steps


def pruned_until(url: str, step: int, killer: psycopg.Connection) -> None:
    """Prune until `step`, before which the server process of the pruning is killed."""
    steps = 0

    def tell(_: str) -> None:
        nonlocal steps
        if steps == step:
            killer.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'recstream upkeep'"
            )
        steps += 1

    with pytest.raises(DatabaseUnavailableError):
        prune(url, keep=1, tell=tell)


# For each of two days: keeping, marking, leaving; 4 tables x (leaving, waiting, dropping). At the end the leftovers.
STEPS = 1 + 2 * 15


def test_the_steps_that_a_kill_is_tried_at_are_all_of_them(shop: psycopg.Connection, database_url: str) -> None:
    for ago, customers in ((9, "ab"), (8, "c"), (1, "a")):
        add_night(shop, ago, customers)
    assert len(steps_of(database_url)) == STEPS


@pytest.mark.parametrize("step", range(STEPS))
def test_a_kill_at_any_step_costs_readers_nothing_and_the_next_prune_goes_on(
    shop: psycopg.Connection, database_url: str, step: int
) -> None:
    for ago, customers in ((9, "ab"), (8, "c"), (1, "a")):
        add_night(shop, ago, customers)
    before = seen(shop)
    with open_connection(database_url, autocommit=True, role=None) as killer:
        pruned_until(database_url, step, killer)
    assert seen(shop) == before

    prune(database_url, keep=1)

    assert seen(shop) == before
    for parent in PARENTS:
        assert days_of(shop, parent) == [1]
    assert count(shop, "SELECT count(*) FROM slates") == 3
    assert count(shop, "SELECT count(*) FROM recommendations") == 3 * ROWS
    assert count(shop, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == 0
    assert count(shop, "SELECT count(*) FROM runs WHERE pruned_at IS NOT NULL") == 2


def test_a_rollback_between_copying_and_dropping_is_not_lost(shop: psycopg.Connection, database_url: str) -> None:
    old = add_night(shop, 9, "ab")
    new = add_night(shop, 1, "ab")

    def roll_back(step: str) -> None:
        if step == steps[0]:
            shop.execute("UPDATE published_runs SET withdrawn_at = now() WHERE run_id = %s", [new])

    # What is copied comes last of its day, so that no later page is looked for with other eyes.
    add_night(shop, 9, "c", run_id=UUID(int=2**128 - 1))
    steps = ["2024-03-03: keeping 1 slates that readers see"]
    prune(database_url, keep=1, tell=roll_back)

    assert {customer_id: run_id for customer_id, (run_id, _) in seen(shop).items() if customer_id != "c"} == {
        "a": old,
        "b": old,
    }


def test_nothing_is_published_at_the_moment_when_a_day_leaves(shop: psycopg.Connection, database_url: str) -> None:
    add_night(shop, 9, "a")
    add_night(shop, 1, "a")
    free: dict[str, bool] = {}

    def look(step: str) -> None:
        found = shop.execute(
            "SELECT pg_try_advisory_lock(hashtext('recstream: publishing')), pg_advisory_unlock_all()"
        ).fetchone()
        assert found is not None
        free.setdefault(step, found[0])

    prune(database_url, keep=1, tell=look)

    assert [step for step, was_free in free.items() if not was_free] == [
        "2024-03-03: marking its runs",
        "slates_20240303: leaving its table",
    ]


def test_a_day_that_somebody_holds_is_left_as_it_was(shop: psycopg.Connection, database_url: str) -> None:
    add_night(shop, 9, "a")
    add_night(shop, 1, "a")
    with psycopg.connect(libpq_url(database_url)) as holder:
        holder.execute("LOCK TABLE slates_20240303 IN SHARE UPDATE EXCLUSIVE MODE")
        report = prune(database_url, keep=1, patience_s=0)
    assert [left.day for left in report.left] == [TODAY - timedelta(days=9)]
    assert days_of(shop, "slates") == [1, 9]
    assert count(shop, "SELECT count(*) FROM runs WHERE pruned_at IS NOT NULL") == 0


def test_publishing_gets_its_turn_while_a_day_that_somebody_holds_is_tried_again(
    shop: psycopg.Connection, database_url: str
) -> None:
    add_night(shop, 9, "a")
    add_night(shop, 1, "a")
    report: list[PruneReport] = []
    leaving = threading.Event()

    def tell(step: str) -> None:
        if step == "slates_20240303: leaving its table":
            leaving.set()

    pruning = threading.Thread(target=lambda: report.append(prune(database_url, keep=1, patience_s=60, tell=tell)))
    with psycopg.connect(libpq_url(database_url)) as holder:
        holder.execute("LOCK TABLE slates_20240303 IN SHARE UPDATE EXCLUSIVE MODE")
        pruning.start()
        assert leaving.wait(60)
        shop.execute("SET lock_timeout = '30s'")
        shop.execute("SELECT pg_advisory_lock(hashtext('recstream: publishing'))")
        assert pruning.is_alive()
        shop.execute("SELECT pg_advisory_unlock_all()")
    pruning.join(60)
    assert [day.day for day in report[0].dropped] == [TODAY - timedelta(days=9)]


def test_a_run_that_a_killed_prune_has_marked_and_that_stays_after_all_is_as_before(
    shop: psycopg.Connection, database_url: str
) -> None:
    add_night(shop, 9, "a")
    add_night(shop, 1, "a")
    with open_connection(database_url, autocommit=True, role=None) as killer:
        pruned_until(database_url, 1, killer)
    assert count(shop, "SELECT count(*) FROM runs WHERE pruned_at IS NOT NULL") == 1
    assert prune(database_url, keep=2).dropped == ()
    assert count(shop, "SELECT count(*) FROM runs WHERE pruned_at IS NOT NULL") == 0


def test_slates_that_a_killed_prune_has_kept_are_counted_by_the_next_one(
    shop: psycopg.Connection, database_url: str
) -> None:
    add_night(shop, 9, "ab")
    add_night(shop, 1, "c")
    with open_connection(database_url, autocommit=True, role=None) as killer:
        pruned_until(database_url, 3, killer)
    foreseen = prune(database_url, keep=1, dry_run=True)
    assert [day.kept for day in foreseen.dropped] == [day.kept for day in prune(database_url, keep=1).dropped] == [2]


def test_a_day_on_its_way_out_goes_first_though_an_older_one_was_left(
    shop: psycopg.Connection, database_url: str
) -> None:
    going_on = add_night(shop, 9, "a", state="running")
    add_night(shop, 8, "b")
    add_night(shop, 1, "a")
    with psycopg.connect(libpq_url(database_url)) as reader:
        seen(reader)
        prune(database_url, keep=1, patience_s=0)
    assert count(shop, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == 1
    shop.execute("UPDATE runs SET state = 'finished' WHERE run_id = %s", [going_on])

    assert prune(database_url, keep=1).left == ()

    assert days_of(shop, "slates") == [1]


def test_yesterday_and_today_stay_for_a_plan_that_is_not_committed_yet(
    shop: psycopg.Connection, database_url: str
) -> None:
    today = (TODAY - datetime.now(UTC).date()).days
    for ago in (9, today + 2, today + 1, today):
        add_night(shop, ago, "a")
    report = prune(database_url, keep=1)
    assert [(TODAY - day).days for day in report.staying] == [today + 1, today]
    assert days_of(shop, "slates") == [today, today + 1]


def test_of_two_publications_of_one_precedence_the_one_that_readers_see_is_kept(
    shop: psycopg.Connection, database_url: str
) -> None:
    at = datetime(2024, 3, 12, 9, tzinfo=UTC)
    for ago, number in ((9, 3), (8, 1), (7, 2)):
        add_night(shop, ago, "a", precedence=at, run_id=UUID(int=number))
    add_night(shop, 1, "b")
    assert seen(shop)["a"] == (UUID(int=3), ROWS)
    prune(database_url, keep=1)
    assert seen(shop)["a"] == (UUID(int=3), ROWS)
    assert count(shop, "SELECT count(*) FROM slates WHERE day = '0001-01-01'") == 1


@pytest.mark.parametrize("keep", [0, -1])
def test_at_least_one_day_stays(database_url: str, keep: int) -> None:
    with pytest.raises(InputError, match="keep at least 1"):
        prune(database_url, keep=keep)


def test_two_prunes_do_not_go_on_at_a_time(shop: psycopg.Connection, database_url: str) -> None:
    add_night(shop, 9, "a")
    add_night(shop, 1, "a")
    refusals: list[str] = []

    def tell(step: str) -> None:
        with pytest.raises(RunConflictError, match="another `recstream prune` is going on"):
            prune(database_url, keep=1)
        refusals.append(step)

    prune(database_url, keep=1, tell=tell)
    assert refusals


def test_a_reader_whose_transaction_stays_open_goes_on_reading_and_the_day_goes_when_he_has_ended(
    shop: psycopg.Connection, database_url: str
) -> None:
    add_night(shop, 9, "ab")
    add_night(shop, 8, "ab")
    add_night(shop, 1, "a")
    before = seen(shop)
    with psycopg.connect(libpq_url(database_url)) as reader:
        assert seen(reader) == before
        report = prune(database_url, keep=1, patience_s=0.1)
        assert seen(reader) == before  # in the very transaction that the prune waits for
        assert seen(shop) == before
        assert [left.day for left in report.left] == [TODAY - timedelta(days=9)]
        assert "slates_20240303 cannot go yet" in report.left[0].reason
        assert report.dropped == ()

    assert len(prune(database_url, keep=30).dropped) == 1  # what was begun is finished, however much may stay
    assert days_of(shop, "slates") == [1, 8]
    assert seen(shop) == before


def test_readers_and_planners_are_not_kept_waiting_while_a_reader_keeps_the_prune_waiting(
    shop: psycopg.Connection, database_url: str
) -> None:
    add_night(shop, 9, "ab")
    add_night(shop, 1, "a")
    report: list[PruneReport] = []
    with psycopg.connect(libpq_url(database_url)) as reader:
        before = seen(reader)
        waiting = threading.Event()

        def tell(step: str) -> None:
            if step == "slates_20240303: waiting for older transactions":
                waiting.set()

        pruning = threading.Thread(target=lambda: report.append(prune(database_url, keep=1, tell=tell)))
        pruning.start()
        assert waiting.wait(60)
        assert seen(shop) == before
        add_night(shop, 0, "a")
        reader.commit()
    pruning.join(60)
    assert [day.day for day in report[0].dropped] == [TODAY - timedelta(days=9)]


def test_a_reader_in_a_loop_sees_every_slate_whole_while_days_go(shop: psycopg.Connection, database_url: str) -> None:
    for ago, customers in ((9, "abcde"), (8, "ab"), (7, "bc"), (6, "d"), (1, "a")):
        add_night(shop, ago, customers)
    before = seen(shop)
    torn: list[object] = []
    reads = 0
    ended = threading.Event()

    def read() -> None:
        nonlocal reads
        with psycopg.connect(libpq_url(database_url), autocommit=True) as reader:
            reader.prepare_threshold = 1
            while not ended.is_set():
                if (found := seen(reader)) != before:
                    torn.append(found)
                reads += 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        report = prune(database_url, keep=1)
    finally:
        ended.set()
        reader.join(60)
    assert len(report.dropped) == 4
    assert torn == []
    assert reads > 3
