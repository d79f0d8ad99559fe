"""Reads what an endpoint says of its limits in the headers of an answer: how much a minute, what is left, until when.

A header that cannot be read is no notice, never an error. Every number is bounded.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from pipeline.limits.dialects import DIALECTS, Names
from pipeline.refusals import MAX_WAIT_S, retry_after_of

MOST_ALLOWED: Final = 1e12
"""Who allows more a minute allows everything."""
MINUTE_S: Final = 60.0
_LONGER_WINDOWS_S = (3_600.0, 86_400.0)
_LONGEST_MINUTE_S = 90.0  # a minute's window is full again by then, however the clocks go
_CLOSE_TO = 0.02
_MOST_DIGITS = 15
_MAX_LENGTH = 200  # characters of a header that are looked at
_NUMBER = re.compile(r"\s*(\d{1,15}(?:\.\d{1,20})?)\s*(?:[,;]|$)", re.ASCII)
_WINDOW = re.compile(r";\s*(?:w|window)=(\d{1,8})\b", re.ASCII)
_DURATION = re.compile(r"\s*(?:\d{1,9}(?:\.\d{1,9})?(?:ms|[smhd])){1,5}\s*", re.ASCII)
_DURATION_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|[smhd])", re.ASCII)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_FIRST_EPOCH_S = 1e9  # a plain number from here on is a date: seconds since 1970, from 1e12 on milliseconds
_FIRST_EPOCH_MS = 1e12


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one limit allows in a window of `window_s` seconds; None for what was not said.

    `reset_s` is the time in seconds until all of it is there again.
    """

    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None
    window_s: float = MINUTE_S

    @property
    def per_second(self) -> float | None:
        """The rate to keep to. A limit of an hour or a day is none: it may be used up at once."""
        return None if self.limit is None or self.window_s > MINUTE_S else self.limit / self.window_s


@dataclass(frozen=True, slots=True)
class Notice:
    """What the head of one answer says of the limits; None for what it does not speak of."""

    requests: Allowance | None = None
    tokens: Allowance | None = None
    retry_after_s: float | None = None


NO_NOTICE: Final = Notice()


def read_notice(headers: Mapping[str, str]) -> Notice:
    """What these headers say of the limits; `headers` finds a name in lower case.

    Times are in seconds from the moment of the answer: dates are compared with its own `date` where it has one, so that
    a clock that is wrong here does no harm.
    """
    limits = {name: value for name, value in headers.items() if "ratelimit" in name}
    if not limits:
        return Notice(retry_after_s=_retry_after(headers)) if "retry-after" in headers else NO_NOTICE
    date = headers.get("date")
    found = {kind: _first(_allowances(limits, names, date)) for kind, names in DIALECTS.items()}
    return Notice(found["requests"], found["tokens"], _retry_after(headers))


def _first(allowances: Iterator[Allowance]) -> Allowance | None:
    """The best that is said: the first with a limit a minute, else the first of all."""
    best: Allowance | None = None
    for one in allowances:
        if one.per_second is not None:
            return one
        best = best or one
    return best


def _allowances(headers: Mapping[str, str], dialects: tuple[Names, ...], date: str | None) -> Iterator[Allowance]:
    for names in dialects:
        limit_text = headers.get(names.limit)
        remaining_text = headers.get(names.remaining)
        if limit_text is None and remaining_text is None:
            continue
        limit, remaining = _number(limit_text), _number(remaining_text)
        reset_s = _reset(headers.get(names.reset), date)
        if limit is not None or remaining is not None:
            window_s = names.window_s or _window_in(limit_text) or _window_of(limit, remaining, reset_s)
            yield Allowance(limit, remaining, reset_s, window_s)


def _number(text: str | None) -> float | None:
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:  # nearly always
        return min(float(text), MOST_ALLOWED)
    said = _NUMBER.match(text[:_MAX_LENGTH])
    return None if said is None else min(float(said[1]), MOST_ALLOWED)


def _window_in(limit: str | None) -> float | None:
    """The window that `ratelimit-limit: 100, 100;w=60` names."""
    said = _WINDOW.search(limit[:_MAX_LENGTH]) if limit else None
    return max(float(said[1]), 1.0) if said else None


def _window_of(limit: float | None, remaining: float | None, reset_s: float | None) -> float:
    """The window of a limit that does not name it: a minute, unless the time until it is full says otherwise.

    Groq's `x-ratelimit-limit-requests` is a day's, under the name of OpenAI's a minute's.
    """
    if reset_s is None:
        return MINUTE_S
    if reset_s > _LONGEST_MINUTE_S:
        return next((window for window in _LONGER_WINDOWS_S if reset_s <= window), _LONGER_WINDOWS_S[-1])
    used = (limit or 0.0) - (remaining if remaining is not None else math.inf)
    if used < 1:
        return MINUTE_S
    implied = (limit or 0.0) * reset_s / used
    return next((window for window in _LONGER_WINDOWS_S if abs(implied / window - 1) < _CLOSE_TO), MINUTE_S)


def _reset(text: str | None, date: str | None) -> float | None:
    if not text or len(text) > _MAX_LENGTH:
        return None
    if _DURATION.fullmatch(text):
        return _bounded(sum(float(amount) * _UNIT_S[unit] for amount, unit in _DURATION_PART.findall(text)))
    number = _number(text)
    if number is not None:
        return _bounded(number) if number < _FIRST_EPOCH_S else _until(_epoch(number), date)
    return _until(_rfc_3339(text), date)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    said = headers.get("retry-after")
    if said is not None and "retry-after-ms" not in headers:
        moment = _http_date(said)
        if moment is not None:
            return _until(moment, headers.get("date"))
    return retry_after_of(headers)


def _until(moment: datetime | None, date: str | None) -> float | None:
    if moment is None:
        return None
    answered = _http_date(date) or datetime.now(UTC)
    return _bounded((moment - answered).total_seconds())


def _epoch(number: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(number if number < _FIRST_EPOCH_MS else number / 1_000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _rfc_3339(text: str) -> datetime | None:
    try:
        return _aware(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        return None


def _http_date(text: str | None) -> datetime | None:
    if not text or len(text) > _MAX_LENGTH:
        return None
    try:
        return _aware(parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_WAIT_S)
