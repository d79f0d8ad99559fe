"""Reads what a caller of the Python API hands over: a profile, products of any shape, a limit, a listener. No I/O."""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from inspect import iscoroutinefunction, signature
from itertools import islice
from math import isfinite, nan
from numbers import Integral, Real
from typing import Any

from pipeline.domain import Product, ProductId, Profile, Rejection
from pipeline.errors import InputError

MAX_PROFILE_CHARACTERS = 200_000
MAX_PRODUCTS = 1_000
_HALF_OF_A_PAIR = re.compile(r"[\ud800-\udfff]")


def read_products(products: Iterable[Mapping[str, Any] | object]) -> list[Product]:
    """The products as candidates, in their order.

    Raises:
        InputError: there is none, or there are more than 1,000, or one of them cannot be used.
    """
    if not isinstance(products, Iterable):
        raise InputError(f"products is a {type(products).__name__}: give a list of dicts or objects")
    candidates = [_product(place, given) for place, given in enumerate(islice(products, MAX_PRODUCTS + 1), start=1)]
    if not candidates:
        raise InputError("the list of products is empty: give at least one product to rank")
    if len(candidates) > MAX_PRODUCTS:
        raise InputError(f"more than {MAX_PRODUCTS:,} products are too many for one prompt: give the likeliest")
    seen: set[ProductId] = set()
    for product in candidates:
        if product.product_id in seen:
            raise InputError(f"product_id {product.product_id!r:.80} stands twice in the list of products")
        seen.add(product.product_id)
    return candidates


def _product(position: int, given: Mapping[str, Any] | object) -> Product:
    fields = given if isinstance(given, Mapping) else _Attributes(given)
    product_id, name = fields.get("product_id", fields.get("id")), fields.get("product_name", fields.get("name"))
    id_text = _id_text(product_id)
    if not _is_told(id_text):
        raise InputError(f"product {position} of the list has no product_id (an integer or a text)")
    what = f"product {product_id!r:.80}"
    if not isinstance(name, str) or not _is_told(name):
        raise InputError(f"{what} has no product_name (a text that is not empty)")
    return Product(
        ProductId(id_text),
        name,
        brand=_optional_text(fields.get("brand"), f"the brand of {what}"),
        category=_optional_text(fields.get("category"), f"the category of {what}"),
        price=_optional_price(fields.get("price"), f"the price of {what}"),
    )


def _id_text(product_id: object) -> str:
    """The id as text; nothing where it is neither an integer nor a text."""
    if isinstance(product_id, bool) or not isinstance(product_id, (Integral, str)):
        return ""
    try:
        return str(product_id)
    except ValueError:  # Python writes no integer of over 4,300 digits
        return ""


def _is_told(text: str) -> bool:
    """True for a text that is not blank and can be encoded."""
    return bool(text.strip()) and not _HALF_OF_A_PAIR.search(text)


def _optional_text(value: object, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InputError(f"{what} is a {type(value).__name__}: give a text, or leave it out")
    return value


def _optional_price(value: object, what: str) -> float | None:
    if value is None:
        return None
    price = _number(value)
    if not isfinite(price):
        raise InputError(f"{what} is {_shown(value)}: give a number, or leave it out")
    return price


def _shown(value: object) -> str:
    try:
        return repr(str(value)[:50])
    except ValueError:  # as above
        return "endless"


def _number(value: object) -> float:
    """The value as a float; not a number where it is none."""
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        return nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return nan


class _Attributes:
    """Reads an object's attributes the way a mapping's keys are read."""

    def __init__(self, given: object) -> None:
        self._given = given

    def get(self, name: str, otherwise: Any = None) -> Any:
        return getattr(self._given, name, otherwise)


def read_limit(limit: object, products: int) -> int:
    """How many recommendations to ask for, given that there are so many products.

    Raises:
        InputError: the limit is no number of recommendations.
    """
    if limit is None:
        return products
    if isinstance(limit, bool) or not isinstance(limit, Integral):
        raise InputError(f"limit is a {type(limit).__name__}: give a whole number, or leave it out")
    if limit < 1:
        raise InputError("limit is less than 1: ask for at least one recommendation")
    return min(int(limit), products)


def read_listener(on_rejection: Callable[[Rejection], None]) -> Callable[[Rejection], None]:
    """What is to be told of each rejection.

    Raises:
        InputError: it cannot be called with a rejection, or would have to be awaited.
    """
    if not callable(on_rejection):
        raise InputError(f"on_rejection is a {type(on_rejection).__name__}: give a function that takes a rejection")
    if iscoroutinefunction(on_rejection) or iscoroutinefunction(type(on_rejection).__call__):
        raise InputError("on_rejection is a coroutine function: give a plain one, since nothing awaits it")
    try:
        with suppress(ValueError):  # what is written in C may not say what it takes
            signature(on_rejection).bind(None)
    except TypeError as error:
        raise InputError(f"on_rejection cannot be called with a rejection alone: {error}") from error
    return on_rejection


def read_profile(profile_data: str | Profile) -> str:
    """The profile as text.

    Raises:
        InputError: it is neither a text nor a `Profile`, or over 200,000 characters long.
    """
    text = profile_data.as_text() if isinstance(profile_data, Profile) else profile_data
    if not isinstance(text, str):
        raise InputError(f"profile_data is a {type(text).__name__}: give a text or a Profile")
    if len(text) > MAX_PROFILE_CHARACTERS:
        raise InputError(f"profile_data has {len(text):,} characters: give at most {MAX_PROFILE_CHARACTERS:,}")
    return text
