"""Opens a shop's file by its extension and gives its columns and lines; what is wrong is said in one line."""

import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pipeline.errors import InputError
from pipeline.loading.csv_lines import read_csv
from pipeline.loading.jsonl_lines import read_jsonl
from pipeline.loading.lines import Line, Refusal

FORMS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Source:
    """An open file: its columns, None in jsonl where each line has its own, and its lines, which are read once."""

    columns: tuple[str, ...] | None
    lines: Iterator[Line | Refusal]


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The lines of `path`, read as they are asked for; closed at the end.

    Raises:
        InputError: there is no such file, its extension is unknown, or it cannot be read; also while lines are read.
    """
    form = _form(path)
    _require_file(path)
    if form == ".parquet":
        from pipeline.loading.parquet_lines import open_parquet  # noqa: PLC0415 - its import takes a second

        columns, rows = open_parquet(path)
        with closing(_guarded(path, rows)) as lines:
            yield Source(columns, lines)
        return
    with _open_bytes(path) as stream:
        columns_or_none, rows = _text_lines(stream, path, form)
        with closing(_guarded(path, rows)) as lines:
            yield Source(columns_or_none, lines)


def _require_file(path: Path) -> None:
    try:
        if path.is_file():
            return
        state = "is not a file" if path.exists() else "does not exist"
    except OSError as error:  # a folder on the way cannot be entered
        raise _unreadable(path, error) from error
    raise InputError(f"{path} {state}: give the path of a csv, jsonl or parquet file")


def _form(path: Path) -> str:
    name = path.name.lower()
    for form in FORMS:
        if name.endswith(form):
            return form
    raise InputError(f"{path} has an unknown extension: {', '.join(FORMS)} can be loaded")


def _open_bytes(path: Path) -> BinaryIO:
    try:
        if path.name.lower().endswith(".gz"):
            return cast(BinaryIO, gzip.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _text_lines(stream: BinaryIO, path: Path, form: str) -> tuple[tuple[str, ...] | None, Iterator[Line | Refusal]]:
    if form.startswith(".jsonl"):
        return None, read_jsonl(stream)
    try:
        return read_csv(stream, str(path))
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _guarded(path: Path, lines: Iterator[Line | Refusal]) -> Generator[Line | Refusal]:
    try:
        yield from lines
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(f"{path} cannot be read: {reason}; nothing of it was loaded")
