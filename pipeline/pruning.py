"""Drops the days that are older than wanted, but for the slates that readers still see.

A day goes in steps, each of which can be the last: the slates that readers see are copied to the partition that stays;
the day's runs are marked, so that nobody takes them up; the day's partitions leave their tables, `slates` first, for a
reader looks a slate up before he reads its rows; then they are dropped. The next prune goes on where one was ended.

Whether something was published or rolled back meanwhile is looked at under the lock that publishing takes too, at the
moment when the day's slates leave. The lock is held for that moment alone.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Final
from uuid import UUID

import psycopg

from pipeline.errors import InputError, RunConflictError
from pipeline.partitions import (
    Partition,
    Patience,
    Place,
    begin_detach,
    detach_begins,
    drop_detached,
    find_partitions,
    finish_detach,
    held_up,
)
from pipeline.upkeep import execute, open_owner, publishing_held

PATIENCE_S: Final = 60.0
PAGE: Final = 2_000  # slates of one transaction
KEPT_DAY: Final = date(1, 1, 1)

_FIRST = UUID(int=0)
_ONE_PRUNE = "recstream: one prune at a time"
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PrunedDay:
    """A day that was dropped. `rows` is the server's estimate; `kept` counts the slates that outlive the day."""

    day: date
    tables: tuple[str, ...]
    rows: int
    bytes: int
    kept: int


