"""Files become lines, without a database: forms, dirt, and what is refused alone."""

import gzip
import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.loading.lines import Cell, Line, Refusal
from pipeline.loading.physical import LONGEST_LINE
from pipeline.loading.sources import open_source


def lines_of(path: Path) -> list[Line | Refusal]:
    with open_source(path) as source:
        return list(source.lines)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells_of(path: Path) -> list[Mapping[str, Cell]]:
    return [line.cells for line in lines_of(path) if isinstance(line, Line)]


def refused(path: Path) -> list[tuple[int, str]]:
    return [(line.line, line.code) for line in lines_of(path) if isinstance(line, Refusal)]


# Forms of files


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_is_read_with_the_separator_of_its_header(tmp_path: Path, separator: str) -> None:
    content = separator.join(["product_id", "name"]) + "\n" + separator.join(["1", '"say ""hi"", then go"']) + "\n"
    assert cells_of(written(tmp_path / "p.csv", content)) == [{"product_id": "1", "name": 'say "hi", then go'}]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert cells_of(written(tmp_path / "a.csv", b"\xef\xbb\xbfid,b\n1,2\n")) == [{"id": "1", "b": "2"}]
    assert cells_of(written(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"id": 1}\n')) == [{"id": 1}]


def test_packed_files_are_read_as_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id\n1\n"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"id": 1}\n'))
    assert cells_of(tmp_path / "a.csv.gz") == [{"id": "1"}]
    assert cells_of(tmp_path / "a.jsonl.gz") == [{"id": 1}]


def test_line_separators_inside_json_strings_part_no_lines(tmp_path: Path) -> None:
    content = json.dumps({"name": "a\u2028b\u0085c"}, ensure_ascii=False) + "\n"
    assert cells_of(written(tmp_path / "a.jsonl", content)) == [{"name": "a\u2028b\u0085c"}]


def test_a_csv_record_of_several_lines_is_one_line_numbered_by_its_first(tmp_path: Path) -> None:
    lines = lines_of(written(tmp_path / "a.csv", 'id,text\n1,"two\nlines"\n2,b\n'))
    assert [(line.number, line.cells["text"]) for line in lines if isinstance(line, Line)] == [
        (2, "two\nlines"),
        (4, "b"),
    ]


def test_parquet_cells_keep_their_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1], pa.int64()),
            "at": pa.array([datetime(2026, 1, 1, 12)], pa.timestamp("ns")),
            "day": pa.array([date(2026, 1, 1)]),
            "price": pa.array([Decimal("1.50")]),
            "tags": pa.array([["a", "b"]]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert cells_of(tmp_path / "a.parquet") == [
        {
            "id": 1,
            "at": datetime(2026, 1, 1, 12),
            "day": date(2026, 1, 1),
            "price": Decimal("1.50"),
            "tags": ["a", "b"],
        }
    ]


def test_a_parquet_value_that_python_cannot_hold_refuses_its_row_alone(tmp_path: Path) -> None:
    far_away = pa.array([0, 10**16, 1], pa.int64()).cast(pa.timestamp("ms"))
    pq.write_table(pa.table({"id": [1, 2, 3], "at": far_away}), tmp_path / "a.parquet")
    assert refused(tmp_path / "a.parquet") == [(2, "unreadable_value")]
    assert [cells["id"] for cells in cells_of(tmp_path / "a.parquet")] == [1, 3]


def test_a_file_without_rows_has_no_lines(tmp_path: Path) -> None:
    assert lines_of(written(tmp_path / "a.csv", "id,name\n")) == []
    assert lines_of(written(tmp_path / "a.jsonl", "")) == []


# Files that cannot be read at all


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\n", "is empty"),
        ("a.csv", b"\xff\xfei\x00d\x00", "UTF-16"),
        ("a.csv", b"\x00\x01\x02\x03", "no csv file"),
        ("a.csv", b"x" * (LONGEST_LINE + 1), "no csv file"),
        ("a.csv", b"id,id\n1,2\n", "column 'id' twice"),
        ("a.csv", b'id,"name\n1,2\n', "never closed"),
        ("a.parquet", b"PAR1 not really", "cannot be read as parquet"),
        ("a.csv.gz", b"plain text", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"id": 1}\n' * 1000, mtime=0)[:-20], "cannot be read"),
        ("a.xlsx", b"", "unknown extension"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        lines_of(written(tmp_path / name, content))
    assert "\n" not in str(raised.value)
    assert str(tmp_path / name) in str(raised.value)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        lines_of(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is not a file"):
        lines_of(tmp_path / "folder.csv")


# Lines that cannot be read


def test_a_csv_row_with_too_few_or_too_many_fields_is_refused_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,name\n1,a\n2\n3,c,d\n4,d\n")
    assert refused(path) == [(3, "wrong_field_count"), (4, "wrong_field_count")]
    assert [cells["id"] for cells in cells_of(path)] == ["1", "4"]


@pytest.mark.parametrize(
    "broken", ['2,"never closed', '2,"closed" twice"', f'2,"never closed and long {"x" * 140_000}']
)
def test_a_quote_never_closed_takes_no_other_line_along(tmp_path: Path, broken: str) -> None:
    path = written(tmp_path / "a.csv", f'id,name\n1,a\n{broken}\n3,"c"\n4,d\n5,e\n')
    assert refused(path) == [(3, "not_csv")]
    assert [cells["id"] for cells in cells_of(path)] == ["1", "3", "4", "5"]


def test_lines_that_are_no_json_objects_are_refused_alone(tmp_path: Path) -> None:
    bad = [b"{broken", b"[1]", b'"text"', b'{"a": "\xff"}', b"[" * 100_000, b'{"a": 1' + b"0" * 5_000 + b"}"]
    path = written(tmp_path / "a.jsonl", b"\n".join([b'{"id": 1}', *bad, b"", b'{"id": 2}']))
    assert refused(path) == [
        (2, "not_json"),
        (3, "not_an_object"),
        (4, "not_an_object"),
        (5, "not_utf8"),
        (6, "not_json"),
        (7, "not_json"),
    ]
    assert cells_of(path) == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_endless_line_is_refused_alone(tmp_path: Path, form: str) -> None:
    first, last = ("id,name\n1,a\n", "3,c\n") if form == "csv" else ('{"id": 1}\n{"id": 2}\n', '{"id": 3}\n')
    path = written(tmp_path / f"a.{form}", first + "y" * (2 * LONGEST_LINE + 5) + "\n" + last)
    assert refused(path) == [(3, "too_long")]
    assert len(cells_of(path)) == (2 if form == "csv" else 3)
