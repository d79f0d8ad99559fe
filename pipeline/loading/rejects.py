"""Keeps refused lines in a jsonl file of their own, written fresh by each load and absent if nothing was refused.

The database knows where such files are: they hold the shop's data, and an erasure must find them.
"""

import csv
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, TypeAlias

import psycopg

from pipeline.errors import InputError
from pipeline.loading.lines import Refusal

ROW_CHARACTERS = 2_000
_ESCAPED = 0xDC00  # what Python's surrogateescape adds to a byte
_Json: TypeAlias = "dict[str, _Json] | list[_Json] | str | float | bool | None"


class RejectsFile:
    """An open rejects file. `count` is the number of lines in it."""

    def __init__(self, path: Path, stream: TextIO, loaded: Path) -> None:
        self.path = path
        self.count = 0
        self._stream = stream
        self._loaded = str(loaded)

    def add(self, refusal: Refusal) -> None:
        """Write one refused line."""
        entry = {
            "file": self._loaded,
            "line": refusal.line,
            "column": refusal.column,
            "code": refusal.code,
            "reason": refusal.reason,
            "row": refusal.row[:ROW_CHARACTERS],
        }
        try:
            self._stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.count += 1

    def flush(self) -> None:
        """See to it that all lines are in the file."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error


@contextmanager
def open_rejects(path: Path, *, loaded: Path) -> Iterator[RejectsFile]:
    """The rejects of the file `loaded`; the file at `path` goes away again if nothing was refused or the load failed.

    Raises:
        InputError: the file cannot be written, or is the very one that is being loaded.
    """
    if path.exists() and path.samefile(loaded):
        raise InputError(f"{path} is the file that is loaded: name another file for the rejects")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise _unwritable(path, error) from error
    rejects = RejectsFile(path, stream, loaded)
    complete = False
    try:
        yield rejects
        rejects.flush()
        complete = rejects.count > 0
    finally:
        with suppress(OSError):  # a full disk was reported by the write that met it
            stream.close()
        if not complete and path.is_file():  # not a device such as /dev/null
            path.unlink()


def remember_rejects(connection: psycopg.Connection, path: Path) -> None:
    """Write down where a load is about to put refused lines, so that who erases a customer finds them; commits.

    A device such as /dev/null is passed over. Raises psycopg's own errors.

    Raises:
        InputError: the path has bytes in it that are no text.
    """
    if not _is_text(path):
        raise InputError(f"the rejects file {str(path)!r} has bytes in its name that are no UTF-8: name another one")
    if path.exists() and not path.is_file():
        return
    connection.execute(
        "INSERT INTO rejects_files (machine, path) VALUES (%s, %s) "
        "ON CONFLICT (machine, path) DO UPDATE SET written_at = now()",
        [socket.gethostname(), os.path.abspath(path)],  # noqa: PTH100 - the place itself, wherever a link there leads
    )
    connection.commit()


def _is_text(path: Path) -> bool:
    return not any("\ud800" <= it <= "\udfff" for it in str(path.absolute()))


def refused_line(entry: str) -> str:
    """What a line of a rejects file holds of the shop's: the refused line, and the reason that may quote it.

    The refused line is there as the shop spelt it and, each on a line of its own, as its values are read: out of JSON,
    out of csv, and out of bytes that were no UTF-8.
    """
    try:
        found = json.loads(entry)
        reason, row = str(found["reason"]), str(found["row"])
    except (ValueError, KeyError, TypeError):  # somebody edited it, or the load that wrote it was killed
        return entry
    rows = (row, _from_latin(row))
    return "\n".join(dict.fromkeys((reason, *rows, *(value for text in rows for value in _values_in(text)))))


def _from_latin(row: str) -> str:
    """The line if it was written in latin-1: what is no UTF-8 stands in it as half a character."""
    return "".join(chr(ord(it) - _ESCAPED) if _ESCAPED < ord(it) <= _ESCAPED + 0xFF else it for it in row)


def _values_in(row: str) -> Iterator[str]:
    """Every text in a line of JSON, or every field of a line of csv whatever separates them."""
    try:
        yield from _texts_in(json.loads(row))
    except (ValueError, RecursionError):
        for separator in ",;\t|":
            with suppress(csv.Error):
                for fields in csv.reader([row], delimiter=separator):
                    yield from fields


def _texts_in(value: _Json) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        yield from (text for held in value.values() for text in _texts_in(held))
    elif isinstance(value, list):
        yield from (text for held in value for text in _texts_in(held))
    elif value is not None:
        yield str(value)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"the rejects file {path} cannot be written: {error.strerror}; name another place for it or make room"
    )
