"""Reads parquet a record batch at a time, so that memory stays flat; a value beyond Python refuses its row alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.loading.lines import Cell, Line, Refusal

BATCH_ROWS = 5_000


class _Unreadable:
    """Stands in a cell whose value has no Python form, such as the year 200000."""


_UNREADABLE = _Unreadable()
_Read: TypeAlias = "Cell | _Unreadable"


class _Scalar(Protocol):
    def as_py(self) -> Cell: ...


class _Column(Protocol):
    """What is needed of pyarrow's arrays: all cells at once, or one after the other."""

    def to_pylist(self) -> list[_Read]: ...

    def __iter__(self) -> Iterator[_Scalar]: ...


def open_parquet(path: Path) -> tuple[tuple[str, ...], Iterator[Line | Refusal]]:
    """The file's columns and its rows.

    Raises:
        InputError: the file is no parquet file, or breaks off.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from error
    return tuple(file.schema_arrow.names), _rows(file, path)


def _rows(file: pq.ParquetFile, path: Path) -> Iterator[Line | Refusal]:
    number = 0
    with file:
        for batch in _batches(file, path):
            names = batch.schema.names
            columns = cast(Sequence[_Column], batch.columns)
            for cells in zip(*map(_cells, columns), strict=True):
                number += 1
                yield _line(number, dict(zip(names, cells, strict=True)))


def _batches(file: pq.ParquetFile, path: Path) -> Iterator[pa.RecordBatch]:
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield batch.cast(_in_microseconds(batch.schema), safe=False)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from error


def _in_microseconds(schema: pa.Schema) -> pa.Schema:
    """The schema with moments as fine as Python's are."""
    for place, column in enumerate(schema):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            schema = schema.set(place, column.with_type(pa.timestamp("us", column.type.tz)))
    return schema


def _cells(column: _Column) -> list[_Read]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return [_cell(scalar) for scalar in column]


def _cell(scalar: _Scalar) -> _Read:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, pa.ArrowException):
        return _UNREADABLE


def _line(number: int, cells: dict[str, _Read]) -> Line | Refusal:
    readable: dict[str, Cell] = {name: cell for name, cell in cells.items() if not isinstance(cell, _Unreadable)}
    line = Line(number, readable)
    if len(readable) == len(cells):
        return line
    column = next(name for name, cell in cells.items() if isinstance(cell, _Unreadable))
    return Refusal(number, column, "unreadable_value", "holds a value that cannot be read", line.text())


def _not_parquet(path: Path, error: Exception) -> InputError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(f"{path} cannot be read as parquet: {reason.rstrip('.')}; write the file anew")
