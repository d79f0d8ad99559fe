"""Which texts speak of a customer, and what is left of them when he is erased."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain import CustomerId
from pipeline.mentions import ERASED, Mentions


def mentions(customer_id: str) -> Mentions:
    return Mentions(CustomerId(customer_id))


@pytest.mark.parametrize("customer_id", ["c-1729", "ann@example.org", "12345678", "u17b", "johannamueller"])
def test_an_id_that_is_hardly_anything_else_counts_wherever_it_stands(customer_id: str) -> None:
    text = f"the answer names {customer_id}."
    assert mentions(customer_id).is_in(text)
    assert mentions(customer_id).erased_from(text) == f"the answer names {ERASED}."


@pytest.mark.parametrize("customer_id", ["12", "12345", "ann", "headphones"])
def test_an_id_that_may_be_another_thing_counts_only_where_a_customer_is_spoken_of(customer_id: str) -> None:
    found = mentions(customer_id)
    assert not found.is_in(f"rank {customer_id} is taken by another row")
    for named in (
        f"customer {customer_id!r} is not active",
        f"the slate of customer {customer_id} was opened by another",
        f'"customer_id": "{customer_id}"',
        f'{{\\"customer_id\\":\\"{customer_id}\\"}}',
        f"customer_id={customer_id}",
        f"on-demand {customer_id}",
    ):
        assert found.is_in(named), named
        assert not found.is_in(found.erased_from(named))
        assert found.erased_from(named) == named.replace(customer_id, ERASED)


@pytest.mark.parametrize(
    "other",
    [
        *("customer 123", "customer 3-12", "customer 12-3", "customer 12.5", "customer x12", "customer 12@shop"),
        *("customer 12:3", "customer 12/3", "customer '12.b'", "on-demand 12+1", "customer 3:12", "customer a.12"),
    ],
)
def test_a_longer_id_is_another_customer(other: str) -> None:
    assert not mentions("12").is_in(other)
    assert not mentions("12").may_be_in(other)
    assert mentions("12").erased_from(other) == other


@pytest.mark.parametrize(
    ("customer_id", "other"),
    [
        *(("ann@example.org", f"on-demand {other}@example.org") for other in ("mary.ann", "x+ann", "x-ann")),
        *(("ann@example.org", f"customer 'ann@example.org{more}'") for more in (".uk", "-x", "@x")),
        *(("c-1729", other) for other in ("c-1729.b", "x.c-1729", "a:c-1729", "c-1729/2", "b+c-1729")),
        ("s", "all customers are served"),
        ("_", "customer _x"),
        *((" ", other) for other in ("customer 'c-1'", "customer c", "customer  x")),
        *((".", other) for other in ("customer 'a'.", "customer.", "customer '.b'")),
    ],
)
def test_an_id_within_another_one_is_not_there(customer_id: str, other: str) -> None:
    found = mentions(customer_id)
    assert not found.is_in(other)
    assert not found.may_be_in(other)
    assert found.erased_from(other) == found.erased_anywhere(other) == other


def test_an_id_without_a_letter_is_compared_as_a_whole() -> None:
    assert mentions(" ").is_in("customer ' ' is not active")
    assert mentions("-").may_be_in("reason\n-\nnothing")
    assert not mentions("-").may_be_in("a - b")


@pytest.mark.parametrize("customer_id", ["[erased]", "erased", "ed", "[", "]"])
def test_what_stands_for_an_erased_customer_names_nobody(customer_id: str) -> None:
    found = mentions(customer_id)
    erased = found.erased_from(f"customer {customer_id!r} is not active, customer {ERASED!r} neither")
    assert erased == f"customer {ERASED!r} is not active, customer {ERASED!r} neither" or customer_id == ERASED
    assert not found.is_in(erased)
    assert not found.may_be_in(erased)


def test_a_quote_that_sql_has_doubled_is_one() -> None:
    found = mentions("o'neil-12")
    assert found.erased_from("VALUES ('o''neil-12')") == f"VALUES ('{ERASED}')"


@pytest.mark.parametrize("ending", ["", ".", ",", ":", "'", " ", "\n", '"', ")", "…"])
def test_what_ends_a_sentence_or_a_quotation_is_no_part_of_an_id(ending: str) -> None:
    assert mentions("12").is_in(f"customer 12{ending}")


def test_a_line_break_that_json_has_written_out_is_no_part_of_an_id() -> None:
    assert mentions("c-1729").is_in(r"{\"text\": \"\nc-1729\n\"}")


IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@given(IDS.filter(lambda customer_id: customer_id not in ERASED))
def test_every_id_is_found_as_messages_and_json_have_it_and_erased_from_both(customer_id: str) -> None:
    found = mentions(customer_id)
    for text in (
        f"customer {customer_id!r} is not active",
        json.dumps({"customer_id": customer_id}),
        json.dumps({"customer_id": customer_id}, ensure_ascii=False),
    ):
        assert any(spelling in text for spelling in found.spellings)
        assert found.is_in(text)
        assert not found.is_in(found.erased_from(text))
