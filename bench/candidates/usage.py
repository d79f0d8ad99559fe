"""What a server's processes take of the machine, as Linux tells it: memory at its peak, and CPU."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from pathlib import Path

_PROC = Path("/proc")
_EVERY_S = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
_BYTES = {"RssAnon": 0, "RssFile": 0, "RssShmem": 0}


@dataclass(slots=True)
class Peak:
    """The most bytes that all of a server's processes held at once; not a number where the machine does not tell."""

    bytes: float = nan


def postmaster_of(data_folder: Path) -> int:
    """The process id of the server whose data lies there."""
    return int((data_folder / "postmaster.pid").read_text(encoding="utf-8").split(maxsplit=1)[0])


@contextmanager
def watched_memory(postmaster: int) -> Iterator[Peak]:
    """Look at the server's processes ten times a second; the peak is there once this ends."""
    peak, is_over = Peak(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(postmaster, peak, is_over))
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()


def _watch(postmaster: int, peak: Peak, is_over: threading.Event) -> None:
    while True:
        held = memory(postmaster)
        peak.bytes = held if not peak.bytes > held else peak.bytes
        if is_over.wait(_EVERY_S):
            return


def memory(postmaster: int) -> float:
    """Bytes that the server's processes hold now, all of them: what each has for itself, and once what they share."""
    held = [_held(pid) for pid in _family(postmaster)]
    if not held:
        return nan
    own = sum(one["RssAnon"] for one in held)
    return own + max(one["RssShmem"] for one in held) + max(one["RssFile"] for one in held)


def own_memory(pid: int) -> float:
    """Bytes of memory that this process has for itself alone; 0 of one that has ended."""
    return float(_held(pid)["RssAnon"])


def cpu_seconds(postmaster: int) -> float:
    """CPU that the server has taken since it started, those of its processes that have ended included."""
    total = 0
    for pid in _family(postmaster):
        fields = _stat(pid)
        last = 15 if pid == postmaster else 13  # of its ended children, too
        total += sum(int(field) for field in fields[11:last])
    return total / _TICKS if total else nan


def _family(postmaster: int) -> list[int]:
    """The postmaster, and the processes that it has started."""
    numbers = [int(folder.name) for folder in _PROC.glob("[0-9]*")]
    return [pid for pid in numbers if pid == postmaster or _stat(pid)[1:2] == [str(postmaster)]]


def _stat(pid: int) -> list[str]:
    """What stands behind a process's name, from its state on; nothing of one that has just ended."""
    try:
        return (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _held(pid: int) -> dict[str, int]:
    try:
        lines = (_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return _BYTES
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(told[name].split()[0]) * 1024 if name in told else 0 for name in _BYTES}
