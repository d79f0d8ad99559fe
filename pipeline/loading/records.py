"""Customers and products as a shop's files hold them, as pydantic models: what is in one is fit for its table."""

from collections.abc import Mapping
from datetime import tzinfo
from decimal import Decimal
from functools import cache
from typing import Annotated, ClassVar, Protocol, Self
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue, field_validator

from pipeline.loading.attributes import attribute, attributes_object, attributes_text, text_list
from pipeline.loading.lines import Cell, shown
from pipeline.loading.values import (
    amount,
    flag,
    identifier,
    price,
    readable,
    text_up_to,
    unfit,
)

NAME_CHARACTERS = 1_000
TEXT_CHARACTERS = 10_000
LIST_LENGTH = 500

_name = text_up_to(NAME_CHARACTERS)


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def _required_name(value: Cell) -> str:
    name = _name(value)
    if name is None:
        raise unfit("missing", "is empty")
    return name


def _short_list(value: Cell) -> list[Cell]:
    items = text_list(value)
    if len(items) > LIST_LENGTH:
        raise unfit("too_long", f"has {len(items):,} items, at most {LIST_LENGTH} are allowed")
    return items


def _text_or_list(value: Cell) -> Cell:
    return _short_list(value) if isinstance(value, list) else _name(value)


def _plain_amount(value: Cell) -> JsonValue:
    found = amount(value)
    return int(found) if found.is_integer() else found


Identifier = Annotated[str, BeforeValidator(identifier)]
Name = Annotated[str, BeforeValidator(_required_name)]
ShortText = Annotated[str | None, BeforeValidator(_name)]
LongText = Annotated[str | None, BeforeValidator(text_up_to(TEXT_CHARACTERS))]
Flag = Annotated[bool, BeforeValidator(flag)]
Amount = Annotated[float, BeforeValidator(amount)]
Price = Annotated[Decimal, BeforeValidator(price)]
Attribute = Annotated[JsonValue, BeforeValidator(attribute)]


def is_blank(cell: Cell) -> bool:
    """True for a cell that tells nothing: none, or only blanks."""
    return cell is None or (isinstance(cell, str) and (not cell or cell.isspace()))


class FileRecord(Protocol):
    """What the three records have in common for the one who loads them."""

    columns: ClassVar[frozenset[str]]
    named_attributes: ClassVar[frozenset[str]]  # judged by name, kept among the attributes

    @classmethod
    def from_cells(cls, cells: Mapping[str, Cell], zone: tzinfo) -> Self:
        """The record of one line; raises pydantic's errors where a cell is not fit."""
        ...


class _WithAttributes(BaseModel):
    """A record whose further columns are its attributes."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Attribute]

    columns: ClassVar[frozenset[str]]
    named_attributes: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_cells(cls, cells: Mapping[str, Cell], zone: tzinfo) -> Self:
        """The record of one line; `zone` plays no part, these records hold no moment."""
        del zone
        present = {readable(name): cell for name, cell in cells.items() if not is_blank(cell)}
        if "attributes" in present:
            inner = attributes_object(present.pop("attributes"))
            _refuse_hidden_columns(inner, cls.columns)
            present = {readable(name): cell for name, cell in inner.items() if not is_blank(cell)} | present
        return cls.model_validate(present)

    def attributes_json(self) -> str:
        """All attributes, the named ones and every other, as JSON text."""
        return attributes_text(self.model_dump(exclude=set(self.columns), exclude_unset=True))


class CustomerRecord(_WithAttributes):
    """A customer. The attributes that profiles and rules read are judged by name; any other is kept as it is."""

    columns = frozenset({"customer_id", "active", "time_zone"})
    named_attributes = frozenset(
        {
            "loyalty_status",
            "average_monthly_spend",
            "preferred_brands",
            "preferred_shopping_times",
            "candidates",
            "excluded_brands",
            "excluded_categories",
            "price_from",
            "price_to",
        }
    )

    customer_id: Identifier
    active: Flag = True
    time_zone: ShortText = None
    loyalty_status: ShortText = None
    average_monthly_spend: Annotated[int | float | None, BeforeValidator(_plain_amount)] = None
    preferred_brands: Annotated[list[Name], BeforeValidator(_short_list)] = []
    preferred_shopping_times: Annotated[str | list[Name] | None, BeforeValidator(_text_or_list)] = None
    candidates: Annotated[list[Identifier], BeforeValidator(_short_list)] = []
    excluded_brands: Annotated[list[Name], BeforeValidator(_short_list)] = []
    excluded_categories: Annotated[list[Name], BeforeValidator(_short_list)] = []
    price_from: Annotated[int | float | None, BeforeValidator(_plain_amount)] = None
    price_to: Annotated[int | float | None, BeforeValidator(_plain_amount)] = None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None and name not in _zone_names():
            raise unfit("unknown_time_zone", f"{shown(name)} is not a time zone name like 'Europe/Berlin'")
        return name


class ProductRecord(_WithAttributes):
    """A product of the catalog; `price` in the shop's currency, None where it is unknown."""

    columns = frozenset({"product_id", "name", "description", "brand", "category", "price", "available", "hidden"})

    product_id: Identifier
    name: Name
    description: LongText = None
    brand: ShortText = None
    category: ShortText = None
    price: Price | None = None
    available: Flag = True
    hidden: Flag = False


def _refuse_hidden_columns(inner: Mapping[str, Cell], columns: frozenset[str]) -> None:
    hidden = sorted(columns.intersection(inner))
    if hidden:
        raise unfit("misplaced_column", f"{hidden[0]} stands inside `attributes`: it is a column of its own")
