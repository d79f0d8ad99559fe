"""What a load has done, in numbers and notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The outcome of one file: `read` = `inserted` + `updated` + `unchanged` + `refused`."""

    read: int
    inserted: int
    updated: int
    unchanged: int
    refused: int
    refused_by_reason: Mapping[str, int] = field(default_factory=dict)  # a short code to the number of lines
    rejects_path: Path | None = None
    notes: tuple[str, ...] = ()
