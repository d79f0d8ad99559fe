"""Which Prefect server a run uses, and that none of it calls home."""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.temporary_server import answers, refuses_or_answers, temporary_server, without_password
from pipeline.errors import ConfigurationError

LOCAL_SERVER = "http://127.0.0.1:4200/api"
CLIENT_RETRIES = "8"
"""How often Prefect's client tries again before a flow gives up telling its server something: after 2, 4, 8 … 256 s."""
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # its page loads a script from elsewhere
    "PREFECT_CLIENT_MAX_RETRIES": CLIENT_RETRIES,  # what a flow says at its end outlasts a server that is away
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # so that a run that says nothing more is known to be dead
    "PREFECT_LOGGING_EXTRA_LOGGERS": "pipeline,flows",  # what they tell stands on the page of the run
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # and what they tell outside of one does not
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command line tells the run's story itself
}


def set_prefect_environment(home: Path) -> None:
    """Set what the environment leaves open. Must come before the first import of `prefect`.

    A temporary server keeps its records beside our data, so that it disturbs no server of the same person.

    Raises:
        ConfigurationError: the folder for its records cannot be made.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{home} cannot be made ({error.strerror}): run where you may write, or set RECSTREAM_HOME"
        ) from error
    if not (Path.home() / ".prefect").exists():
        # Who has never set Prefect up finds nothing of it in his home; who has keeps his profiles.
        os.environ.setdefault("PREFECT_HOME", str((home / "prefect").resolve()))
    records = f"sqlite+aiosqlite:///{(home / 'prefect.db').resolve()}"
    for name, value in {**_QUIET, "PREFECT_SERVER_DATABASE_CONNECTION_URL": records}.items():
        os.environ.setdefault(name, value)


def server_in_reach() -> str | None:
    """The API address that is configured for Prefect, or that of `prefect server start` on this machine; else None.

    Raises:
        ConfigurationError: an address is configured, but nobody listens there.
    """
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415 - only after the environment is set

    configured: str | None = PREFECT_API_URL.value()
    if configured is None:
        return LOCAL_SERVER if answers(LOCAL_SERVER) else None
    if not refuses_or_answers(configured):
        raise ConfigurationError(
            f"no Prefect server answers at PREFECT_API_URL {without_password(configured)}: "
            "start it (`prefect server start`), or unset it"
        )
    return configured


def require_lasting_server(why: str) -> None:
    """Refuse to go on where only a temporary server could be had.

    Raises:
        ConfigurationError: no server is in reach.
    """
    if server_in_reach() is None:
        raise ConfigurationError(
            f"no Prefect server is in reach, and {why}: start it with `prefect server start`, or set PREFECT_API_URL"
        )


@contextmanager
def prefect_server(tell: Callable[[str], None]) -> Iterator[None]:
    """Prefect talks to the server in reach inside, or to a temporary one. `tell` hears which.

    Raises:
        ConfigurationError: the temporary server does not start.
    """
    api_url = server_in_reach()
    if api_url is not None:
        tell(f"Prefect: using the server at {without_password(api_url)}")
        with talking_to(api_url):
            yield
        return
    tell("Prefect: no server in reach, so a temporary one starts for this run (about 10 s) …")
    # It outlives the block, because Prefect sends its last records when the interpreter ends.
    lasting = ExitStack()
    atexit.register(lasting.close)
    with talking_to(lasting.enter_context(temporary_server())):
        yield


@contextmanager
def talking_to(api_url: str) -> Iterator[None]:
    """Prefect's client talks to the server at `api_url` inside."""
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415 - as above

    with temporary_settings({PREFECT_API_URL: api_url}):
        yield
