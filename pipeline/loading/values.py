"""Judges one cell: text, id, number, price, flag or moment, or the reason why it is none. No I/O."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from math import isfinite

from pydantic_core import PydanticCustomError

from pipeline.loading.lines import Cell, shown

ID_CHARACTERS = 200
HIGHEST_PRICE = Decimal("999999999999.99")  # the column is numeric(14, 2)

_CONTROLS = re.compile("[\x01-\x1f\x7f-\x9f\u2028\u2029]+")
_SURROGATES = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d|\d{8})"
    r"(?:[Tt ](\d\d(?::?\d\d(?::?\d\d(?:[.,]\d{1,9})?)?)?)[ ]?([Zz]|UTC|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_FLAGS = {"true": True, "t": True, "yes": True, "y": True, "1": True}
_FLAGS |= {"false": False, "f": False, "no": False, "n": False, "0": False}


def unfit(code: str, reason: str) -> PydanticCustomError:
    """The error for a cell that cannot be used: `code` groups, `reason` is a sentence."""
    return PydanticCustomError(code, "{reason}", {"reason": reason})


def readable(text: str) -> str:
    """Text for one line of a prompt or a table: control characters and line breaks become a space, ends are stripped.

    Raises:
        PydanticCustomError: U+0000 or half a character is in it, which Postgres cannot hold.
    """
    return (text if text.isprintable() else _without_controls(text)).strip()


def _without_controls(text: str) -> str:
    if "\0" in text:
        raise unfit("nul_character", f"{shown(text)} holds the character U+0000, which Postgres cannot store")
    if _SURROGATES.search(text):
        raise unfit("not_utf8", f"{shown(text)} holds bytes that are not UTF-8 text")
    return _CONTROLS.sub(" ", text)


def text_up_to(limit: int) -> Callable[[Cell], str | None]:
    """A judge of texts of at most `limit` characters; nothing but blanks is None."""

    def judge(value: Cell) -> str | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise unfit("not_a_text", f"{shown(value)} is not a text")
        text = readable(value if isinstance(value, str) else str(value))
        if len(text) > limit:
            raise unfit("too_long", f"has {len(text):,} characters, at most {limit:,} are allowed")
        return text or None

    return judge


def identifier(value: Cell) -> str:
    """The id of a customer, product, order or event: text or a whole number, as text of at most 200 characters."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise unfit("not_an_id", f"{shown(value)} is not an id: text or a whole number is expected")
    text = str(value).strip()
    if not text:
        raise unfit("missing", "is empty")
    if len(text) > ID_CHARACTERS:
        raise unfit("too_long", f"has {len(text):,} characters, an id at most {ID_CHARACTERS}")
    if not text.isprintable() and readable(text) != text:
        raise unfit("not_an_id", f"{shown(text)} holds control characters")
    return text


def number(value: Cell) -> float:
    """A finite number, given as one or as text like 12.50."""
    if isinstance(value, str):
        value = _number_in(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise unfit("not_a_number", f"{shown(value)} is not a number")
    try:
        found = float(value)
    except (OverflowError, ValueError):  # an int beyond every float; a signalling NaN
        found = float("inf")
    if not isfinite(found):
        raise unfit("not_finite", f"{shown(value)} is not a finite number")
    return found


def _number_in(text: str) -> Decimal:
    if _NOT_FINITE.fullmatch(text):
        raise unfit("not_finite", f"{shown(text)} is not a finite number")
    if not _NUMBER.fullmatch(text):
        raise unfit("not_a_number", f"{shown(text)} is not a number like 12.50")
    return Decimal(text)


def amount(value: Cell) -> float:
    """A finite number that is not negative."""
    found = number(value)
    if found < 0:
        raise unfit("negative", f"{shown(value)} is negative")
    return found


def price(value: Cell) -> Decimal:
    """An amount of money rounded to cents, as the catalog keeps it."""
    found = amount(value)
    exact = Decimal(value.strip()) if isinstance(value, str) else value
    try:
        rounded = (exact if isinstance(exact, Decimal) else Decimal(repr(found))).quantize(
            Decimal("0.01"), ROUND_HALF_UP
        )
    except InvalidOperation:
        rounded = HIGHEST_PRICE + 1
    if rounded > HIGHEST_PRICE:
        raise unfit("too_large", f"{shown(value)} is larger than {HIGHEST_PRICE}")
    return abs(rounded)  # -0.00 is 0.00


def flag(value: Cell) -> bool:
    """Yes or no: true/false, yes/no, 1/0 in any case."""
    known = _FLAGS.get(str(value).strip().lower()) if isinstance(value, bool | int | str) else None
    if known is None:
        raise unfit("not_a_flag", f"{shown(value)} is neither true nor false")
    return known


def moment(value: Cell, zone: tzinfo) -> datetime:
    """A moment in UTC, from ISO 8601 text or a timestamp; without a zone of its own it is in `zone`.

    A date alone is its midnight. An hour that the change from summer time repeats is read as its first. Numbers are
    refused: seconds, milliseconds and dates written as a number cannot be told apart.
    """
    found = _moment_in(value) if isinstance(value, str) else value
    if isinstance(found, date) and not isinstance(found, datetime):
        found = datetime(found.year, found.month, found.day)
    if not isinstance(found, datetime):
        raise unfit("not_a_time", f"{shown(value)} is not a date or time such as 2026-01-31T18:30:00+01:00")
    try:
        return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise unfit("not_a_time", f"{shown(value)} is outside the years 1 to 9999") from None


def _moment_in(text: str) -> datetime:
    form = _MOMENT.fullmatch(text.strip())
    if form is None:
        raise unfit(
            "not_a_time",
            f"{shown(text)} is not a date in ISO 8601 such as 2026-01-31 or 2026-01-31T18:30:00+01:00",
        )
    day, clock, offset = form.groups()
    try:
        return datetime.fromisoformat(_plain_form(day, clock, offset))
    except ValueError as error:
        raise unfit("not_a_time", f"{shown(text)} is not a moment of the calendar: {error}") from None


def _plain_form(day: str, clock: str | None, offset: str | None) -> str:
    if clock is None:
        return day
    return f"{day}T{clock}{'Z' if offset in {'Z', 'z', 'UTC'} else offset or ''}"
