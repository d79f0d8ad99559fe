"""Keeps refused lines in a jsonl file of their own, written fresh by each load and absent if nothing was refused."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pipeline.errors import InputError
from pipeline.loading.lines import Refusal

ROW_CHARACTERS = 2_000


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


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"the rejects file {path} cannot be written: {error.strerror}; name another place for it or make room"
    )
