"""Loads one file of a shop into its table: what is fit lands, what is not is refused line by line."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from pipeline.errors import InputError
from pipeline.loading.columns import Renaming, check_columns, check_mapping, columns_left_out
from pipeline.loading.lines import Line, Refusal
from pipeline.loading.rejects import RejectsFile, open_rejects
from pipeline.loading.report import LoadReport
from pipeline.loading.sources import Source, open_source
from pipeline.loading.staging import Landing, StagedRow, land, prepare
from pipeline.loading.targets import TARGETS, AnyTarget, TableName

CHUNK_LINES = 5_000
CHUNK_CHARACTERS = 16_000_000
SAMPLE_LINES = 100  # of a jsonl file, to tell which columns it has


def load_file(
    connection: psycopg.Connection,
    table: TableName,
    path: Path,
    *,
    mapping: Mapping[str, str],
    time_zone: str,
    rejects: Path,
) -> LoadReport:
    """Load the csv, jsonl or parquet file at `path` (csv and jsonl also as .gz) into `table`.

    The whole file is one transaction: readers see the table as it was until all of it is there, and a load that
    is interrupted has changed nothing. Loading again is always right, and changes nothing where nothing is new.
    Memory stays flat: lines are read, judged and copied in chunks.

    A line of customers or products is the whole row: what the file does not tell is emptied, and a row that is
    equal already is not touched. The same id on a second line is fine with the same values and refused with
    others. Events are only ever added, known by `event_id` or else by all their fields: two events alike in every
    field are one, and an event whose `event_id` is there already stays as it is.

    Args:
        connection: committed at the end; a transaction that the caller has open is left to the caller.
        table: where the rows go.
        path: the file; its extension tells its form.
        mapping: our column names to the file's, where they differ.
        time_zone: of moments that name none, such as "Europe/London".
        rejects: where refused lines go, with line, column and reason; absent afterwards if there were none.

    Raises:
        InputError: the file, its columns, the mapping or the place for rejects cannot be used. Nothing changed.
    """
    target = TARGETS[table]
    check_mapping(mapping, target.known, table)
    renaming = Renaming(mapping, target.known)
    zone = _zone(time_zone)
    with open_source(path) as opened:
        source = _checked(opened, renaming, path)
        with open_rejects(rejects, loaded=path) as refused, connection.transaction():
            prepare(connection, target.into)
            tally = _Tally(refused)
            judge = _Judge(target, renaming, zone)
            for chunk in _chunks(source.lines):
                tally.add(chunk, _land_chunk(connection, judge, chunk))
            _require_met(renaming, path, tally.read)
            refused.flush()
    return tally.report(_notes(tally.landing, source, renaming))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"{name!r} is not a time zone: give a name like 'Europe/Berlin'") from None


def _checked(source: Source, renaming: Renaming, path: Path) -> Source:
    """The source, once its columns are known to do; those of a jsonl file show in its first lines."""
    if source.columns is not None:
        check_columns(source.columns, renaming, str(path))
        return source
    sample = list(islice(source.lines, SAMPLE_LINES))
    columns = {name for line in sample if isinstance(line, Line) for name in line.cells}
    if columns:
        needed = {ours: theirs for ours, theirs in renaming.mapping.items() if ours in renaming.known.required}
        check_columns(columns, Renaming(needed, renaming.known), str(path))
    return Source(None, chain(sample, source.lines))


def _chunks(lines: Iterator[Line | Refusal]) -> Iterator[list[Line | Refusal]]:
    chunk: list[Line | Refusal] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += line.size()
        if len(chunk) == CHUNK_LINES or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


@dataclass(frozen=True, slots=True)
class _Judge:
    """Turns a line into a row of the target, or refuses it."""

    target: AnyTarget
    renaming: Renaming
    zone: ZoneInfo

    def __call__(self, line: Line) -> StagedRow | Refusal:
        try:
            return StagedRow(line, self.target.row(self.renaming(line.cells), self.zone))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            column = str(problem["loc"][0]) if problem["loc"] else None
            reason = "is empty or missing" if problem["msg"] == "Field required" else problem["msg"]
            return self._refused(line, column, problem["type"], reason)
        except PydanticCustomError as error:
            return self._refused(line, "attributes", error.type, error.message())

    def _refused(self, line: Line, column: str | None, code: str, reason: str) -> Refusal:
        theirs = None if column is None else self.renaming.theirs(column)
        return Refusal(line.number, theirs, code, reason, line.text())


def _land_chunk(connection: psycopg.Connection, judge: _Judge, chunk: list[Line | Refusal]) -> Landing:
    judged = [line if isinstance(line, Refusal) else judge(line) for line in chunk]
    landing = land(connection, judge.target.into, [row for row in judged if isinstance(row, StagedRow)])
    landing.refusals += [refusal for refusal in judged if isinstance(refusal, Refusal)]
    landing.refusals.sort(key=lambda refusal: refusal.line)
    return landing


@dataclass(slots=True)
class _Tally:
    """Counts what has landed, and puts what was refused into the rejects file."""

    rejects: RejectsFile
    read: int = 0
    landing: Landing = field(default_factory=Landing)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, chunk: list[Line | Refusal], landed: Landing) -> None:
        self.read += len(chunk)
        for refusal in landed.refusals:
            self.rejects.add(refusal)
            self.reasons[refusal.code] += 1
        landed.refusals.clear()
        self.landing.add(landed)

    def report(self, notes: tuple[str, ...]) -> LoadReport:
        return LoadReport(
            read=self.read,
            inserted=self.landing.inserted,
            updated=self.landing.updated,
            unchanged=self.landing.unchanged,
            refused=self.rejects.count,
            refused_by_reason=dict(self.reasons.most_common()),
            rejects_path=self.rejects.path if self.rejects.count else None,
            notes=notes,
        )


def _require_met(renaming: Renaming, path: Path, read: int) -> None:
    """A jsonl file may show a column late; one that never came was misspelt. Raises InputError."""
    unmet = renaming.unmet()
    if read and unmet:
        raise InputError(f"{path} has no column {unmet[0]!r} in any line, though --map names it: mend --map")


def _notes(landing: Landing, source: Source, renaming: Renaming) -> tuple[str, ...]:
    notes = []
    if landing.unknown_customers:
        notes.append(f"{_events_name(landing.unknown_customers)} a customer that is not loaded")
    if landing.unknown_products:
        notes.append(f"{_events_name(landing.unknown_products)} a product that is not loaded")
    if landing.unknown_runs:
        notes.append(f"{_events_name(landing.unknown_runs)} a run that is not here: eval --live does not count them")
    if left_out := columns_left_out(source.columns or (), renaming):
        notes.append(f"columns without a place in the table were left out: {', '.join(left_out)}")
    return tuple(notes)


def _events_name(count: int) -> str:
    return "1 event names" if count == 1 else f"{count:,} events name"
