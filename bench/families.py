"""Which process has started which, as Linux tells it."""

from pathlib import Path

_PROC = Path("/proc")


def parent_of(pid: int) -> int | None:
    """The process that started this one; None once this has ended."""
    try:
        told = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(told.rpartition(")")[2].split()[1])


def all_below(pid: int) -> list[int]:
    """What this process has started, and what that has, as far as those between live; it itself comes first."""
    parents = {number: parent_of(number) for number in (int(folder.name) for folder in _PROC.glob("[0-9]*"))}
    family = [pid]
    for member in family:
        family += [number for number, parent in parents.items() if parent == member]
    return family
