"""`psql`: PostgreSQL's own client on the database in use, which for the embedded one is the only way in."""

import os
import signal
import subprocess

import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flows.cli.options import settings_from
from pipeline.database import libpq_url
from pipeline.embedded_postgres.binaries import installed_program
from pipeline.provided_database import provided_database


def psql(context: typer.Context) -> int:
    """Open psql on the database; what follows is handed to it.

    Example: recstream psql -c "SELECT * FROM current_recommendations WHERE customer_id = '12345'"
    """
    with provided_database(settings_from()) as url:
        address, environment = _address_and_environment(url)
        command = [str(installed_program("psql")), "--dbname", address, *context.args]
        # Ctrl-C is psql's: it cancels a query there. We wait for psql's own end.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return subprocess.run(  # noqa: S603 - its arguments are the person's own
                command,
                env=environment,
                check=False,
                preexec_fn=_hear_interrupts,  # no thread runs yet
            ).returncode
        finally:
            signal.signal(signal.SIGINT, before)


def _address_and_environment(url: str) -> tuple[str, dict[str, str]]:
    """The password goes by the environment: a command line is for everyone to see."""
    options = {name: str(value) for name, value in conninfo_to_dict(libpq_url(url)).items() if value is not None}
    password = options.pop("password", None)
    return make_conninfo(**options), {**os.environ, **({} if password is None else {"PGPASSWORD": password})}


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
