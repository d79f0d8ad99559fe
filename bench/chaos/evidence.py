"""What there is to judge: what the ranker sent, what was acknowledged, what the tables hold, what readers saw.

The logs are files of one JSON document a line, the tables are read by plain SQL. Nothing of the pipeline is imported;
what the tables mean (states, endings, rejections, leases) is known.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, LiteralString, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import class_row

T = TypeVar("T")
SlateKey = tuple[UUID, str]
"""A run and a customer."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One object whose last byte the ranker handed to a socket.

    `name` is the product that it means, None for none of those offered; `score` is 0 to 1, None for no number.
    """

    name: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the ranker. `offered` are the names of all products in its prompt."""

    request_id: str
    received_at: float  # seconds since 1970
    offered: tuple[str, ...]
    objects: tuple[Sent, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A row as its caller was told that it is durable."""

    run_id: UUID
    customer_id: str
    rank: int
    product_id: str
    product_name: str
    relevance_score: float
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `recommendations`."""

    run_id: UUID
    customer_id: str
    rank: int
    product_id: str
    product_name: str
    relevance_score: float
    attempt: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `runs`."""

    run_id: UUID
    state: str


@dataclass(frozen=True, slots=True)
class Slate:
    """A row of `slates`; `slate_size` is its run's."""

    run_id: UUID
    customer_id: str
    state: str
    slate_size: int


@dataclass(frozen=True, slots=True)
class Call:
    """A row of `llm_calls`: one attempt, as the pipeline has it. `lease` counts how often its slate had been opened."""

    run_id: UUID
    customer_id: str
    attempt: int
    request_id: str | None
    ending: str
    lease: int = 1
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it. `rejections` counts those of each run, customer and attempt; `torn` says what readers saw."""

    requests: Sequence[Request] = ()
    acknowledged: Sequence[Acknowledged] = ()
    customers: Sequence[str] = ()
    runs: Sequence[Run] = ()
    slates: Sequence[Slate] = ()
    rows: Sequence[Row] = ()
    rejections: Mapping[tuple[UUID, str, int], int] = field(default_factory=Counter)
    calls: Sequence[Call] = ()
    torn: Sequence[str] = ()


def gather(sent_log: Path, acknowledgements: Path, torn_log: Path, conninfo: str) -> Evidence:
    """Read the three logs and the tables."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return Evidence(
            requests=[request_of(line) for line in _lines(sent_log)],
            acknowledged=[acknowledged_of(line) for line in _lines(acknowledgements)],
            customers=_column(connection, "SELECT customer_id FROM customers WHERE active"),
            runs=_rows(connection, Run, "SELECT run_id, state FROM runs ORDER BY created_at"),
            slates=_rows(connection, Slate, _SLATES),
            rows=_rows(connection, Row, _ROWS),
            rejections={(run, customer, attempt): count for run, customer, attempt, count in _rejections(connection)},
            calls=_rows(connection, Call, _CALLS),
            torn=[str(line["seen"]) for line in _lines(torn_log)],
        )


def write_tables(evidence: Evidence, path: Path) -> None:
    """Keep what was read of the tables, a row a line: the database itself does not outlive the storm."""
    with path.open("w", encoding="utf-8") as file:
        for table in (evidence.runs, evidence.slates, evidence.rows, evidence.calls):
            for line in table:
                file.write(json.dumps({"is": type(line).__name__, **asdict(line)}, default=str) + "\n")
        for (run_id, customer, attempt), number in evidence.rejections.items():
            file.write(
                json.dumps({"is": "Rejections", "of": [str(run_id), customer, attempt], "number": number}) + "\n"
            )


def request_of(line: Mapping[str, object]) -> Request:
    """Read one line of the ranker's log."""
    candidates, objects = line["candidates"], line["objects"]
    assert isinstance(candidates, dict)
    assert isinstance(objects, list)
    return Request(
        request_id=str(line["request_id"]),
        received_at=float(str(line["received_at"])),
        offered=tuple(candidates.values()),
        objects=tuple(_sent(entry["text"], candidates) for entry in objects),
    )


def acknowledged_of(line: Mapping[str, object]) -> Acknowledged:
    """Read one line of the acknowledgements."""
    return Acknowledged(
        UUID(str(line["run_id"])),
        str(line["customer_id"]),
        int(str(line["rank"])),
        str(line["product_id"]),
        str(line["product_name"]),
        float(str(line["relevance_score"])),
        datetime.fromisoformat(str(line["committed_at"])),
    )


def _sent(text: str, candidates: Mapping[str, str]) -> Sent:
    """Read an object as the ranker wrote it: `i` is a number of the prompt, `s` a score of 0 to 100."""
    written = json.loads(text)
    try:
        score = float(written.get("s", "nan"))
    except ValueError:
        score = float("nan")
    return Sent(candidates.get(str(written["i"])), score / 100 if isfinite(score) else None)


def _lines(path: Path) -> Iterator[dict[str, object]]:
    """The whole lines of a log: the last one of a process that was killed may be cut short."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.endswith("\n"))


_SLATES = "SELECT run_id, customer_id, slates.state, slate_size FROM slates JOIN runs USING (run_id)"
_ROWS = """
    SELECT run_id, customer_id, rank, product_id, product_name, relevance_score, attempt, committed_at
    FROM recommendations
"""
_CALLS = "SELECT run_id, customer_id, attempt, request_id, ending, lease, started_at, ended_at FROM llm_calls"
_REJECTIONS = "SELECT run_id, customer_id, attempt, count(*) FROM rejections GROUP BY 1, 2, 3"


def _rows(connection: psycopg.Connection, kind: type[T], statement: LiteralString) -> list[T]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(statement).fetchall()


def _column(connection: psycopg.Connection, statement: LiteralString) -> list[Any]:
    return [value for (value,) in connection.execute(statement)]


def _rejections(connection: psycopg.Connection) -> list[tuple[UUID, str, int, int]]:
    found: list[tuple[UUID, str, int, int]] = connection.execute(_REJECTIONS).fetchall()
    return found