@dataclass(frozen=True, slots=True)
class LeftDay:
    """A day that should have gone and did not."""

    day: date
    reason: str


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What was dropped, or in a dry run would be.

    `staying` are the newest days. `superseded` counts the kept slates that readers saw no more, `pointers` and
    `publications` what pointed to no slate: they are gone too (a dry run does not look for them).
    """

    dry_run: bool
    dropped: tuple[PrunedDay, ...]
    left: tuple[LeftDay, ...]
    staying: tuple[date, ...]
    superseded: int = 0
    pointers: int = 0
    publications: int = 0


def prune(
    url: str, *, keep: int, dry_run: bool = False, patience_s: float = PATIENCE_S, tell: Tell = lambda _: None
) -> PruneReport:
    """Drop all but the newest `keep` days that have partitions; `tell` hears of each step before it is done.

    Today and yesterday (UTC) stay in any case: a run whose planning is not committed yet may be of these days.
    Transactions that are open elsewhere are waited for, `patience_s` seconds for each day; the database's readers and
    writers wait for nothing.

    Raises:
        InputError: `keep` is less than 1.
        RunConflictError: another prune is going on.
        DatabaseError: the server cannot be reached, refused a statement, or does not let this login act as the owner.
    """
    if keep < 1:
        raise InputError(f"{keep} days cannot stay: keep at least 1")
    with open_owner(url) as connection, _alone(connection):
        days = [_Day(day, tuple(of_day)) for day, of_day in groupby(find_partitions(connection), key=lambda it: it.day)]
        with_run = _days_with_run(connection)
        staying = _staying(days, with_run, keep)
        if not dry_run:
            _unmark_runs(connection, [day.day for day in staying])
        dropped: list[PrunedDay] = []
        left: list[LeftDay] = []
        for day in sorted(days, key=lambda it: not it.is_decided):  # a table lets one day go at a time
            if day in staying:
                continue
            try:
                pruning = _DayPruning(connection, day, Patience.of(patience_s), tell)
                dropped.append(pruning.foresee() if dry_run else pruning.carry_out())
            except RunConflictError as error:
                left.append(LeftDay(day.day, str(error)))
                if _is_pending(connection):
                    break
        report = PruneReport(dry_run, tuple(dropped), tuple(left), tuple(day.day for day in staying))
        all_old = sum(day.day in with_run for day in staying) >= keep
        return report if dry_run else _without_leftovers(connection, report, all_old=all_old, tell=tell)


@dataclass(frozen=True, slots=True)
class _Day:
    """The partitions of one day. `is_decided`: an earlier prune came so far that no reader looks for a slate in it."""

    day: date
    partitions: tuple[Partition, ...]

    @property
    def is_decided(self) -> bool:
        return not any(it.parent == "slates" and it.place is Place.ATTACHED for it in self.partitions)


def _staying(days: Sequence[_Day], with_run: Collection[date], keep: int) -> list[_Day]:
    """Days that were made ready ahead, and were not needed then, do not count."""
    whole = [day for day in days if not day.is_decided]
    counted = [day.day for day in whole if day.day in with_run]
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    first = min(counted[-keep], yesterday) if len(counted) >= keep else date.min
    return [day for day in whole if day.day >= first]


def _days_with_run(connection: psycopg.Connection) -> set[date]:
    return {day for (day,) in connection.execute("SELECT DISTINCT day FROM runs")}


@dataclass(frozen=True, slots=True)
class _DayPruning:
    """One day on its way out."""

    connection: psycopg.Connection
    of: _Day
    patience: Patience
    tell: Tell

    def foresee(self) -> PrunedDay:
        """What `carry_out` would do now.

        Raises:
            RunConflictError: a run of the day is going on.
        """
        if self.of.is_decided:
            return self._report(self._count_kept())
        self._require_ended_runs()
        return self._report(sum(len(page) for page in self._pages_to_keep()))

    def carry_out(self) -> PrunedDay:
        """Keep what readers see, then let the day go.

        Raises:
            RunConflictError: a run of the day is going on, or somebody holds its tables; nothing is half seen.
        """
        if not self.of.is_decided:
            self._require_ended_runs()
            self._keep_and_decide()
        for partition in self.partitions:
            self._remove(partition)
        return self._report(self._count_kept())

    @property
    def day(self) -> date:
        return self.of.day

    @property
    def partitions(self) -> Sequence[Partition]:
        return self.of.partitions

    def _keep_and_decide(self) -> None:
        """Copy what readers see until nothing was published meanwhile; from then on they look elsewhere.

        Publishing is let go between two tries, so that it waits for one of them at most.
        """
        copied = None
        while True:
            mark = _mark(self.connection, self.day)
            if mark != copied:
                self._keep_seen()
                copied = mark
            with publishing_held(self.connection):
                if _mark(self.connection, self.day) != mark:
                    continue
                if self._begins_to_leave():
                    return
            if not self.patience.spend():
                raise held_up(self._slates)

    def _keep_seen(self) -> None:
        for page in self._pages_to_keep():
            self.tell(f"{self.day}: keeping {len(page):,} slates that readers see")
            execute(self.connection, "keep_slates", {"day": self.day, **_pairs(page)})

    def _begins_to_leave(self) -> bool:
        """True if readers look elsewhere from now on; if not, all is as before."""
        self.tell(f"{self.day}: marking its runs")
        self._mark_runs()
        self.tell(f"{self._slates.name}: leaving its table")
        begun = detach_begins(self.connection, self._slates)
        if not begun:
            _unmark_runs(self.connection, [self.day])
        return begun

    @property
    def _slates(self) -> Partition:
        return next(partition for partition in self.partitions if partition.parent == "slates")

    def _pages_to_keep(self) -> Iterator[list[tuple[UUID, str]]]:
        return _pages(self.connection, self.day, seen=True)

    def _count_kept(self) -> int:
        found = self.connection.execute(
            "SELECT count(*) FROM slates JOIN runs USING (run_id) WHERE slates.day = %s AND runs.day = %s",
            [KEPT_DAY, self.day],
        ).fetchone()
        return 0 if found is None else int(found[0])

    def _mark_runs(self) -> None:
        with self.connection.transaction():
            self.connection.execute("UPDATE runs SET pruned_at = coalesce(pruned_at, now()) WHERE day = %s", [self.day])
            self._require_ended_runs()

    def _require_ended_runs(self) -> None:
        going_on = self.connection.execute(
            "SELECT run_id FROM runs WHERE day = %s AND state IN ('planned', 'running', 'draining') LIMIT 1", [self.day]
        ).fetchone()
        if going_on is not None:
            raise RunConflictError(f"run {going_on[0]} of this day is going on: prune again when it has ended")

    def _remove(self, partition: Partition) -> None:
        self.tell(f"{partition.name}: leaving its table")
        if partition.place is Place.ATTACHED and partition.parent != "slates":
            begin_detach(self.connection, partition, self.patience)
        self.tell(f"{partition.name}: waiting for older transactions")
        finish_detach(self.connection, partition, self.patience)
        self.tell(f"{partition.name}: dropping it")
        drop_detached(self.connection, partition, self.patience)

    def _report(self, kept: int) -> PrunedDay:
        return PrunedDay(
            day=self.day,
            tables=tuple(partition.name for partition in self.partitions),
            rows=sum(partition.rows for partition in self.partitions),
            bytes=sum(partition.bytes for partition in self.partitions),
            kept=kept,
        )


@contextmanager
def _alone(connection: psycopg.Connection) -> Iterator[None]:
    """No other prune goes on inside. The lock goes with the connection."""
    taken = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [_ONE_PRUNE]).fetchone()
    if taken is None or not taken[0]:
        raise RunConflictError("another `recstream prune` is going on in this database: wait for its end")
    yield


def _unmark_runs(connection: psycopg.Connection, days: Sequence[date]) -> None:
    """The runs of days that are whole still are as they were before a prune that did not come so far."""
    connection.execute("UPDATE runs SET pruned_at = NULL WHERE day = ANY (%s) AND pruned_at IS NOT NULL", [list(days)])


def _is_pending(connection: psycopg.Connection) -> bool:
    return any(partition.place is Place.PENDING for partition in find_partitions(connection))


def _without_leftovers(
    connection: psycopg.Connection, report: PruneReport, *, all_old: bool, tell: Tell
) -> PruneReport:
    """Remove what was kept and is seen no more. `all_old`: what was there before there were days is too old as well."""
    tell("removing what was kept and is seen no more")
    if all_old:
        connection.execute(
            "UPDATE runs SET pruned_at = now() "
            "WHERE day = %s AND pruned_at IS NULL AND state NOT IN ('planned', 'running', 'draining')",
            [KEPT_DAY],
        )
    superseded = 0
    while True:
        mark = _mark(connection, KEPT_DAY)
        page = next(_pages(connection, KEPT_DAY, seen=False), None)
        if page is None:
            break
        with publishing_held(connection):
            if _mark(connection, KEPT_DAY) == mark:  # a rollback meanwhile might show them again
                execute(connection, "drop_kept_slates", _pairs(page))
                superseded += len(page)
    with publishing_held(connection):
        found = execute(connection, "drop_empty_publications").fetchone()
    pointers, publications = (0, 0) if found is None else found
    return PruneReport(
        report.dry_run, report.dropped, report.left, report.staying, superseded, int(pointers), int(publications)
    )


def _mark(connection: psycopg.Connection, day: date) -> str:
    """Another one as soon as something is published or rolled back, or a slate of the day becomes somebody's."""
    found = execute(connection, "publications_mark", {"day": day}).fetchone()
    return "" if found is None else str(found[0])


def _pages(connection: psycopg.Connection, day: date, *, seen: bool) -> Iterator[list[tuple[UUID, str]]]:
    """The slates of one day that readers see, or do not, in the order of run and customer."""
    last: tuple[UUID, str] = (_FIRST, "")
    while True:
        after = {"after_run": last[0], "after_customer": last[1]}
        found = execute(connection, "slates_by_sight", {"day": day, "seen": seen, "page": PAGE, **after})
        page = [(run_id, customer_id) for run_id, customer_id in found]
        if not page:
            return
        yield page
        last = page[-1]


def _pairs(page: Sequence[tuple[UUID, str]]) -> dict[str, list[UUID] | list[str]]:
    return {"run_ids": [run_id for run_id, _ in page], "customer_ids": [customer_id for _, customer_id in page]}
