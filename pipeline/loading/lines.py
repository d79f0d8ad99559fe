"""What travels through the loading stages: a line as it was read, and a line that was refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import TypeAlias

Cell: TypeAlias = (
    "bool | int | float | str | bytes | Decimal | datetime | date | time | list[Cell] | dict[str, Cell] | None"
)
"""What a cell can hold: csv gives text alone, jsonl JSON's values, parquet all of these."""

SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file. `number` counts from 1, a csv's header included; in parquet it is the row's number."""

    number: int
    cells: Mapping[str, Cell]
    source: str | None = None  # as it stood in the file; parquet has no such text

    def text(self) -> str:
        """The line as a person can find it again in the file."""
        if self.source is not None:
            return self.source
        return json.dumps(self.cells, default=str, ensure_ascii=False)

    def size(self) -> int:
        """About how many characters it keeps in memory; parquet's rows come in batches that bound them."""
        return len(self.source or "")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that does not land. `code` groups refusals of a kind; `reason` is the sentence for a person."""

    line: int
    column: str | None
    code: str
    reason: str
    row: str

    def size(self) -> int:
        """About how many characters it keeps in memory."""
        return len(self.row)


def shown(value: object) -> str:
    """A value as a message can quote it: one printable line, bounded."""
    quoted = repr(value[:SHOWN_CHARACTERS] if isinstance(value, str | bytes) else value)
    return quoted if len(quoted) <= SHOWN_CHARACTERS + 2 else f"{quoted[:SHOWN_CHARACTERS]}…"
