"""A real Prefect server of the bench's own, as one machine has it: started, killed, started again on its records."""

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.flows.prefect_api import PrefectApi
from bench.flows.waiting import until
from bench.folders import ROOT
from bench.limits.workers import started

_PROFILE = ROOT / "deploy" / "one-machine.env"
_START_WITHIN_S = 120.0


class Prefect:
    """Make it with `running_prefect`. `environment` is what whoever talks to it has in his."""

    def __init__(self, folder: Path, port: int, stack: AsyncExitStack) -> None:
        self._folder, self._port, self._stack = folder, port, stack
        self.api = PrefectApi(f"http://127.0.0.1:{port}/api")

    @property
    def environment(self) -> Mapping[str, str]:
        """The settings that are shipped for one machine, with this server's folder and address."""
        return profile() | {
            "PREFECT_HOME": str(self._folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(self._port),
            "PREFECT_API_URL": self.api.url,
            "PREFECT_SERVER_UI_ENABLED": "false",
        }

    async def start(self) -> None:
        """Return once it answers.

        Raises:
            UnfinishedRunError: it does not.
        """
        starting = started("prefect", ("server", "start"), self._folder, self.environment, heard=False)
        self._server = await self._stack.enter_async_context(starting)
        await until(self.api.answers, "Prefect's server does not start", _START_WITHIN_S)

    async def restart(self) -> None:
        """Kill it, and start it again on what it has written down."""
        self._server.kill_with_all_below()
        await self._server.ended()
        await self.start()


@asynccontextmanager
async def running_prefect(folder: Path) -> AsyncIterator[Prefect]:
    """A server that lives until the end of the block. Its start takes about 10 s."""
    async with AsyncExitStack() as stack:
        prefect = Prefect(folder, free_port(), stack)
        await prefect.start()
        yield prefect


def profile() -> dict[str, str]:
    """The shipped settings of one machine: a name, =, a value."""
    lines = _PROFILE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
