"""The tables that hold one day each: which there are, and how one leaves without a reader or writer having to wait.

A partition leaves its table by DETACH CONCURRENTLY: once begun, no new query sees it; when the last transaction that
might still read it has ended, it is finished. What a killed process leaves is taken up where it stands.
"""

import time
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import psycopg
from psycopg import sql

from pipeline.errors import RunConflictError
from pipeline.upkeep import execute

# Shorter than a run that is planned waits for its partitions: it gets its turn between two tries.
_TRY_FOR = "2s"
_PAUSE_S = 0.5


class Place(StrEnum):
    """ATTACHED: part of its table. PENDING: no query sees it any more, some may still. DETACHED: to be dropped."""

    ATTACHED = "attached"
    PENDING = "pending"
    DETACHED = "detached"


@dataclass(frozen=True, slots=True)
class Partition:
    """One day of one table. `rows` is an estimate; `bytes` has the indexes in it."""

    parent: str
    name: str
    day: date
    place: Place
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long transactions that are open elsewhere are waited for, all in all."""

    until: float

    @classmethod
    def of(cls, seconds: float) -> "Patience":
        """From now on."""
        return cls(time.monotonic() + seconds)

    def spend(self) -> bool:
        """Pause for a moment; False if there is no time left."""
        if time.monotonic() >= self.until:
            return False
        time.sleep(_PAUSE_S)  # Postgres tells nobody when a lock or a snapshot goes
        return True


def find_partitions(connection: psycopg.Connection) -> list[Partition]:
    """Every day of every table, the oldest day first, `slates` before the others."""
    return [
        Partition(parent, name, day, Place(place), rows, size)
        for parent, name, day, place, rows, size in execute(connection, "day_partitions")
    ]


def begin_detach(connection: psycopg.Connection, partition: Partition, patience: Patience) -> None:
    """From now on no new query sees the partition.

    Raises:
        RunConflictError: the lock for it was not to be had; nothing has changed.
    """
    while not detach_begins(connection, partition):
        if not patience.spend():
            raise held_up(partition)


def detach_begins(connection: psycopg.Connection, partition: Partition) -> bool:
    """As `begin_detach`, but tried once, for seconds; False if the lock for it was not to be had."""
    try:
        _try(connection, sql.SQL("ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY"), partition)
    except psycopg.errors.LockNotAvailable:
        return _place_of(connection, partition) is not Place.ATTACHED
    return True


def finish_detach(connection: psycopg.Connection, partition: Partition, patience: Patience) -> None:
    """Wait until no transaction can read the partition any more.

    Raises:
        RunConflictError: one that is older stays open; the partition is pending, and can be finished later.
    """
    finalize = sql.SQL("ALTER TABLE {} DETACH PARTITION {} FINALIZE")
    while _place_of(connection, partition) is Place.PENDING:
        try:
            _try(connection, finalize, partition)
        except psycopg.errors.LockNotAvailable as error:
            if not patience.spend():
                raise held_up(partition) from error


def drop_detached(connection: psycopg.Connection, partition: Partition, patience: Patience) -> None:
    """Drop a table that is part of nothing any more.

    Raises:
        RunConflictError: somebody reads it by its own name.
    """
    while True:
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", [_TRY_FOR])
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(partition.name)))
        except psycopg.errors.LockNotAvailable as error:
            if not patience.spend():
                raise held_up(partition) from error
        else:
            return


def _try(connection: psycopg.Connection, statement: sql.SQL, partition: Partition) -> None:
    """Run a statement that wants no transaction around it, for a moment."""
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [_TRY_FOR])
    try:
        connection.execute(statement.format(sql.Identifier(partition.parent), sql.Identifier(partition.name)))
    finally:
        if not connection.closed:
            connection.execute("RESET lock_timeout")


def _place_of(connection: psycopg.Connection, partition: Partition) -> Place | None:
    """Where the partition is now; None if it was dropped."""
    found = (other.place for other in find_partitions(connection) if other.name == partition.name)
    return next(found, None)


def held_up(partition: Partition) -> RunConflictError:
    """The error that says why a partition stays."""
    return RunConflictError(
        f"{partition.name} cannot go yet: transactions that may read it are still open (see pg_stat_activity); "
        "nothing is lost, the next `recstream prune` goes on"
    )
