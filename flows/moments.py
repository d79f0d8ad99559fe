"""Reads the moments that people write, alike wherever they write one."""

from datetime import datetime
from zoneinfo import ZoneInfo

from pipeline.errors import InputError


def read_moment(written: str, zone: ZoneInfo, flag: str) -> datetime:
    """The moment that was written for this flag; a date is its midnight, and without a zone it is the shop's.

    Raises:
        InputError: it is none.
    """
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise InputError(
            f"{flag} {written!r} is no date or moment like 2026-03-01 or 2026-03-01T06:00:00+01:00"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
