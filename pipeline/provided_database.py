"""The database to use: the one that is configured, or the embedded Postgres where none is."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.embedded_postgres import embedded_postgres
from pipeline.settings import Settings


@contextmanager
def provided_database(settings: Settings) -> Iterator[str]:
    """The URL of the database to use, which lives at least as long as the context.

    Raises:
        ConfigurationError, DatabaseError: the embedded server cannot be started.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    with embedded_postgres(settings.home) as server:
        yield server.url()
