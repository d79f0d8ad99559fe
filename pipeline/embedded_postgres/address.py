"""Where a running server is found, for programs and for people."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

SUPERUSER = "recstream"
DATABASE = "recstream"
PORT = 5432
"""No TCP port: only a part of the socket's file name. It is always said, since PGPORT may name another."""


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A server that runs for as long as the `with` that gave this."""

    data_folder: Path
    socket_folder: Path
    psql: Path
    superuser: str = SUPERUSER

    def url(self, database: str = DATABASE) -> str:
        """The address of one database for SQLAlchemy with psycopg 3."""
        host = quote(str(self.socket_folder))
        return f"postgresql+psycopg://{self.superuser}@/{quote(database, safe='')}?host={host}&port={PORT}"

    def psql_command(self, database: str = DATABASE) -> str:
        """The command line that opens `psql` on one database, ready to be pasted into a shell."""
        where = ["-h", str(self.socket_folder), "-p", str(PORT), "-U", self.superuser, "-d", database]
        return shlex.join([str(self.psql), *where])
