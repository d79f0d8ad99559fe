"""Locks between processes that the kernel releases when their holder dies, however it dies."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pipeline.embedded_postgres.waiting import attempts
from pipeline.errors import DatabaseUnavailableError


class LockFile:
    """An open lock file. Programs that this process starts do not inherit it, unless it is handed to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def try_exclusive(self) -> bool:
        """Take the lock alone, if nobody else has it. A shared lock of ours is given up either way."""
        return self._try(fcntl.LOCK_EX)

    def wait_exclusive(self, patience_s: float) -> None:
        """Take the lock alone, within `patience_s` seconds.

        Raises:
            DatabaseUnavailableError: somebody else kept it for all that time.
        """
        self._wait(fcntl.LOCK_EX, patience_s)

    def wait_shared(self, patience_s: float) -> None:
        """Take the lock beside others, within `patience_s` seconds.

        Raises:
            DatabaseUnavailableError: somebody kept it alone for all that time.
        """
        self._wait(fcntl.LOCK_SH, patience_s)

    def release(self) -> None:
        """Give the lock up, also in children that were forked while it was held."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def _wait(self, mode: int, patience_s: float) -> None:
        for _ in attempts(patience_s):
            if self._try(mode):
                return
        raise DatabaseUnavailableError(
            f"another process has been starting or stopping the embedded PostgreSQL for {patience_s:.0f} s: "
            f"find the one that holds {self.path} (lsof, fuser), end it and try again"
        )

    def _try(self, mode: int) -> bool:
        try:
            fcntl.flock(self.descriptor, mode | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return False
            raise
        return True


@contextmanager
def exclusive(path: Path, patience_s: float) -> Iterator[None]:
    """Hold the lock file `path` alone.

    Raises:
        DatabaseUnavailableError: somebody else kept it for `patience_s` seconds.
    """
    with LockFile(path) as lock:
        lock.wait_exclusive(patience_s)
        try:
            yield
        finally:
            lock.release()
