"""Gives a file's columns our names, and says before loading which of them are missing or unknown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.errors import InputError
from pipeline.loading.lines import Cell


@dataclass(frozen=True, slots=True)
class KnownColumns:
    """What a table's file may hold: `required` must be there, `named` columns have a meaning of their own."""

    required: tuple[str, ...]
    named: frozenset[str]
    keeps_others: bool  # as attributes


@dataclass(slots=True)
class Renaming:
    """Our names for theirs. It remembers which of the mapped columns it has met."""

    mapping: Mapping[str, str]  # ours to theirs
    known: KnownColumns
    met: set[str] = field(default_factory=set)

    def __call__(self, cells: Mapping[str, Cell]) -> dict[str, Cell]:
        """The cells under our names; a mapped column is no longer there under its own."""
        if not self.mapping:
            return dict(cells)
        taken = set(self.mapping.values())
        named = {name: cell for name, cell in cells.items() if name not in taken}
        for ours, theirs in self.mapping.items():
            named.pop(ours, None)
            if theirs in cells:
                self.met.add(theirs)
                named[ours] = cells[theirs]
        return named

    def theirs(self, ours: str) -> str:
        """The column's name in the file."""
        return self.mapping.get(ours, ours)

    def unmet(self) -> list[str]:
        """The mapped columns that no line had."""
        return sorted(set(self.mapping.values()) - self.met)


def check_mapping(mapping: Mapping[str, str], known: KnownColumns, table: str) -> None:
    """Raise InputError if the mapping names a column that `table` does not have."""
    for ours in mapping:
        if ours not in known.named:
            raise InputError(f"--map {ours}={mapping[ours]}: {table} has only {_listed(known.named)}")


def check_columns(columns: Iterable[str], renaming: Renaming, path: str) -> None:
    """Raise InputError if a required or a mapped column is not among the file's."""
    found = [column for column in columns if column]
    for ours, theirs in renaming.mapping.items():
        if theirs not in found:
            raise InputError(f"--map {ours}={theirs}: {path} has only the columns {_listed(found)}")
    for ours in renaming.known.required:
        if ours not in renaming.mapping and ours not in found:
            raise InputError(
                f"{path} has no column {ours!r}, only {_listed(found)}: "
                f"name the one that is meant with --map {ours}=THEIRS"
            )


def columns_left_out(columns: Iterable[str], renaming: Renaming) -> list[str]:
    """The file's columns that have no place in the table."""
    if renaming.known.keeps_others:
        return []
    placed = renaming.known.named | set(renaming.mapping.values())
    return sorted({column for column in columns if column} - placed)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none at all"
