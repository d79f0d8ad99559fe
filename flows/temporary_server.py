"""A Prefect server for one run, where none is in reach.

Prefect would start one by itself, but in our process group: Ctrl-C would end it before the run could be closed in it,
and kill -9 would leave it behind. This one hears no Ctrl-C, and ends itself when its parent is gone.

Run as a program (`python -m flows.temporary_server`) this module is that server.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO
from urllib.error import HTTPError, URLError

from pipeline.child_process import child_process, first_line, wait_for_parents_end
from pipeline.errors import ConfigurationError

START_WITHIN_S = 90.0
_END_WITHIN_S = 4.0
# What Prefect itself sets for its temporary server (prefect.server.api.server, SubprocessASGIServer, 3.8.8).
_ENVIRONMENT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


@contextmanager
def temporary_server() -> Iterator[str]:
    """The API address of a server that lives as long as the block.

    Raises:
        ConfigurationError: it does not answer within 90 s, with its own last line where it has one.
    """
    with child_process(__name__, (), environment=_ENVIRONMENT, end_within_s=_END_WITHIN_S) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe
        assert process.stderr is not None  # noqa: S101 - a pipe
        errors = _Drain(process.stderr)
        deadline = time.monotonic() + START_WITHIN_S
        line = first_line(process.stdout, what="Prefect's temporary server", within_s=START_WITHIN_S)
        api_url = json.loads(line)["api_url"] if line else ""
        while not (api_url and answers(api_url)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError(f"Prefect's temporary server did not start: {errors.last_line()}")
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        yield api_url


def answers(api_url: str) -> bool:
    """True where a healthy Prefect server listens."""
    return _health(api_url, patience_s=2) == 200


def refuses_or_answers(api_url: str) -> bool:
    """True for a healthy Prefect server, and for one that wants a key first."""
    return _health(api_url, patience_s=10) in {200, 401, 403}


def without_password(api_url: str) -> str:
    """The address without the name and the password that may stand in it."""
    before, at, behind = api_url.rpartition("@")
    return f"{before.partition('//')[0]}//{behind}" if at else api_url


def _health(api_url: str, patience_s: float) -> int | None:
    """The status with which a Prefect server tells its health; None for what is none, or does not answer."""
    try:
        with urllib.request.urlopen(f"{without_password(api_url)}/health", timeout=patience_s) as answer:  # noqa: S310 - a set address
            return 200 if answer.read(10).strip() == b"true" else None
    except HTTPError as error:
        return error.code
    except (URLError, OSError, ValueError):
        return None


class _Drain:
    """Reads a child's stderr so that it never blocks, and remembers the last line."""

    def __init__(self, stderr: IO[bytes]) -> None:
        self._last = b""
        self._thread = threading.Thread(target=self._read, args=(stderr,), daemon=True)
        self._thread.start()

    def last_line(self) -> str:
        """What the child said last."""
        self._thread.join(1)
        return self._last.decode(errors="replace").strip() or "it ended without a word; start it again"

    def _read(self, stderr: IO[bytes]) -> None:
        for line in stderr:
            self._last = line if line.strip() else self._last


def _serve() -> None:
    import uvicorn  # noqa: PLC0415 - only the child serves

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        "prefect.server.api.server:create_app",
        factory=True,
        log_level="error",
        lifespan="on",
        timeout_graceful_shutdown=2,
    )
    print(json.dumps({"api_url": f"http://127.0.0.1:{listening.getsockname()[1]}/api"}), flush=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


def _end_with_parent() -> None:
    wait_for_parents_end()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _serve()
