"""The pipeline's processes: each with a door of its own to Postgres, started ahead of time, ended by its pid."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bench.chaos.door import HOST, Door, open_door
from bench.chaos.postgres import Postgres
from bench.chaos.shop import CANDIDATES, SLATE_SIZE

ROOT = Path(__file__).resolve().parents[2]
_CONCURRENCY = 24


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the processes work: the server, the ranker, the folder of the logs, and what to break on purpose."""

    postgres: Postgres
    ranker_url: str
    folder: Path
    sabotage: str | None = None

    @property
    def sent_log(self) -> Path:
        """What the ranker sent."""
        return self.folder / "sent.jsonl"

    @property
    def acknowledgements(self) -> Path:
        """What was acknowledged."""
        return self.folder / "acknowledged.jsonl"

    @property
    def torn_log(self) -> Path:
        """What readers saw that was not whole."""
        return self.folder / "torn.jsonl"

    @property
    def said(self) -> Path:
        """What the processes said on stderr."""
        return self.folder / "said.txt"

    def environment(self, door: Door) -> dict[str, str]:
        """The settings of a process, and nothing that this machine's user has set."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RECSTREAM_", "PREFECT_", "OPENAI_", "DATABASE_URL", "PG", "PYTEST_"))
        }
        return kept | {
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "*",
            "DATABASE_URL": self.postgres.url_through(HOST, door.port),
            "OPENAI_BASE_URL": self.ranker_url,
            "RECSTREAM_MODEL": "offline-ranker",
            "RECSTREAM_HOME": str(self.folder / "home"),
            "RECSTREAM_SLATE_SIZE": str(SLATE_SIZE),
            "RECSTREAM_CANDIDATE_COUNT": str(CANDIDATES),
            "RECSTREAM_CONCURRENCY": str(_CONCURRENCY),
            "RECSTREAM_SHARD_SIZE": "100",
            "RECSTREAM_UNCHANGED_MAX_AGE_DAYS": "0",
            "RECSTREAM_FIRST_BYTE_TIMEOUT_S": "2",
            "RECSTREAM_IDLE_TIMEOUT_S": "2",
            "RECSTREAM_ANSWER_TIMEOUT_S": "20",
        }


class Worker:
    """One process. `run` is the run it works on, `left` the customers that it left over, once it has said so."""

    def __init__(self, process: asyncio.subprocess.Process, door: Door) -> None:
        self._process = process
        self.door = door
        self.run: UUID | None = None
        self.left: int | None = None
        self._listening = asyncio.create_task(self._listen())

    @property
    def is_alive(self) -> bool:
        """False once it has ended, however."""
        return self._process.returncode is None

    @property
    def status(self) -> int | None:
        """Its exit status."""
        return self._process.returncode

    def order(self, *words: str) -> None:
        """Tell it what to do: `run`, or `resume` and a run."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{' '.join(words)}\n".encode())

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; False where it had ended before."""
        with suppress(ProcessLookupError):
            if self.is_alive:
                os.kill(self._process.pid, number)
                return True
        return False

    async def ended(self) -> None:
        """Wait until it has ended and all that it said was heard."""
        await self._process.wait()
        await asyncio.wait({self._listening})  # which goes on where whoever waits is cancelled

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with suppress(ValueError):  # what a command prints for people, or half of a line
                told = json.loads(line)
                self.run = UUID(told["run"]) if "run" in told else self.run
                self.left = told.get("left", self.left)


@asynccontextmanager
async def driver(scene: Scene) -> AsyncIterator[Worker]:
    """A pipeline process that waits for its order."""
    sabotages = [] if scene.sabotage is None else [scene.sabotage]
    async with _worker(scene, "bench.chaos.driver", str(scene.acknowledgements), *sabotages) as worker:
        yield worker


@asynccontextmanager
async def command(scene: Scene, *arguments: str) -> AsyncIterator[Worker]:
    """`recstream`, as a person types it."""
    async with _worker(scene, "flows.cli", *arguments) as worker:
        yield worker


@asynccontextmanager
async def _worker(scene: Scene, module: str, *arguments: str) -> AsyncIterator[Worker]:
    async with open_door(scene.postgres.socket) as door:
        worker = Worker(await _start(scene, door, [sys.executable, "-m", module, *arguments]), door)
        try:
            yield worker
        finally:
            worker.send(signal.SIGKILL)
            await worker.ended()


async def _start(scene: Scene, door: Door, line: Sequence[str]) -> asyncio.subprocess.Process:
    environment: Mapping[str, str] = scene.environment(door)
    with scene.said.open("ab") as said:
        return await asyncio.create_subprocess_exec(
            *line,
            cwd=scene.folder,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
