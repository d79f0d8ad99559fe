"""Removes a customer from the files that recstream wrote beside the database, or finds where he still is.

Rejects files are known through the table `rejects_files`. A line there is a line of the shop's that was refused, so
that nobody knows which column of it holds whom: every line in which the id stands by itself goes. A log keeps its
lines, with the customer's name taken out.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Final, TextIO, cast

from pipeline.database import open_connection
from pipeline.domain import CustomerId
from pipeline.errors import InputError
from pipeline.loading.rejects import refused_line
from pipeline.mentions import Mentions

_QUOTES: Final = ("DETAIL:", "CONTEXT:", "STATEMENT:")
_ANEW: Final = ".erasing"


@dataclass(frozen=True, slots=True)
class FileErased:
    """A file that was looked through, and how many of its lines were removed or changed (a dry run: would be)."""

    path: Path
    lines: int
    erased: int


@dataclass(frozen=True, slots=True)
class FilesErased:
    """`gone` are files that are there no more; `elsewhere` those on another machine, as `machine:path`."""

    files: tuple[FileErased, ...]
    gone: tuple[Path, ...]
    elsewhere: tuple[str, ...]


def erase_from_files(
    url: str, customer_id: CustomerId, *, logs: Sequence[Path] = (), dry_run: bool = False
) -> FilesErased:
    """Remove the customer from every rejects file on this machine, and from these logs.

    With `dry_run` nothing is changed: `erased` then counts the lines that mention him, which is how it is verified that
    none is left.

    Raises:
        InputError: a file cannot be read or written.
        DatabaseError: the table that knows the files cannot be read.
    """
    mentions = Mentions(customer_id)
    here, elsewhere = _known_rejects(url)
    there, gone = _there(here)
    shared, _ = _there([path for _, path in elsewhere])
    files = [
        *(_erase_lines(path, mentions, dry_run=dry_run) for path in dict.fromkeys((*there, *shared))),
        *(_erase_words(path, mentions, dry_run=dry_run) for path in _there(logs)[0]),
    ]
    return FilesErased(tuple(files), tuple(gone), tuple(f"{machine}:{path}" for machine, path in elsewhere))


def _known_rejects(url: str) -> tuple[list[Path], list[tuple[str, Path]]]:
    """The files of this machine, and those of others with its names."""
    with open_connection(url) as connection:
        found = connection.execute("SELECT machine, path FROM rejects_files ORDER BY machine, path").fetchall()
    known = [(str(machine), Path(path)) for machine, path in found]
    here = [path for machine, path in known if machine == socket.gethostname()]
    return here, [(machine, path) for machine, path in known if machine != socket.gethostname()]


def _there(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Those that are files, and those that are not."""
    there: list[Path] = []
    gone: list[Path] = []
    for path in paths:
        try:
            (there if path.is_file() else gone).append(path)
        except OSError as error:
            raise _unusable(path, error) from error
    return there, gone


def _erase_lines(path: Path, mentions: Mentions, *, dry_run: bool) -> FileErased:
    """Write the file anew without the lines in which the id stands, and put it in the old one's place."""
    lines = erased = 0
    try:
        with _open(path, "r") as file:
            for line in file:
                lines += 1
                erased += mentions.may_be_in(refused_line(line))
        if not dry_run:
            _remove_leftovers(path.resolve())
            if erased:
                _replace(path.resolve(), mentions)
    except OSError as error:
        raise _unusable(path, error) from error
    return FileErased(path, lines, erased)


def _replace(path: Path, mentions: Mentions) -> None:
    """Whoever reads the file has the old one or the new one, and so has the disk after a crash."""
    with _open(path, "r") as old, _beside(path) as new:
        before = path.stat()
        if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(new.fileno(), before.st_uid, before.st_gid)
        os.fchmod(new.fileno(), before.st_mode & 0o7777)
        new.writelines(line for line in old if not mentions.may_be_in(refused_line(line)))
        new.flush()
        os.fsync(new.fileno())
        Path(new.name).replace(path)


@contextmanager
def _beside(path: Path) -> Iterator[IO[str]]:
    """A new file of ours beside this one, which is gone at the end unless it has taken another place."""
    with NamedTemporaryFile(
        "w",
        dir=path.parent,
        prefix=f".{path.name}.",
        suffix=_ANEW,
        encoding="utf-8",
        errors="surrogateescape",
        newline="\n",
        delete=False,
    ) as new:
        try:
            yield new
        finally:
            with suppress(FileNotFoundError):
                Path(new.name).unlink()


def _remove_leftovers(path: Path) -> None:
    """What a killed erasure has left half written holds lines of the file."""
    for name in os.listdir(path.parent):  # noqa: PTH208 - names, which a pattern could take for something else
        if name.startswith(f".{path.name}.") and name.endswith(_ANEW):
            path.with_name(name).unlink(missing_ok=True)


def _erase_words(path: Path, mentions: Mentions, *, dry_run: bool) -> FileErased:
    """Change the lines of a log where they stand: its writer keeps it open, and goes on at its end."""
    try:
        with _open(path, "r") as log:
            lines = log.readlines()
        changed = list(_without(mentions, lines))
        erased = sum(before != after for before, after in zip(lines, changed, strict=True))
        if erased and not dry_run:
            with _open(path, "r+") as log:
                log.writelines(changed)
                log.truncate()
    except OSError as error:
        raise _unusable(path, error) from error
    return FileErased(path, len(lines), erased)


def _without(mentions: Mentions, lines: Sequence[str]) -> Iterator[str]:
    """Lines of Postgres's log: what they quote of a row or a statement may be the customer without saying so.

    A line that begins with a tab goes on with the line before.
    """
    quoting = False
    for line in lines:
        mark = next((mark for mark in _QUOTES if mark in line), None)
        if line.startswith("\t"):
            yield mentions.erased_anywhere(line) if quoting else mentions.erased_from(line)
        elif mark is None:
            quoting = False
            yield mentions.erased_from(line)
        else:
            quoting = True
            before, mark, quoted = line.partition(mark)
            yield mentions.erased_from(before) + mark + mentions.erased_anywhere(quoted)


def _open(path: Path, mode: str) -> TextIO:
    """The file, whose lines come back as they are whatever is in them."""
    return cast("TextIO", path.open(mode, encoding="utf-8", errors="surrogateescape", newline="\n"))


def _unusable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be searched for the customer ({error.strerror}): "
        "erase again as a user who may read and write it"
    )
