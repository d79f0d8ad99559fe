"""The bench's processes, each ended by its pid: what they are told, and what they tell."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bench.families import all_below
from bench.folders import ROOT
from bench.limits.orders import Order, Told
from pipeline.errors import UnfinishedRunError

_ERROR = re.compile(r"[ |+-]*[\w.]+(?:Error|Exception|Interrupt)\w*: \S")
_FOREIGN = ("RECSTREAM_", "PREFECT_", "OPENAI_", "DATABASE_URL", "PG", "PYTEST_")


class Worker:
    """One process. Make it with `started`."""

    def __init__(self, process: asyncio.subprocess.Process, said: Path) -> None:
        self._process = process
        self._said = said

    def order(self, order: Order) -> None:
        """Tell it what to do."""
        self.say(json.dumps(order))

    def say(self, line: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def told(self) -> Told:
        """The next that it tells.

        Raises:
            UnfinishedRunError: it ended instead.
        """
        told = await self.told_or_ended()
        if told is None:
            raise UnfinishedRunError(self.last_words())
        return told

    async def told_or_ended(self) -> Told | None:
        """The next that it tells; None once it has ended."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        told: Told | None = json.loads(line) if line.endswith(b"\n") else None
        return told

    async def output(self) -> str:
        """All that it says until it ends.

        Raises:
            UnfinishedRunError: it did not end well.
        """
        said, _ = await self._process.communicate()
        if self._process.returncode:
            raise UnfinishedRunError(self.last_words())
        return said.decode()

    def last_words(self) -> str:
        """Why it ended, as far as it said."""
        said = self._said.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.strip(" |+-") for line in said if _ERROR.match(line)]
        return f"a process of the bench ended: {errors[-1] if errors else 'it was killed, or left without a word'}"

    def kill(self) -> None:
        """End it at once, as a machine that is lost does."""
        with suppress(ProcessLookupError):
            if self._process.returncode is None:
                os.kill(self._process.pid, signal.SIGKILL)

    def kill_with_all_below(self) -> None:
        """End it and all that it has started, as a machine that is lost does."""
        if self._process.returncode is None:  # else its number may be another's by now
            for pid in all_below(self.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ended(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()


@asynccontextmanager
async def started(
    module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], *, heard: bool = True
) -> AsyncIterator[Worker]:
    """`python -m module arguments`, with these variables and none that this machine's user has set for us.

    It works in `folder`, where its words on stderr go, too, and those on stdout where nobody hears them; it is killed
    at the end, with all that it has started.
    """
    worker = await _start(module, arguments, folder, environment, heard=heard)
    try:
        yield worker
    finally:
        worker.kill_with_all_below()
        await worker.ended()


async def output_of(module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """What such a process says on standard output until it ends.

    Raises:
        UnfinishedRunError: it did not end well.
    """
    async with started(module, arguments, folder, environment) as worker:
        return await worker.output()


async def _start(
    module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], *, heard: bool
) -> Worker:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    said = folder / "said.txt"
    with said.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=folder,
            env={**kept, "PYTHONPATH": str(ROOT), "NO_PROXY": "*", **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if heard else stderr,
            stderr=stderr,
            start_new_session=True,
        )
    return Worker(process, said)


News = tuple[Worker, Told | None]
"""Who tells what."""


@asynccontextmanager
async def heard_from(workers: Iterable[Worker]) -> AsyncIterator["asyncio.Queue[News]"]:
    """What all of them tell, in the order in which it comes, and last of each None, when it has ended."""
    news: asyncio.Queue[News] = asyncio.Queue()
    listening = [asyncio.create_task(_listen(worker, news)) for worker in workers]
    try:
        yield news
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)


async def _listen(worker: Worker, news: "asyncio.Queue[News]") -> None:
    told: Told | None = {}
    while told is not None:
        told = await worker.told_or_ended()
        news.put_nowait((worker, told))
