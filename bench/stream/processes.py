"""The bench's processes: the paced server on one core, the contenders on another, each ended by its pid.

Each ends by itself, too, when its standard input ends: a bench that was killed leaves none behind.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from bench.folders import ROOT
from bench.stream.board import Board, open_board
from bench.stream.reports import ReadReport, ReadTask, StreamTimes, SustainReport, SustainTask
from pipeline.errors import ConfigurationError

_SHARED_MEMORY = Path("/dev/shm")
_END_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class PacedServer:
    """A server that runs: where it listens, and its board."""

    base_url: str
    receipts_port: int
    board: Board


class Contender:
    """A contender's process, ready for tasks."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self._process = process

    def read(self, task: ReadTask) -> ReadReport:
        """Have it do a `ReadTask`."""
        report = self._do(asdict(task))
        streams = [StreamTimes(**times) for times in report.pop("streams")]
        return ReadReport(**report, streams=streams)

    def sustain(self, task: SustainTask) -> SustainReport:
        """Have it do a `SustainTask`."""
        return SustainReport(**self._do(asdict(task)))

    def _do(self, task: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return _line(self._process, self.name)


@contextmanager
def paced_server() -> Iterator[PacedServer]:
    """Run the paced server while the block runs."""
    _, core = _cores()
    with tempfile.TemporaryDirectory(dir=_SHARED_MEMORY) as folder:
        path = Path(folder) / "board"
        with (
            open_board(path) as board,
            _child([sys.executable, "-m", "bench.stream.server", str(path)], core) as process,
        ):
            ports = _line(process, "the paced server")
            yield PacedServer(f"http://127.0.0.1:{ports['requests']}/v1", ports["receipts"], board)


@contextmanager
def contender(name: str, server: PacedServer, *, streams: int, python: Path | None = None) -> Iterator[Contender]:
    """Run a contender while the block runs, for at most `streams` streams at a time, by `python` or our own."""
    core, _ = _cores()
    command = [str(python or sys.executable), "-m", "bench.stream.contending", name, server.base_url, str(streams)]
    with _child(command, core) as process:
        yield Contender(name, process)


def require_fit_machine() -> None:
    """See that this machine can give figures that mean something.

    Raises:
        ConfigurationError: it cannot.
    """
    if sys.platform != "linux":
        raise ConfigurationError("the bench needs Linux, for one clock and shared memory: run it in a container")
    if len(os.sched_getaffinity(0)) < 2:
        raise ConfigurationError("the bench needs two cores, one of them for its server: run it where there are two")


def keep_to_contenders_core() -> None:
    """Have this process run where a contender's would."""
    os.sched_setaffinity(0, {_cores()[0]})


def _cores() -> tuple[int, int]:
    """One core for the contenders, which never run two at a time, and another, if there is one, for the server."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]


@contextmanager
def _child(command: Sequence[str], core: int) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "NO_PROXY": "*"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            os.sched_setaffinity(process.pid, {core})
            yield process
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _line(process: "subprocess.Popen[str]", name: str) -> dict[str, Any]:
    assert process.stdout is not None
    stdout: IO[str] = process.stdout
    line = stdout.readline()
    if not line:
        raise ConfigurationError(f"{name} ended before it had answered: its own words stand above")
    found: dict[str, Any] = json.loads(line)
    return found
