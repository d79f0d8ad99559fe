"""`python -m bench.stream.profiling [ORDER] [ANSWERS] [STREAMS]`: where our CPU time goes, by function, sampled.

A timer interrupts the process, and the CPU time since the last interruption is booked on the function that runs, with
what it calls in C. Sampling hardly disturbs generators, which a tracing profiler makes several times as slow.
"""

import asyncio
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

from bench.folders import ROOT
from bench.stream.contenders.ours import opened
from bench.stream.contending import read_all
from bench.stream.orders import read_order
from bench.stream.processes import keep_to_contenders_core, paced_server
from bench.stream.reports import ReadReport, ReadTask
from bench.stream.wire import answer

_INTERVAL_S = 0.0005
_SHOWN = 40
_DEFAULTS = ("full-50@0/0", "100", "1")

Booked = defaultdict[CodeType, float]
"""CPU seconds by function."""


@contextmanager
def sampled() -> Iterator[Booked]:
    """Book the CPU time of the block. The timer is the wall clock's: the kernel's for CPU time is too coarse."""
    booked: Booked = defaultdict(float)
    last = time.process_time()

    def book(signal_number: int, frame: FrameType | None) -> None:
        nonlocal last
        del signal_number
        now = time.process_time()
        if frame is not None:
            booked[frame.f_code] += now - last
        last = now

    signal.signal(signal.SIGALRM, book)
    signal.setitimer(signal.ITIMER_REAL, _INTERVAL_S, _INTERVAL_S)
    try:
        yield booked
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


async def profile(base_url: str, task: ReadTask) -> tuple[ReadReport, Booked]:
    """Read as `task` says, warm, and book what it takes."""
    async with opened(base_url, task.streams) as read:
        await read_all(read, ReadTask("full-10@0/0", answers=20))
        with sampled() as booked:
            return await read_all(read, task), booked


def lines(report: ReadReport, booked: Booked, events: int) -> Iterator[str]:
    """The functions that took most, in microseconds for each event of the answers."""
    yield f"{report.cpu_s * 1e6 / events:.1f} us of CPU an event, {events:,} events"
    parts: defaultdict[str, float] = defaultdict(float)
    for code, seconds in booked.items():
        parts[_part(Path(code.co_filename))] += seconds
    for part, seconds in sorted(parts.items(), key=lambda one: -one[1]):
        yield f"{seconds / sum(parts.values()):>7.1%}{seconds * 1e6 / events:>8.2f} us  {part}"
    yield ""
    for code, seconds in sorted(booked.items(), key=lambda one: -one[1])[:_SHOWN]:
        path = "/".join(Path(code.co_filename).parts[-2:])
        share = seconds / sum(booked.values())
        yield f"{share:>7.1%}{seconds * 1e6 / events:>8.2f} us  {path}:{code.co_firstlineno} {code.co_qualname}"


def _part(path: Path) -> str:
    """The module, where it is ours; else the package."""
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    return "/".join(path.parts[-2:]) if ROOT in path.parents else path.parent.name


def main() -> None:
    """Profile what the command line asks for: an order as `full-50@0/0`, answers in a row, streams at a time."""
    name, answers, streams = (*sys.argv[1:], *_DEFAULTS[len(sys.argv) - 1 :])
    order, task = read_order(name), ReadTask(name, int(streams), int(answers), spread_s=int(streams) / 250)
    events = len(answer(order.form, order.items).pieces) * task.answers * task.streams
    with paced_server() as server:
        keep_to_contenders_core()
        report, booked = asyncio.run(profile(server.base_url, task))
    for line in lines(report, booked, events):
        print(line)


if __name__ == "__main__":
    main()
