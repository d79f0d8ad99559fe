"""Whole files into real tables: what lands, what is refused, and that loading again changes nothing."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from pipeline.database import libpq_url, open_connection
from pipeline.errors import InputError
from pipeline.loading import LoadReport, TableName, load_file
from pipeline.loading.load import CHUNK_LINES

REAL_SHOP = Path(__file__).parents[3] / "shared" / "data"


def load(
    url: str,
    table: TableName,
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    time_zone: str = "UTC",
    rejects: Path | None = None,
) -> LoadReport:
    with open_connection(url) as connection:
        return load_file(
            connection,
            table,
            path,
            mapping=mapping or {},
            time_zone=time_zone,
            rejects=rejects or path.with_name("rejects.jsonl"),
        )


def query(url: str, statement: LiteralString) -> list[tuple[object, ...]]:
    with open_connection(url) as connection:
        return connection.execute(statement).fetchall()


def written(path: Path, *lines: str | Mapping[str, object]) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def rejected(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def counts(report: LoadReport) -> tuple[int, int, int, int, int]:
    return report.read, report.inserted, report.updated, report.unchanged, report.refused


def test_customers_products_and_events_land_from_each_form(database_url: str, tmp_path: Path) -> None:
    customers = written(tmp_path / "c.jsonl", {"customer_id": 7, "country": "Peru", "time_zone": "America/Lima"})
    products = written(tmp_path / "p.csv", "product_id;name;price;shelf", '7;  "the" LAMP;;A2')
    events = written(
        tmp_path / "e.jsonl",
        {
            "customer_id": "7",
            "product_id": 7,
            "kind": "purchase",
            "quantity": 2,
            "unit_price": 1.5,
            "occurred_at": "2026-01-31 19:30",
        },
    )
    assert counts(load(database_url, "customers", customers)) == (1, 1, 0, 0, 0)
    assert counts(load(database_url, "products", products)) == (1, 1, 0, 0, 0)
    assert load(database_url, "events", events, time_zone="Europe/Berlin").notes == ()
    assert query(database_url, "SELECT customer_id, active, time_zone, attributes FROM customers") == [
        ("7", True, "America/Lima", {"country": "Peru"})
    ]
    assert query(database_url, "SELECT product_id, name, price, available, hidden, attributes FROM products") == [
        ("7", '"the" LAMP', None, True, False, {"shelf": "A2"})
    ]
    assert query(database_url, "SELECT customer_id, product_id, kind, value, text, occurred_at::text FROM events") == [
        ("7", "7", "purchase", 3.0, None, "2026-01-31 18:30:00+00")
    ]


@pytest.mark.parametrize("table", ["customers", "products", "events"])
def test_loading_twice_changes_nothing(database_url: str, tmp_path: Path, table: TableName) -> None:
    told = {"name": "Lamp", "price": 0.125, "note": [1, {"a": None}]}
    when = {"kind": "search", "text": "lamp", "occurred_at": "2026-01-01"}
    extra = told if table == "products" else when if table == "events" else {"country": "Peru"}
    path = written(
        tmp_path / "a.jsonl", *({"customer_id": number, "product_id": number, **extra} for number in range(50))
    )
    assert counts(load(database_url, table, path)) == (50, 50, 0, 0, 0)
    before = query(database_url, "SELECT c, c.xmin::text FROM customers c") + query(
        database_url, "SELECT p, p.xmin::text FROM products p"
    )
    assert counts(load(database_url, table, path)) == (50, 0, 0, 50, 0)
    assert before == query(database_url, "SELECT c, c.xmin::text FROM customers c") + query(
        database_url, "SELECT p, p.xmin::text FROM products p"
    )


def test_a_changed_row_is_updated_and_its_neighbour_is_not_touched(database_url: str, tmp_path: Path) -> None:
    load(database_url, "products", written(tmp_path / "p.csv", "product_id,name,price", "1,Lamp,5", "2,Rug,9"))
    report = load(database_url, "products", written(tmp_path / "p.csv", "product_id,name", "1,Lamp", "2,Rug"))
    assert counts(report) == (2, 0, 2, 0, 0)  # a line is the whole row: the price is gone
    report = load(database_url, "products", written(tmp_path / "p.csv", "product_id,name", "1,Red Lamp", "2,Rug"))
    assert counts(report) == (2, 0, 1, 1, 0)
    assert query(database_url, "SELECT product_id, name, price FROM products ORDER BY updated_at") == [
        ("2", "Rug", None),
        ("1", "Red Lamp", None),
    ]


def test_a_bad_line_is_refused_alone_and_kept_with_its_reason(database_url: str, tmp_path: Path) -> None:
    path = written(
        tmp_path / "p.csv", "product_id,title,price", "1,Lamp,5", "2,,5", "3,Rug,NaN", "4,Mat", "5,Cup,1", '6,"open,1'
    )
    report = load(database_url, "products", path, mapping={"name": "title"})
    assert counts(report) == (6, 2, 0, 0, 4)
    assert report.refused_by_reason == {"missing": 1, "not_finite": 1, "wrong_field_count": 1, "not_csv": 1}
    assert report.rejects_path == tmp_path / "rejects.jsonl"
    found = rejected(tmp_path / "rejects.jsonl")
    assert [(entry["file"], entry["line"], entry["column"], entry["row"]) for entry in found] == [
        (str(path), 3, "title", "2,,5"),
        (str(path), 4, "price", "3,Rug,NaN"),
        (str(path), 5, None, "4,Mat"),
        (str(path), 7, None, '6,"open,1'),
    ]
    assert found[1]["reason"] == "'NaN' is not a finite number"
    assert query(database_url, "SELECT product_id FROM products ORDER BY 1") == [("1",), ("5",)]


def test_rejects_are_bounded_and_gone_when_nothing_is_refused_any_more(database_url: str, tmp_path: Path) -> None:
    load(database_url, "customers", written(tmp_path / "c.jsonl", {"customer_id": "1", "bio": "x" * 200_000}))
    assert [len(str(entry["row"])) for entry in rejected(tmp_path / "rejects.jsonl")] == [2_000]
    report = load(database_url, "customers", written(tmp_path / "c.jsonl", {"customer_id": "1"}))
    assert (report.refused, report.rejects_path) == (0, None)
    assert not (tmp_path / "rejects.jsonl").exists()


def test_the_same_id_again_is_fine_with_equal_values_and_refused_with_others(database_url: str, tmp_path: Path) -> None:
    filler = [f"x{number},Filler" for number in range(CHUNK_LINES)]
    path = written(
        tmp_path / "p.csv", "product_id,name", "1,Lamp", "2,Rug", "1,Lamp", "2,Mat", *filler, "1,Lamp", "2,Cup"
    )
    report = load(database_url, "products", path)
    assert counts(report) == (CHUNK_LINES + 6, CHUNK_LINES + 2, 0, 2, 2)
    assert [(entry["line"], entry["column"], entry["reason"]) for entry in rejected(tmp_path / "rejects.jsonl")] == [
        (5, "product_id", "product_id 2 stood on line 3 already, with other values"),
        (CHUNK_LINES + 7, "product_id", "product_id 2 stood on line 3 already, with other values"),
    ]
    assert query(database_url, "SELECT name FROM products WHERE product_id IN ('1', '2') ORDER BY 1") == [
        ("Lamp",),
        ("Rug",),
    ]


def test_events_alike_in_every_field_are_one(database_url: str, tmp_path: Path) -> None:
    told = {"customer_id": 1, "kind": "view", "text": "Books", "occurred_at": "2026-01-01T10:00Z"}
    path = written(tmp_path / "e.jsonl", told, told, {**told, "event_id": 1}, {**told, "event_id": 1, "text": "Toys"})
    assert counts(load(database_url, "events", path)) == (4, 2, 0, 2, 0)
    assert query(database_url, "SELECT text FROM events") == [("Books",), ("Books",)]


def test_events_of_unknown_customers_and_products_land_and_are_noted(database_url: str, tmp_path: Path) -> None:
    load(database_url, "customers", written(tmp_path / "c.jsonl", {"customer_id": 1}))
    header = "customer_id,product_id,kind,occurred_at,till"
    path = written(tmp_path / "e.csv", header, "1,9,view,2026-01-01,A", "2,,view,2026-01-01,A", "2,9,view,2026-01-02,A")
    report = load(database_url, "events", path)
    assert counts(report) == (3, 2, 0, 0, 1)
    assert report.notes == (
        "1 event names a customer that is not loaded",
        "2 events name a product that is not loaded",
        "columns without a place in the table were left out: till",
    )


def test_a_row_that_only_postgres_refuses_takes_no_neighbour_along(database_url: str, tmp_path: Path) -> None:
    with open_connection(database_url, role=None) as connection:
        connection.execute("ALTER TABLE products ADD CHECK (price <> 6.66)")
    rows = [f"{number},Thing,{'6.66' if number in (3, 700) else number}" for number in range(1, 1_001)]
    report = load(database_url, "products", written(tmp_path / "p.csv", "product_id,name,price", *rows, "3,Thing,3"))
    assert counts(report) == (1_001, 999, 0, 0, 2)
    found = rejected(tmp_path / "rejects.jsonl")
    assert [(entry["line"], entry["code"]) for entry in found] == [
        (4, "refused_by_database"),
        (701, "refused_by_database"),
    ]
    assert "violates check constraint" in str(found[0]["reason"])


def test_a_load_that_breaks_off_has_changed_nothing(database_url: str, tmp_path: Path) -> None:
    path = written(tmp_path / "c.jsonl", *({"customer_id": number} for number in range(CHUNK_LINES + 1)))
    with open_connection(database_url, role=None) as connection:
        connection.execute(
            """
            CREATE FUNCTION pull_the_plug() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new; END $$;
            CREATE TRIGGER plug BEFORE INSERT ON customers FOR EACH ROW
            WHEN (new.customer_id = '5000') EXECUTE FUNCTION pull_the_plug();
            """
        )
    with pytest.raises(psycopg.OperationalError), psycopg.connect(libpq_url(database_url)) as connection:
        load_file(connection, "customers", path, mapping={}, time_zone="UTC", rejects=tmp_path / "rejects.jsonl")
    assert query(database_url, "SELECT count(*) FROM customers") == [(0,)]
    assert not (tmp_path / "rejects.jsonl").exists()
    with open_connection(database_url, role=None) as connection:
        connection.execute("DROP TRIGGER plug ON customers")
    assert counts(load(database_url, "customers", path)) == (CHUNK_LINES + 1, CHUNK_LINES + 1, 0, 0, 0)


def test_two_loads_at_once_in_opposite_orders_both_finish(database_url: str, tmp_path: Path) -> None:
    rows = [{"customer_id": number} for number in range(2 * CHUNK_LINES)]
    paths = [written(tmp_path / "up.jsonl", *rows), written(tmp_path / "down.jsonl", *reversed(rows))]
    reports: list[LoadReport] = []

    def run(path: Path) -> None:
        reports.append(load(database_url, "customers", path, rejects=path.with_suffix(".rejects")))

    threads = [threading.Thread(target=run, args=[path]) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(report.inserted for report in reports) == [0, 2 * CHUNK_LINES]


def test_a_callers_own_transaction_decides(database_url: str, tmp_path: Path) -> None:
    path = written(tmp_path / "c.jsonl", {"customer_id": 1})
    with open_connection(database_url) as connection:
        connection.execute("SELECT 1")
        for _ in range(2):
            load_file(connection, "customers", path, mapping={}, time_zone="UTC", rejects=tmp_path / "r.jsonl")
        connection.rollback()
    assert query(database_url, "SELECT count(*) FROM customers") == [(0,)]


@pytest.mark.parametrize(
    ("lines", "mapping", "told"),
    [
        (["id,name", "1,a"], {}, r"no column 'product_id', only id, name: .* --map product_id=THEIRS"),
        (["id,name", "1,a"], {"product_id": "ID"}, r"--map product_id=ID: .* only the columns id, name"),
        (["id,name", "1,a"], {"nmae": "name"}, r"--map nmae=name: products has only attributes, available"),
        (['{"id": 1, "name": "a"}'], {}, "no column 'product_id'"),
        (['{"product_id": 1, "name": "a"}'], {"brand": "maker"}, "no column 'maker' in any line"),
    ],
)
def test_columns_that_do_not_fit_are_told_before_anything_lands(
    database_url: str, tmp_path: Path, lines: list[str], mapping: dict[str, str], told: str
) -> None:
    path = written(tmp_path / ("p.jsonl" if lines[0].startswith("{") else "p.csv"), *lines)
    with pytest.raises(InputError, match=told) as raised:
        load(database_url, "products", path, mapping=mapping)
    assert "\n" not in str(raised.value)
    assert query(database_url, "SELECT count(*) FROM products") == [(0,)]


def test_a_mapped_column_of_jsonl_may_come_late(database_url: str, tmp_path: Path) -> None:
    rows = [{"product_id": number, "name": "Thing"} for number in range(300)]
    path = written(tmp_path / "p.jsonl", *rows, {"product_id": "last", "name": "Lamp", "maker": "Lumo"})
    assert load(database_url, "products", path, mapping={"brand": "maker"}).inserted == 301
    assert query(database_url, "SELECT product_id FROM products WHERE brand = 'Lumo'") == [("last",)]


def test_a_place_where_no_rejects_can_be_written_is_told_before_anything_lands(
    database_url: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "c.jsonl", {"customer_id": 1})
    for rejects in (tmp_path, path / "rejects.jsonl", path):
        with pytest.raises(InputError, match=r"cannot be written|is the file that is loaded"):
            load(database_url, "customers", path, rejects=rejects)
    assert path.read_text() == '{"customer_id": 1}\n'
    assert query(database_url, "SELECT count(*) FROM customers") == [(0,)]


def test_an_unknown_time_zone_is_told(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'Mars/Base' is not a time zone"):
        load(database_url, "customers", written(tmp_path / "c.jsonl"), time_zone="Mars/Base")


@pytest.mark.skipif(not REAL_SHOP.is_dir(), reason="the real shop's files are not beside this checkout")
def test_a_real_shop_loads_completely_and_only_once(database_url: str, tmp_path: Path) -> None:
    files: list[tuple[TableName, str, int]] = [
        ("customers", "customers.jsonl", 4_362),
        ("products", "products.csv", 3_676),
        ("events", "events.parquet", 332_316),
    ]
    for table, name, rows in files:
        report = load(
            database_url, table, REAL_SHOP / name, time_zone="Europe/London", rejects=tmp_path / "rejects.jsonl"
        )
        assert counts(report) == (rows, rows, 0, 0, 0)
        assert report.notes == ()
    for table, name, rows in files[:2]:
        report = load(database_url, table, REAL_SHOP / name, rejects=tmp_path / "rejects.jsonl")
        assert counts(report) == (rows, 0, 0, rows, 0)
    assert query(
        database_url, "SELECT min(occurred_at)::text, round(sum(value)) > 0 FROM events WHERE kind = 'purchase'"
    ) == [("2010-12-01 08:26:00+00", True)]
