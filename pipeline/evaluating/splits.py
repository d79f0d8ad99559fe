"""Cuts the shop's history in two at a moment: what was known then, and the days after it that are to be foretold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.builds import Build
from pipeline.database import statement
from pipeline.errors import InputError
from pipeline.persistence import persistent
from pipeline.runs import Run

_INSTANT: Final = timedelta(microseconds=1)  # no two moments of Postgres are nearer to each other
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Split:
    """The targets are purchased from `begins` on, and before `until`; everything before `begins` is known."""

    begins: datetime
    until: datetime

    @property
    def as_of(self) -> datetime:
        """The last moment that may be known: whoever looks up to it, itself included, sees nothing of the targets."""
        return self.begins - _INSTANT


@dataclass(frozen=True, slots=True)
class Span:
    """The first purchase of the shop, the last one up to now, and how many purchases lie in the future."""

    first: datetime
    last: datetime
    future: int


@persistent
async def read_span(engine: AsyncEngine) -> Span:
    """What there is to be split.

    Raises:
        InputError: nothing has been purchased yet.
    """
    async with engine.connect() as connection:
        row = (await connection.execute(statement("evaluation_span"))).one()
    if row.first is None:
        raise InputError("nothing has been purchased up to now: load purchases with `recstream load events FILE`")
    return Span(row.first, row.last, row.future)


def split_of(span: Span, *, begins: datetime | None, days: int, zone: ZoneInfo) -> Split:
    """The split at `begins`, or the last one that has `days` whole days of targets.

    The day of the last purchase counts as a whole one: a shop's file of a day ends with its last purchase.

    Raises:
        InputError: the split would look into the future, or there is nothing before it.
    """
    _require_past(span)
    latest = _latest(span, days, zone)
    begins = begins or latest
    if begins > latest:
        raise InputError(
            f"{days} days from {begins:%Y-%m-%d %H:%M %Z} end after the last purchase ({span.last:%Y-%m-%d %H:%M %Z}): "
            f"take --as-of {latest:%Y-%m-%d} or earlier, or fewer --days"
        )
    if begins <= span.first:
        raise InputError(
            f"nothing was purchased before {begins:%Y-%m-%d %H:%M %Z}, the first purchase is of "
            f"{span.first:%Y-%m-%d}: take a later --as-of, or fewer --days"
        )
    return Split(begins, begins + timedelta(days=days))


def split_after(span: Span, runs: Sequence[Run], *, begins: datetime | None, days: int, zone: ZoneInfo) -> Split:
    """The split at `begins`, or where the last of these runs had looked at the shop.

    Raises:
        InputError: too little was purchased since, a run knew a part of the targets, or the split cannot be made.
    """
    _require_past(span)
    looked = begins_after(*runs).astimezone(zone)
    if looked > _latest(span, days, zone):
        raise InputError(_too_early(span, looked, days, zone))
    split = split_of(span, begins=begins or looked, days=days, zone=zone)
    for run in runs:
        require_unknowing(split, run)
    return split


def _too_early(span: Span, looked: datetime, days: int, zone: ZoneInfo) -> str:
    whole = max((_latest(span, 0, zone) - looked) // _DAY, 0)  # days that are there already
    fewer = f"take --days {whole}" if whole else "after one day take --days 1"
    return (
        f"too little has been purchased since the run looked at the shop ({looked:%Y-%m-%d %H:%M %Z}): the last "
        f"purchase is of {span.last.astimezone(zone):%Y-%m-%d %H:%M %Z}, and {_days(days)} of purchases are to be "
        f"measured; wait {_days(days - whole)}, or {fewer}"
    )


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"


def _latest(span: Span, days: int, zone: ZoneInfo) -> datetime:
    """The last moment from which there are so many whole days of purchases."""
    latest = _begin_of_day(span.last, zone) + _DAY - timedelta(days=days)
    return _begin_of_day(latest + _DAY / 2, zone)  # a day with another number of hours lies between


def _require_past(span: Span) -> None:
    if span.future:
        purchases = "1 purchase lies" if span.future == 1 else f"{span.future:,} purchases lie"
        raise InputError(
            f"{purchases} in the future, so what was known when cannot be told: mend the time zone of the file "
            "(`load --time-zone`), or remove them"
        )


def require_known(split: Split, build: Build) -> None:
    """Refuse candidates that were built from what is to be foretold.

    Raises:
        InputError: the build looked beyond the split.
    """
    if build.as_of > split.as_of:
        raise InputError(
            f"build {build.build_id} has seen purchases up to {build.as_of:%Y-%m-%d %H:%M %Z}, and the targets begin "
            f"{split.begins:%Y-%m-%d %H:%M %Z}: what is to be foretold was known to it; take a later --as-of"
        )


def require_unknowing(split: Split, run: Run) -> None:
    """Refuse a run that was made when a part of the targets was known.

    Raises:
        InputError: the run looked beyond the split.
    """
    if run.as_of > split.as_of:
        raise InputError(
            f"run {run.run_id} looked at the shop as of {run.as_of:%Y-%m-%d %H:%M:%S %Z}, and the targets begin "
            f"{split.begins:%Y-%m-%d %H:%M:%S %Z}: it knew a part of them; leave out --as-of, or take a later one"
        )


def begins_after(*runs: Run) -> datetime:
    """The first moment that none of these runs has seen."""
    return max(run.as_of for run in runs) + _INSTANT


def _begin_of_day(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
