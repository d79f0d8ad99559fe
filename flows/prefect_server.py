"""Which Prefect server a run uses, and that none of it calls home. Import this before `prefect` itself."""

import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

LOCAL_SERVER = "http://127.0.0.1:4200/api"
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # its page loads a script from elsewhere
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",  # the command line tells the run's story itself
}


def set_prefect_environment(home: Path) -> None:
    """Set what the environment leaves open. Must come before the first import of `prefect`.

    A temporary server keeps its records beside our data, so that it disturbs no server of the same person.
    """
    records = f"sqlite+aiosqlite:///{(home / 'prefect.db').resolve()}"
    for name, value in {**_QUIET, "PREFECT_SERVER_DATABASE_CONNECTION_URL": records}.items():
        os.environ.setdefault(name, value)


@contextmanager
def prefect_server_in_reach() -> Iterator[str | None]:
    """The API address of the server to use; None where Prefect will start a temporary one of its own."""
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415 - only after the environment is set

    configured: str | None = PREFECT_API_URL.value()
    if configured:
        yield configured
    elif _answers(LOCAL_SERVER):
        with temporary_settings({PREFECT_API_URL: LOCAL_SERVER}):
            yield LOCAL_SERVER
    else:
        yield None


def _answers(api_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=1) as answer:  # noqa: S310 - a constant http address
            return bool(answer.status == 200 and answer.read(10).strip() == b"true")
    except (URLError, OSError):
        return False
