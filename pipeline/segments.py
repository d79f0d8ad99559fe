"""Decides, without I/O, what the model reads of a customer: nine segments, each bounded in items and in characters.

What events can tell is told by events; the customer's attributes fill in where events are silent. Stated brands are the
exception: what a customer says he likes stands before what his purchases suggest.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

T = TypeVar("T")

MONTHLY_SPEND = "Average monthly spend"
MAX_ITEMS = 10
MAX_ITEM_CHARACTERS = 80
MAX_SEGMENT_CHARACTERS = 500
_DAYS_PER_MONTH = 365 / 12
_PURCHASES_FOR_A_HABIT = 3
_SHARE_FOR_A_HABIT = 0.5
_PURCHASES_FOR_A_BRAND = 2
_PARTS_OF_DAY = ((6, "nights"), (12, "mornings"), (18, "afternoons"), (24, "evenings"))


@dataclass(frozen=True, slots=True)
class ShopHabits:
    """What holds for customers who state nothing else."""

    time_zone: str = "UTC"
    currency: str = "$"


@dataclass(frozen=True, slots=True)
class History:
    """What the database knows of one customer. Lists are newest first; `spent` is of the last year, less returns."""

    time_zone: str | None = None
    attributes: Mapping[str, Any] | None = None
    purchases: tuple[tuple[str, str | None, datetime], ...] = ()  # label, brand, when
    categories: tuple[str, ...] = ()  # most viewed first
    ratings: tuple[tuple[str, float], ...] = ()  # label, 1 to 5
    searches: tuple[str, ...] = ()
    responses: tuple[tuple[str, float, str | None], ...] = ()  # label, above 0 if interested, what he did if known
    spent: float | None = None
    spending_since: datetime | None = None


def segments_of(history: History, as_of: datetime, habits: ShopHabits) -> tuple[tuple[str, str], ...]:
    """Title and text of each segment that has something in it, in the order of the prompt."""
    told: tuple[tuple[str, str], ...] = (
        ("Recent purchases", _listed(label for label, _, _ in history.purchases)),
        ("Frequently browsed categories", _listed(history.categories)),
        ("Product ratings", _listed(_ratings(history))),
        ("Recent searches", _listed(history.searches)),
        ("Preferred brands", _listed(_brands(history))),
        ("Responses to earlier recommendations", _listed(_responses(history))),
        ("Loyalty status", _short(_stated(history, "loyalty_status"))),
        (MONTHLY_SPEND, _monthly_spend(history, as_of, habits.currency)),
        ("Preferred shopping times", _shopping_times(history, habits.time_zone)),
    )
    return tuple((title, text) for title, text in told if text)


def _ratings(history: History) -> Iterable[str]:
    for label, value in _once(history.ratings):
        yield f"{_short(label)}: {value:g} {'star' if value == 1 else 'stars'}"


def _responses(history: History) -> Iterable[str]:
    for label, answer in _once((label, _answer(value, did)) for label, value, did in history.responses):
        yield f"{_short(label)}: {answer}"


def _answer(value: float, did: str | None) -> str:
    if did in {"clicked", "bought"}:
        return did
    return "interested" if value > 0 else "not interested"


def _brands(history: History) -> list[str]:
    bought = Counter(brand for _, brand, _ in history.purchases if brand)
    often = [brand for brand, times in bought.most_common() if times >= _PURCHASES_FOR_A_BRAND]
    return _stated_list(history, "preferred_brands") + often


def _monthly_spend(history: History, as_of: datetime, currency: str) -> str:
    if history.spent is not None and history.spending_since is not None:
        months = min(max((as_of - history.spending_since).days / _DAYS_PER_MONTH, 1), 12)
        return f"{currency}{max(history.spent, 0) / months:,.0f}"
    stated = (history.attributes or {}).get("average_monthly_spend")
    if isinstance(stated, bool) or not isinstance(stated, (int, float)):
        return ""
    return f"{currency}{stated:,.0f}"


def _shopping_times(history: History, shop_time_zone: str) -> str:
    zone = _zone(history.time_zone, shop_time_zone)
    times = Counter(_part_of_week(when.astimezone(zone)) for _, _, when in history.purchases)
    if times.total() >= _PURCHASES_FOR_A_HABIT:
        habit, often = times.most_common(1)[0]
        if often / times.total() >= _SHARE_FOR_A_HABIT:
            return habit
    return _listed(_stated_list(history, "preferred_shopping_times"))


def _part_of_week(when: datetime) -> str:
    days = "Weekend" if when.weekday() >= 5 else "Weekday"
    return f"{days} {next(name for end, name in _PARTS_OF_DAY if when.hour < end)}"


def _zone(name: str | None, otherwise: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or otherwise)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a shop's own view may hold any text here
        return ZoneInfo(otherwise)


def _stated(history: History, name: str) -> str:
    value = (history.attributes or {}).get(name)
    return value if isinstance(value, str) else ""


def _stated_list(history: History, name: str) -> list[str]:
    value = (history.attributes or {}).get(name)
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _once(pairs: Iterable[tuple[str, T]]) -> Iterable[tuple[str, T]]:
    """Of each label the newest value."""
    newest: dict[str, T] = {}
    for label, value in pairs:
        newest.setdefault(label, value)
    return newest.items()


def _listed(texts: Iterable[str]) -> str:
    """The first few different texts, joined by commas, within the bound in characters."""
    short = dict.fromkeys(text for text in map(_short, texts) if text)
    listed = ""
    for text in list(short)[:MAX_ITEMS]:
        longer = f"{listed}, {text}" if listed else text
        if len(longer) > MAX_SEGMENT_CHARACTERS:
            break
        listed = longer
    return listed


def _short(text: str) -> str:
    """On one line, without control characters, and bounded."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text[:1000]).split())
    return line if len(line) <= MAX_ITEM_CHARACTERS else f"{line[: MAX_ITEM_CHARACTERS - 1]}…"
