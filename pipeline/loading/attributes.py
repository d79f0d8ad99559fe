"""Turns what a shop tells beyond the known columns into JSON that Postgres can hold. No I/O."""

import json
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from math import isfinite

from pydantic import JsonValue

from pipeline.loading.lines import Cell, shown
from pipeline.loading.values import readable, unfit

ATTRIBUTES_CHARACTERS = 100_000
DEEPEST = 20


def attribute(value: Cell, depth: int = 1) -> JsonValue:
    """One attribute as JSON: texts cleaned like names, times as ISO 8601, lists and objects item by item."""
    if depth > DEEPEST:
        raise unfit("too_deep", f"is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        return {readable(key): attribute(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [attribute(item, depth + 1) for item in value]
    return _single(value)


def _single(value: Cell) -> JsonValue:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, float | Decimal):
        return _finite(float(value))
    if isinstance(value, date | time):
        return value.isoformat()
    raise unfit("not_json", f"{shown(value)} cannot be kept as an attribute")


def _finite(value: float) -> float:
    if not isfinite(value):
        raise unfit("not_finite", f"{shown(value)} is not a finite number")
    return value


def attributes_object(value: Cell) -> Mapping[str, Cell]:
    """The column `attributes`: an object, or the text of one."""
    found = _from_json(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise unfit("not_an_object", f"{shown(value)} is not a JSON object")
    return found


def _from_json(text: str) -> Cell:
    try:
        found: Cell = json.loads(text)
    except (ValueError, RecursionError):
        raise unfit("not_json", f"{shown(text)} is not JSON") from None
    return found


def text_list(value: Cell) -> list[Cell]:
    """A list given as such, as JSON text, or as text parted by commas, semicolons or bars."""
    if isinstance(value, str):
        value = _from_json(value) if value.lstrip().startswith("[") else _parts(value)
    if not isinstance(value, list):
        raise unfit("not_a_list", f"{shown(value)} is not a list")
    return [item for item in value if item is not None and item != ""]


def _parts(text: str) -> Cell:
    separator = next((mark for mark in "|;" if mark in text), ",")
    return [part.strip() for part in text.split(separator)]


def attributes_text(attributes: Mapping[str, JsonValue]) -> str:
    """The attributes as JSON text, with one order of keys."""
    text = json.dumps(attributes, ensure_ascii=False, sort_keys=True, allow_nan=False)
    if len(text) > ATTRIBUTES_CHARACTERS:
        raise unfit("too_long", f"has {len(text):,} characters, at most {ATTRIBUTES_CHARACTERS:,} are allowed")
    return text
