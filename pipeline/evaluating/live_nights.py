"""Which published runs are judged, and within which window: the nights of the last days, or the days after one run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.database import statement
from pipeline.domain import RunId
from pipeline.errors import InputError
from pipeline.evaluating.live_report import LiveNight


@dataclass(frozen=True, slots=True)
class Night:
    """A published run: its row and when readers saw it. Of two that are seen the one of greater precedence is shown."""

    run_id: RunId
    day: date
    as_of: datetime
    model: str
    provenance: str
    pruned: bool
    variants: Sequence[object]
    published_at: datetime
    seen_until: datetime
    precedence: datetime

    @property
    def told(self) -> LiveNight:
        """What the report says of it."""
        return LiveNight(self.run_id, self.published_at, self.model, self.provenance)


@dataclass(frozen=True, slots=True)
class Window:
    """After `since`, up to `until`, which is not beyond now. `run_id` is the one run that is judged, if one is."""

    since: datetime
    until: datetime
    days: int
    run_id: RunId | None
    is_over: bool = True


async def read_nights(connection: AsyncConnection, window: Window) -> list[Night]:
    """The nights published within the window, pruned ones too; or the one run that it names, if readers ever saw it."""
    slots = {"run_id": window.run_id, "since": window.since, "until": window.until}
    rows = (await connection.execute(statement("live_nights"), slots)).mappings()
    return [Night(**row) for row in rows]


def window_of(found: Sequence[Night], window: Window) -> Window:
    """The days after the one run of `window` was published.

    Raises:
        InputError: readers never saw it, or its rows were pruned.
    """
    if not found:
        raise InputError(
            f"readers never saw run {window.run_id}: `recstream runs` shows which were published, "
            "and eval --runs judges any run by what was bought after its time"
        )
    (night,) = found
    if night.pruned:
        raise InputError(f"the rows of run {window.run_id} were pruned: it can be judged no more")
    end = night.published_at + timedelta(days=window.days)
    until = min(end, window.until, night.seen_until)
    return Window(night.published_at, until, window.days, window.run_id, is_over=end <= window.until)
