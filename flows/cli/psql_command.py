"""`psql`: PostgreSQL's own client on the database in use, which for the embedded one is the only way in."""

import signal
import subprocess

import typer

from flows.cli.options import settings_from
from pipeline.database import libpq_url
from pipeline.embedded_postgres.binaries import installed_program
from pipeline.provided_database import provided_database


def psql(context: typer.Context) -> int:
    """Open psql on the database; what follows is handed to it.

    Example: recstream psql -c "SELECT * FROM current_recommendations WHERE customer_id = '12345'"
    """
    with provided_database(settings_from()) as url:
        command = [str(installed_program("psql")), "--dbname", libpq_url(url), *context.args]
        # Ctrl-C is psql's: it cancels a query there. We wait for psql's own end.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return subprocess.run(command, check=False, preexec_fn=_hear_interrupts).returncode  # noqa: S603 - its arguments are the person's own; no thread runs yet
        finally:
            signal.signal(signal.SIGINT, before)


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
