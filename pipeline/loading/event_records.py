"""Events as a shop's files hold them, as a pydantic model: what is in one is fit for the table."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import ClassVar, Literal, Self, cast, get_args
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from pipeline.loading.lines import Cell, shown
from pipeline.loading.records import Amount, Identifier, LongText, is_blank
from pipeline.loading.values import amount, moment, number, unfit

EventKind = Literal["purchase", "return", "view", "rating", "search", "response"]
ResponseKind = Literal["shown", "clicked", "bought", "refused"]
EVENT_KINDS = frozenset(get_args(EventKind))
EVENT_KEYS = UUID("6b1f7a52-43f7-5d6a-9f0e-3f3f7f5c2c11")  # never change it: the keys of all loaded events hang on it

HIGHEST_RANK = 10_000
_ANSWERS = {"interested": 1.0, "not interested": 0.0, "not_interested": 0.0}
_MEANINGS: Mapping[ResponseKind, float | None] = {"shown": None, "clicked": 1.0, "bought": 1.0, "refused": 0.0}


class EventRecord(BaseModel):
    """Something a customer did. Field order matters: each is judged by those that stand before it.

    `value` is the amount of money of a purchase or return, the stars of a rating (1 to 5), and 1 (interested) or 0
    (not interested) of a response. `response`, `run_id` and `rank` are of responses alone: what became of a
    recommendation, and which one it was. Where a response says what it is, its value follows from that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: ClassVar[frozenset[str]] = frozenset(
        {
            "customer_id",
            "product_id",
            "kind",
            "quantity",
            "unit_price",
            "response",
            "run_id",
            "rank",
            "value",
            "text",
            "occurred_at",
            "order_id",
            "event_id",
        }
    )
    named_attributes: ClassVar[frozenset[str]] = frozenset()

    customer_id: Identifier
    product_id: Identifier | None = None
    kind: EventKind
    quantity: Amount | None = None
    unit_price: Amount | None = None
    response: ResponseKind | None = None
    run_id: UUID | None = None
    rank: int | None = None
    value: float | None = Field(default=None, validate_default=True)
    text: LongText = Field(default=None, validate_default=True)
    occurred_at: datetime
    order_id: Identifier | None = None
    event_id: Identifier | None = None

    @classmethod
    def from_cells(cls, cells: Mapping[str, Cell], zone: tzinfo) -> Self:
        """The record of one line; moments without a zone are in `zone`, columns of no meaning here are left out."""
        present = {name: cell for name, cell in cells.items() if name in cls.columns and not is_blank(cell)}
        return cls.model_validate(present, context=zone)

    @field_validator("kind", mode="before")
    @classmethod
    def _known_kind(cls, kind: Cell) -> str:
        found = kind.strip().lower() if isinstance(kind, str) else ""
        if found not in EVENT_KINDS:
            raise unfit("unknown_kind", f"{shown(kind)} is none of {', '.join(get_args(EventKind))}")
        return found

    @field_validator("response", "run_id", "rank", mode="before")
    @classmethod
    def _of_a_response(cls, cell: Cell, info: ValidationInfo) -> str | UUID | int | None:
        """A cell of another kind's line means nothing here: a shop's purchases may well have a rank of their own."""
        if info.data.get("kind") != "response":
            return None
        return _RESPONSE_CELLS[str(info.field_name)](cell)

    @field_validator("value", mode="before")
    @classmethod
    def _value_of_its_kind(cls, value: Cell, info: ValidationInfo) -> float | None:
        kind = info.data.get("kind")
        if kind == "rating":
            return _stars(value)
        if kind == "response":
            return _meaning(value, info.data.get("response"))
        if kind in {"purchase", "return"}:
            return _money(value, info.data.get("quantity"), info.data.get("unit_price"))
        return None if value is None else number(value)

    @field_validator("text", mode="before")
    @classmethod
    def _says_what_it_is_about(cls, text: Cell, info: ValidationInfo) -> Cell:
        kind, product_id = info.data.get("kind"), info.data.get("product_id")
        if text is None and (kind == "search" or (kind and "product_id" in info.data and product_id is None)):
            needed = "a search needs its text" if kind == "search" else f"a {kind} needs a product_id or a text"
            raise unfit("missing", f"is empty: {needed}")
        return text

    @field_validator("occurred_at", mode="before")
    @classmethod
    def _in_utc(cls, value: Cell, info: ValidationInfo) -> datetime:
        return moment(value, cast(tzinfo, info.context))

    def event_key(self) -> UUID:
        """The key by which the same event is known again: from `event_id` if given, else from every field.

        Without `event_id`, two events alike in every field are one. What tells no run, rank and response has the key
        that it had before there were any.
        """
        if self.event_id is not None:
            return uuid5(EVENT_KEYS, f"event_id {self.event_id}")
        money = (self.quantity, self.unit_price, self.value)
        told = (self.customer_id, self.product_id, self.kind, *money, self.text, self.order_id)
        place = (self.response, None if self.run_id is None else str(self.run_id), self.rank)
        tied = () if place == (None, None, None) else place
        return uuid5(EVENT_KEYS, json.dumps((*told, self.occurred_at.isoformat(), *tied)))


def _stars(value: Cell) -> float:
    stars = None if value is None else number(value)
    if stars is None or not 1 <= stars <= 5:
        raise unfit("not_a_rating", f"{shown(value)} is not a rating from 1 to 5")
    return stars


def _response(value: Cell) -> str:
    found = value.strip().lower() if isinstance(value, str) else ""
    if found not in _MEANINGS:
        raise unfit("unknown_response", f"{shown(value)} is none of {', '.join(_MEANINGS)}")
    return found


def _run(value: Cell) -> UUID:
    try:
        return UUID(value.strip() if isinstance(value, str) else "")
    except ValueError:
        raise unfit("not_a_run", f"{shown(value)} is not the id of a run, which `recstream runs` shows") from None


def _rank(value: Cell) -> int:
    found = number(value)
    if not found.is_integer() or not 1 <= found <= HIGHEST_RANK:
        raise unfit("not_a_rank", f"{shown(value)} is not a rank: a whole number from 1 to {HIGHEST_RANK:,}")
    return int(found)


_RESPONSE_CELLS: Mapping[str, Callable[[Cell], str | UUID | int]] = {
    "response": _response,
    "run_id": _run,
    "rank": _rank,
}


def _meaning(value: Cell, response: ResponseKind | None) -> float | None:
    """What a response says of the customer's interest; having been shown something says nothing."""
    if response is None:
        return _answer(value)
    meaning = _MEANINGS[response]
    if value is not None and _answer(value) != meaning:
        raise unfit("contradictory_response", f"{shown(value)} is not what the response {response!r} means")
    return meaning


def _answer(value: Cell) -> float:
    known = _ANSWERS.get(value.strip().lower()) if isinstance(value, str) else None
    if known is not None:
        return known
    answer = None if value is None else number(value)
    if answer not in {0.0, 1.0}:
        raise unfit("not_a_response", f"{shown(value)} is neither 1 (interested) nor 0 (not interested)")
    return answer


def _money(value: Cell, quantity: float | None, unit_price: float | None) -> float | None:
    if value is not None:
        return amount(value)
    if unit_price is None:
        return None
    return round(unit_price * (1.0 if quantity is None else quantity), 6)  # 3 x 0.1 is 0.3
