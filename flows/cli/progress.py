"""Shows a run while it goes on: a line of progress, and the rows of one customer as they commit."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.cli.output import row_line
from pipeline.domain import CustomerId, RunId, SlateState
from pipeline.orders import read_standing
from pipeline.reading import RunProgress, read_progress, read_rows, read_slate

PLAIN_LINE_EVERY_S = 5.0
LOOK_EVERY_S = 0.5
LOOK_SHARE = 50


class NightProgress:
    """Told where the run is by `look`, as often as one likes. A terminal gets a bar, a pipe a line now and then."""

    def __init__(self, console: Console, spotlight: CustomerId | None = None) -> None:
        self._console = console
        self._spotlight = _Spotlight(console, spotlight) if spotlight is not None else None
        self._bar = Progress(
            TextColumn("Night"),
            BarColumn(bar_width=30),
            TextColumn(
                "{task.completed:,.0f}/{task.total:,.0f} customers · {task.fields[rows]:,} rows{task.fields[skipped]}"
            ),
            TimeElapsedColumn(),
            console=console,
        )
        self._task: TaskID | None = None
        self._look_next = 0.0
        self._ordered: list[str] = []
        self._told_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:  # stopping one that never started prints an empty line
            self._bar.stop()

    async def look(self, engine: AsyncEngine, run_id: RunId, *, last: bool = False) -> None:
        """Show what is new. The run's figures are read twice a second at most, and by the last look."""
        if self._spotlight is not None and not self._spotlight.finished:
            await self._spotlight.look(engine, run_id)
        now = time.monotonic()
        if last or now >= self._look_next:
            self._tell_orders((await read_standing(engine, run_id)).lines())
            self._show(await read_progress(engine, run_id))
            # In a large run the counts take long: looking must stay a small part of what the database does.
            self._look_next = time.monotonic() + max(LOOK_EVERY_S, LOOK_SHARE * (time.monotonic() - now))

    def _tell_orders(self, ordered: list[str]) -> None:
        """Each order that stands, once, with who gave it and how to end it; and that none stands any more."""
        for line in ordered:
            if line not in self._ordered:
                self._console.print(f"night: {line}", markup=False)
        if self._ordered and not ordered:
            self._console.print("night: goes on, no order stands", markup=False)
        self._ordered = ordered

    def _show(self, progress: RunProgress) -> None:
        done = progress.complete + progress.not_complete + progress.unchanged
        if not self._console.is_interactive:
            self._say(progress, done)
            return
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("night", total=progress.customers, rows=0, skipped="")
        skipped = _skipped(progress, " · ")
        self._bar.update(self._task, completed=done, total=progress.customers, rows=progress.rows, skipped=skipped)

    def _say(self, progress: RunProgress, done: int) -> None:
        if time.monotonic() - self._told_at >= PLAIN_LINE_EVERY_S:
            self._told_at = time.monotonic()
            told = f"{done:,}/{progress.customers:,} customers, {progress.rows:,} rows{_skipped(progress, ', ')}"
            self._console.print(f"night: {told}")


def _skipped(progress: RunProgress, separator: str) -> str:
    return f"{separator}{progress.unchanged:,} skipped (unchanged)" if progress.unchanged else ""


class _Spotlight:
    """One customer's rows, each said when it is seen in the table."""

    def __init__(self, console: Console, customer_id: CustomerId) -> None:
        self._console = console
        self._customer_id = customer_id
        self._last_rank = 0
        self.finished = False

    async def look(self, engine: AsyncEngine, run_id: RunId) -> None:
        slate = await read_slate(engine, self._customer_id, run_id)
        if slate is None:
            return
        for row in await read_rows(engine, run_id, self._customer_id, after=self._last_rank):
            if self._last_rank == 0:
                self._console.print(f"Customer {self._customer_id}, each row as it is committed:")
            self._console.print(row_line(row), markup=False)
            self._last_rank = row.rank
        if slate.state is SlateState.UNCHANGED:
            self.finished = True
            self._console.print(f"Customer {self._customer_id}: skipped (unchanged), he keeps his slate", markup=False)
        if slate.state in {SlateState.COMPLETE, SlateState.SHORT, SlateState.FAILED}:
            self.finished = True
            self._console.print(
                f"  first recommendation committed after {slate.first_row_s or 0:.2f} s, "
                f"the whole slate after {slate.whole_s or 0:.2f} s"
            )
