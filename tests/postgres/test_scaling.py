"""Neighbours through sparse matrices: by the definition, and the same as the statements find."""

import math
import random
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from pipeline.candidates import scaling
from pipeline.candidates.building import build_candidates
from pipeline.candidates.builds import Build, BuildState
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.candidates.scaling import choose_method, neighbours_by_scipy, require_scale
from pipeline.database import open_connection
from pipeline.errors import ConfigurationError

Neighbours = dict[int, list[tuple[int, float]]]
RECIPE = CandidateRecipe(least_shared=2, neighbours=5)
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)


def begun_build(connection: psycopg.Connection, recipe: CandidateRecipe) -> Build:
    row = connection.execute(
        "INSERT INTO candidate_builds (state, method, as_of, recipe) VALUES ('building', 'scipy', %s, %s)"
        " RETURNING build_id, started_at",
        [AS_OF, recipe.model_dump_json()],
    ).fetchone()
    assert row is not None
    connection.execute("SELECT recstream_prepare_build(%s)", [row[0]])
    return Build(
        build_id=row[0],
        state=BuildState.BUILDING,
        trial=True,
        method="scipy",
        as_of=AS_OF,
        recipe=recipe,
        customers=0,
        products=0,
        purchases=0,
        pairs=0,
        started_at=row[1],
    )


def write(connection: psycopg.Connection, build: Build, histories: Iterable[list[int]], recent: list[int]) -> None:
    known = list(histories)
    buyers = [sum(number in history for history in known) for number in range(len(recent))]
    connection.cursor().executemany(
        "INSERT INTO candidate_products VALUES (%s, %s, %s, %s, %s)",
        [(build.build_id, number, f"p{number}", buyers[number], recent[number]) for number in range(len(recent))],
    )
    connection.cursor().executemany(
        "INSERT INTO candidate_histories VALUES (%s, %s, %s::integer[], %s::smallint[], %s::real[], %s::real[])",
        [
            (build.build_id, f"c{place}", history, [1] * len(history), [0] * len(history), [0] * len(history))
            for place, history in enumerate(known)
        ],
    )


def found(connection: psycopg.Connection, build_id: int) -> Neighbours:
    rows = connection.execute(
        "SELECT number, neighbours, weights FROM candidate_neighbours WHERE build_id = %s", [build_id]
    )
    return {number: list(zip(neighbours, weights, strict=True)) for number, neighbours, weights in rows}


def defined(histories: list[list[int]], recent: list[int], recipe: CandidateRecipe) -> Neighbours:
    """The weights as the recipe's docstring has them, pair by pair."""
    counted = [set(history[: recipe.history]) for history in histories]
    n = [sum(number in set(history) for history in histories) for number in range(len(recent))]
    weights: Neighbours = {}
    for i in range(len(recent)):
        for j in range(len(recent)):
            both = [history for history in counted if i in history and j in history]
            if i != j and len(both) >= recipe.least_shared:
                g = math.fsum(len(history) ** -recipe.basket_exponent for history in both)
                popular = (recent[j] + recipe.popularity_offset) ** recipe.popularity_exponent
                w = g * n[i] ** -recipe.source_exponent * n[j] ** -recipe.target_exponent * popular
                weights.setdefault(i, []).append((j, w))
    return {
        i: sorted(pairs, key=lambda pair: (-float(f"{pair[1]:.6g}"), pair[0]))[: recipe.neighbours]
        for i, pairs in weights.items()
    }


