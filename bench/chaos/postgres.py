"""A Postgres that can be crashed: stopped in the middle of everything, and started again on the same data."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from pipeline.embedded_postgres import discard_embedded_postgres, embedded_postgres
from pipeline.embedded_postgres.accounts import run_as
from pipeline.embedded_postgres.address import DATABASE, PORT, SUPERUSER
from pipeline.embedded_postgres.binaries import Binaries, binaries_for
from pipeline.embedded_postgres.homes import Home, establish_home
from pipeline.embedded_postgres.locks import exclusive
from pipeline.embedded_postgres.server import ensure_running
from pipeline.embedded_postgres.sockets import socket_path
from pipeline.errors import DatabaseError

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server with the database `recstream`."""

    home: Home
    binaries: Binaries
    url: str
    socket_folder: Path

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return socket_path(self.socket_folder)

    @property
    def conninfo(self) -> str:
        """The way past every door, for readers and the checker."""
        return make_conninfo(host=str(self.socket_folder), port=PORT, user=SUPERUSER, dbname=DATABASE)

    def url_through(self, host: str, port: int) -> str:
        """The address of the database behind a door. What would be asked before the first message is left out."""
        return f"postgresql://{SUPERUSER}@{host}:{port}/{DATABASE}?sslmode=disable&gssencmode=disable"

    def crash(self) -> None:
        """Stop the server at once, as a power cut would, and start it again; it recovers from its log.

        Raises:
            DatabaseError: it could not be stopped, or does not come back.
        """
        with exclusive(self.home.start_lock, _PATIENCE_S):
            stop = (self.binaries.program("pg_ctl"), "stop", "-D", self.home.data, "-m", "immediate", "-w")
            stopped = run_as(self.home.account, *stop)
            if stopped.returncode:
                raise DatabaseError(
                    f"Postgres could not be crashed: {stopped.stderr.strip() or stopped.stdout.strip()}"
                )
            ensure_running(self.home, self.binaries)


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """A server whose data lies in `folder` and is deleted at the end."""
    try:
        with embedded_postgres(folder) as server:
            home = establish_home(folder)
            yield Postgres(home, binaries_for(home.account), server.url(), server.socket_folder)
    finally:
        discard_embedded_postgres(folder)
