"""Removes a customer from the files that Prefect leaves beside our data: what no Prefect server offers to delete.

They are the records of the temporary server, in which events outlive their flow runs, and the values that flows ended
with: the error of a failed flow is kept as a file. No server runs on these records now, so they are opened as they are.
"""

import base64
import binascii
import pickletools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.mentions import Mentions

_PATIENCE_S = 10.0
_OURS = ("pipeline.", "flows.")


@dataclass(frozen=True, slots=True)
class PrefectFilesErased:
    """What was removed, or in a dry run counted: rows of the records that name him, and files.

    `looked_at` is the number of rows that were gone through.
    """

    looked_at: int
    rows: int
    files: tuple[Path, ...]


def erase_from_prefect_files(
    records: Path, storage: Path, mentions: Mentions, *, dry_run: bool = False
) -> PrefectFilesErased:
    """Remove what names the customer from the temporary server's `records` and from the folder `storage`.

    Raises:
        InputError: a file cannot be read or written, or a server still has the records open.
    """
    try:
        looked_at, rows = _erase_rows(records, mentions, dry_run=dry_run) if records.is_file() else (0, 0)
        files = tuple(path for path in _kept_values(storage) if mentions.is_in(_words_of(path)))
        if not dry_run:
            for path in files:
                path.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"Prefect's files in {records.parent} cannot be searched for the customer ({error}): "
            "end what uses them, and erase again"
        ) from error
    return PrefectFilesErased(looked_at, rows, files)


def _erase_rows(records: Path, mentions: Mentions, *, dry_run: bool) -> tuple[int, int]:
    """Of all rows of all tables those in which a column names him; what is deleted leaves the file too."""
    with closing(sqlite3.connect(records, timeout=_PATIENCE_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        looked_at = erased = 0
        for table in _tables_of(connection):
            his: list[int] = []
            for rowid, text in _rows_as_text(connection, table):
                looked_at += 1
                if mentions.is_in(text):
                    his.append(rowid)
            erased += len(his)
            if not dry_run:
                connection.executemany(f"DELETE FROM {table} WHERE rowid = ?", [(rowid,) for rowid in his])
        if not dry_run:
            _delete_logs_of_nobody(connection)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return looked_at, erased


def _delete_logs_of_nobody(connection: sqlite3.Connection) -> None:
    """What a deleted flow run said. Its other records went with it; the logs do not know that they belong to it."""
    if {'"log"', '"flow_run"'} <= set(_tables_of(connection)):
        connection.execute(
            "DELETE FROM log WHERE flow_run_id IS NOT NULL AND flow_run_id NOT IN (SELECT id FROM flow_run)"
        )


def _tables_of(connection: sqlite3.Connection) -> list[str]:
    """The names of Prefect's tables, quoted."""
    found = connection.execute(
        "SELECT quote(name) FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%WITHOUT ROWID%' "
        "AND name NOT LIKE 'sqlite_%'"
    )
    return [f'"{name[1:-1]}"' for (name,) in found]


def _rows_as_text(connection: sqlite3.Connection, table: str) -> Iterator[tuple[int, str]]:
    for rowid, *values in connection.execute(f"SELECT rowid, * FROM {table}"):
        yield rowid, "\n".join(value for value in values if isinstance(value, str))


def _kept_values(storage: Path) -> Iterator[Path]:
    return (path for path in sorted(storage.glob("*")) if path.is_file()) if storage.is_dir() else iter(())


def _words_of(path: Path) -> str:
    """Every text in a kept value of one of our flows; nothing of other people's flows. It is read, never loaded."""
    try:
        pickled = base64.b64decode(path.read_bytes())
        words = [word for _, word, _ in pickletools.genops(pickled) if isinstance(word, str)]
    except (binascii.Error, ValueError):  # pickletools raises ValueError too
        return ""
    return "\n".join(words) if any(word.startswith(_OURS) for word in words) else ""