def drawn(seed: int, products: int, customers: int) -> tuple[list[list[int]], list[int]]:
    draw = random.Random(seed)
    histories = [draw.sample(range(products), draw.randint(1, products // 2)) for _ in range(customers)]
    return histories, [draw.randint(0, 3) for _ in range(products)]


def assert_same(one: Neighbours, other: Neighbours) -> None:
    assert {i: [j for j, _ in pairs] for i, pairs in one.items()} == {
        i: [j for j, _ in pairs] for i, pairs in other.items()
    }
    for i, pairs in one.items():
        assert [w for _, w in pairs] == pytest.approx([w for _, w in other[i]], rel=1e-6)


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        RECIPE.model_copy(update={"basket_exponent": 0.5, "source_exponent": 1.0, "target_exponent": 0.3}),
        RECIPE.model_copy(update={"history": 4}),
        RECIPE.model_copy(update={"least_shared": 1, "neighbours": 1000}),
    ],
    ids=["measured", "other exponents", "short histories", "all pairs"],
)
def test_weights_are_those_of_the_definition(database_url: str, recipe: CandidateRecipe) -> None:
    histories, recent = drawn(1, products=30, customers=40)
    with open_connection(database_url) as connection:
        build = begun_build(connection, recipe)
        write(connection, build, histories, recent)
        neighbours_by_scipy(connection, build, recipe)
        assert_same(found(connection, build.build_id), defined(histories, recent, recipe))


def test_small_blocks_find_the_same(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    histories, recent = drawn(2, products=30, customers=40)
    monkeypatch.setattr(scaling, "_CELLS", 7)
    monkeypatch.setattr(scaling, "_PAGE", 3)
    with open_connection(database_url) as connection:
        build = begun_build(connection, RECIPE)
        write(connection, build, histories, recent)
        neighbours_by_scipy(connection, build, RECIPE)
        assert_same(found(connection, build.build_id), defined(histories, recent, RECIPE))


def test_equal_weights_stand_in_the_order_of_their_numbers(database_url: str) -> None:
    histories = [[9, 3, 7, 1, 5, 0, 8]] * 2
    recipe = RECIPE.model_copy(update={"neighbours": 4})
    with open_connection(database_url) as connection:
        build = begun_build(connection, recipe)
        write(connection, build, histories, [0] * 10)
        neighbours_by_scipy(connection, build, recipe)
        neighbours = found(connection, build.build_id)
    assert [j for j, _ in neighbours[5]] == [0, 1, 3, 7]
    assert 2 not in neighbours


@pytest.mark.parametrize("histories", [[], [[0]], [[0], [1]]], ids=["nobody", "one purchase", "nothing shared"])
def test_where_nothing_is_shared_there_are_no_neighbours(database_url: str, histories: list[list[int]]) -> None:
    with open_connection(database_url) as connection:
        build = begun_build(connection, RECIPE)
        write(connection, build, histories, [0] * 3)
        neighbours_by_scipy(connection, build, RECIPE)
        assert found(connection, build.build_id) == {}


def test_without_any_product_there_are_no_neighbours(database_url: str) -> None:
    with open_connection(database_url) as connection:
        build = begun_build(connection, RECIPE)
        neighbours_by_scipy(connection, build, RECIPE)
        assert found(connection, build.build_id) == {}


def test_few_purchases_are_left_to_postgres_and_many_are_not() -> None:
    told: list[str] = []
    assert choose_method("auto", 9_999_999, told.append) == "sql"
    assert told == []
    assert choose_method("auto", 10_000_000, told.append) == "scipy"
    assert told == ["10,000,000 purchases: neighbours are found with scipy; candidate_method sql leaves it to Postgres"]


def test_what_is_set_is_kept_to() -> None:
    assert choose_method("sql", 10**9, pytest.fail) == "sql"
    assert choose_method("scipy", 0, pytest.fail) == "scipy"


def test_without_the_extra_many_purchases_are_left_to_postgres_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)  # as where it is not installed
    told: list[str] = []
    assert choose_method("auto", 20_000_000, told.append) == "sql"
    slow = "20,000,000 purchases: Postgres alone takes long over so many, scipy is quicker: "
    assert told == [slow + '`pip install "recstream[scale]"`']
    with pytest.raises(ConfigurationError, match=r'not installed: `pip install "recstream\[scale\]"`, or set'):
        choose_method("scipy", 0, told.append)
    with pytest.raises(ConfigurationError, match="not installed"):
        require_scale()


# Beside the statements


def a_shop(connection: psycopg.Connection, seed: int) -> None:
    """Purchases of many customers at a few moments, so that there are ties of every kind."""
    draw = random.Random(seed)
    connection.cursor().executemany(
        "INSERT INTO products (product_id, name) VALUES (%s, %s)", [(f"p{it}", f"Thing {it}") for it in range(60)]
    )
    purchases = [
        (f"c{customer}", f"p{min(int(draw.expovariate(0.08)), 59)}", AS_OF - timedelta(days=draw.choice([1, 5, 40])))
        for customer in range(150)
        for _ in range(draw.choice([1, 2, 5, 20, 60]))
    ]
    connection.cursor().executemany(
        "INSERT INTO events (event_key, customer_id, product_id, kind, value, occurred_at)"
        " VALUES (gen_random_uuid(), %s, %s, 'purchase', 1, %s)",
        purchases,
    )


@pytest.mark.parametrize(
    "recipe",
    [
        CandidateRecipe(),
        CandidateRecipe(neighbours=7, least_shared=1, history=9),
        CandidateRecipe(basket_exponent=0.4, source_exponent=0.9, target_exponent=0.7, popularity_exponent=1.3),
    ],
    ids=["measured", "few neighbours of short histories", "other exponents"],
)
def test_both_ways_find_the_same_neighbours(database_url: str, recipe: CandidateRecipe) -> None:
    with open_connection(database_url, role=None) as connection:
        a_shop(connection, seed=3)
    one, other = (
        build_candidates(database_url, recipe, as_of=AS_OF, method=method, trial=True) for method in ("sql", "scipy")
    )
    assert (one.method, other.method) == ("sql", "scipy")
    with open_connection(database_url) as connection:
        by_statements = found(connection, one.build_id)
        assert_same(found(connection, other.build_id), by_statements)
    assert sum(map(len, by_statements.values())) > 100
