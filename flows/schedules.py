"""When nights begin: a cron line in the shop's zone, read as Prefect's server does, over all changes of the clocks."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from prefect.schedules import Cron, Schedule
from prefect.server.schemas.schedules import CronSchedule

from pipeline.errors import ConfigurationError

LOOKED_AHEAD: Final = timedelta(days=400)  # two changes of clocks, at least
_AT_A_TIME: Final = timedelta(hours=12)  # the server gives at most a thousand moments: a line may name every minute


def schedule_of(cron: str, time_zone: str, slug: str = "night") -> Schedule:
    """When the night begins. The slug lets a later deployment change this schedule instead of making another.

    Raises:
        ConfigurationError: `cron` is not a cron line.
    """
    try:
        return Cron(cron, timezone=time_zone, slug=slug)
    except ValueError as error:
        raise ConfigurationError(f"{cron!r} is not a cron line like '0 3 * * *': {error}") from error


async def last_due(cron: str, time_zone: str, now: datetime, within: timedelta) -> datetime | None:
    """The last moment before `now` at which a night was due; None if there was none within this time."""
    end = now
    while end > now - within:
        begin = max(end - _AT_A_TIME, now - within)
        due = await due_between(cron, time_zone, begin, end)
        if due:
            return due[-1]
        end = begin
    return None


async def due_between(cron: str, time_zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """The moments of this time at which nights are due, in order; at most a thousand."""
    zone = ZoneInfo(time_zone)
    schedule = CronSchedule(cron=cron, timezone=time_zone)
    found = await schedule.get_dates(n=1000, start=begin.astimezone(zone), end=end.astimezone(zone))
    return [datetime.fromtimestamp(due.timestamp(), UTC) for due in found]


async def odd_nights(cron: str, time_zone: str, begin: datetime) -> list[str]:
    """What is odd about the nights at the coming changes of the zone's clocks, a line each; nothing where all is well.

    Odd is a night that is skipped, one that is doubled, and one that begins at another time than the line names.
    """
    told: list[str] = []
    for day in _changes(ZoneInfo(time_zone), begin):
        told += await _odd(cron, time_zone, day)
    return told


def _changes(zone: ZoneInfo, begin: datetime) -> Iterator[date]:
    """The days on which the clocks change."""
    first = begin.astimezone(zone).date()
    days = [first + timedelta(days=number) for number in range(LOOKED_AHEAD.days)]
    for day, following in pairwise(days):
        if _midnight(day, zone).utcoffset() != _midnight(following, zone).utcoffset():
            yield day


async def _odd(cron: str, time_zone: str, day: date) -> list[str]:
    """This day as it is beside the same day in a zone whose clocks never change."""
    named, begun = await _times(cron, "UTC", day), await _times(cron, time_zone, day)
    missing, more = list((named - begun).elements()), list((begun - named).elements())
    return [
        *(
            f"{day}: there is no {hour}, so the night begins at {instead}"
            for hour, instead in zip(missing, more, strict=False)
        ),
        *(f"{day}: there is no {hour}, so this night is skipped" for hour in missing[len(more) :]),
        *(f"{day}: {hour} comes twice, so this night is doubled" for hour in more[len(missing) :]),
    ]


async def _times(cron: str, time_zone: str, day: date) -> Counter[str]:
    """What the clock shows at the nights of a day. One that has no midnight begins in the hour before it."""
    zone = ZoneInfo(time_zone)
    end = _midnight(day + timedelta(days=1), zone) - timedelta(seconds=1)
    due = await due_between(cron, time_zone, _midnight(day, zone), end)
    shown = (moment.astimezone(zone) for moment in due)
    return Counter(f"{it:%H:%M}" + ("" if it.date() == day else " of the day before") for it in shown)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone)
