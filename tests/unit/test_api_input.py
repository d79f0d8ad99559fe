"""What a caller of the Python API may hand over, and the one line that says what cannot be used."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

from pipeline.api_input import read_limit, read_listener, read_products
from pipeline.domain import Rejection
from pipeline.errors import InputError

BEYOND_PRINTING = 10**5_000  # Python refuses to write it in digits


@dataclass
class OfTwoLines:
    def __repr__(self) -> str:
        return "first\nsecond"


class Listener:
    def __init__(self) -> None:
        self.heard: list[Rejection] = []

    def __call__(self, rejection: Rejection) -> None:
        self.heard.append(rejection)


class AwaitedListener:
    async def __call__(self, rejection: Rejection) -> None:
        raise AssertionError(rejection)


async def awaited(rejection: Rejection) -> None:
    raise AssertionError(rejection)


def of_two(rejection: Rejection, product: str) -> None:
    raise AssertionError(rejection, product)


def nothing() -> None:
    raise AssertionError


@pytest.mark.parametrize(
    "listener", [[].append, print, Listener(), partial(of_two, product="1"), partial(print, "refused"), list, max]
)
def test_whatever_can_be_called_with_a_rejection_may_listen(listener: Callable[[Rejection], None]) -> None:
    assert read_listener(listener) is listener


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        (None, "is a NoneType"),
        ([], "is a list"),
        ("print", "is a str"),
        (OfTwoLines(), "is a OfTwoLines"),
        (awaited, "coroutine"),
        (partial(awaited), "coroutine"),
        (AwaitedListener(), "coroutine"),
        (nothing, "too many"),
        (of_two, "'product'"),
    ],
)
def test_what_cannot_be_told_of_a_rejection_is_refused_in_one_line(listener: Any, said: str) -> None:
    assert_refused(lambda: read_listener(listener), "on_rejection", said)


@pytest.mark.parametrize(
    ("limit", "asked"), [(None, 5), (1, 1), (5, 5), (6, 5), pytest.param(BEYOND_PRINTING, 5, id="beyond printing")]
)
def test_a_limit_asks_for_at_most_as_many_as_there_are_products(limit: int | None, asked: int) -> None:
    assert read_limit(limit, 5) == asked


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (0, "less than 1"),
        pytest.param(-BEYOND_PRINTING, "less than 1", id="beyond printing"),
        (True, "is a bool"),
        (1.0, "is a float"),
        (Fraction(3), "is a Fraction"),
        ("3", "is a str"),
        ("3" * 10_000, "is a str"),
        (OfTwoLines(), "is a OfTwoLines"),
    ],
)
def test_a_limit_that_is_none_is_refused_in_one_line(limit: object, said: str) -> None:
    assert_refused(lambda: read_limit(limit, 5), "limit", said)


@pytest.mark.parametrize(
    "fields", [{"product_id": BEYOND_PRINTING}, {"price": BEYOND_PRINTING}, {"price": OfTwoLines()}]
)
def test_a_number_that_cannot_be_written_is_refused_in_one_line(fields: dict[str, object]) -> None:
    product = {"product_id": 1, "product_name": "Oak chair", **fields}
    assert_refused(lambda: read_products([product]), "product 1", *fields)


def assert_refused(reading: Callable[[], object], *said: str) -> None:
    with pytest.raises(InputError) as caught:
        reading()
    assert all(words in str(caught.value) for words in said)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
