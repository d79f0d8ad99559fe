"""Cells become customers, products and events, without a database: forms, bounds and reasons."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from pipeline.loading.event_records import EventRecord
from pipeline.loading.lines import Cell
from pipeline.loading.records import CustomerRecord, FileRecord, ProductRecord
from pipeline.loading.values import flag, identifier, moment, number, price, readable

LONDON = ZoneInfo("Europe/London")
WHEN = "2026-01-31T18:30:00Z"


def problem(record: type[FileRecord], cells: Mapping[str, Cell]) -> tuple[str, str]:
    """The column and the code for which a line with these cells is refused."""
    try:
        record.from_cells(cells, UTC)
    except ValidationError as error:
        first = error.errors()[0]
        return str(first["loc"][0]), first["type"]
    except PydanticCustomError as error:
        return "attributes", error.type
    pytest.fail("the line was not refused")


# Cells


def test_control_characters_and_line_breaks_become_a_space() -> None:
    assert readable("  Lamp\r\nwith\x07\u2028shade\t ") == "Lamp with shade"
    assert readable("Größe “L” — 日本") == "Größe “L” — 日本"


@pytest.mark.parametrize(("text", "code"), [("a\0b", "nul_character"), ("a\udcffb", "not_utf8")])
def test_what_postgres_cannot_hold_is_refused(text: str, code: str) -> None:
    with pytest.raises(PydanticCustomError) as raised:
        readable(text)
    assert raised.value.type == code


def test_ids_are_text_or_whole_numbers() -> None:
    assert identifier(17850) == identifier(" 17850 ") == "17850"
    wrongs: list[Cell] = [True, 17850.0, "", "a\x01b", "x" * 201, ["a"]]
    for wrong in wrongs:
        with pytest.raises(PydanticCustomError):
            identifier(wrong)


def test_numbers_are_finite_and_plain() -> None:
    assert number("12.50") == number(Decimal("12.5")) == number(12.5)
    assert number("1e3") == 1000
    for wrong in ("nan", "inf", "1e999", "1_000", "3,50", "$5", "", float("nan"), 10**400, True):
        with pytest.raises(PydanticCustomError):
            number(wrong)


def test_prices_are_rounded_to_cents_and_bounded() -> None:
    assert price("0.125") == price(0.125) == Decimal("0.13")
    assert price("0") == Decimal("0.00")
    for wrong in ("-1", float("nan"), "Infinity", "1e12", 1e300):
        with pytest.raises(PydanticCustomError):
            price(wrong)


def test_flags_are_read_in_their_usual_forms() -> None:
    assert all(flag(yes) for yes in (True, 1, "true", " Yes ", "T", "1"))
    assert not any(flag(no) for no in (False, 0, "FALSE", "no", "0"))
    with pytest.raises(PydanticCustomError):
        flag("maybe")


@pytest.mark.parametrize(
    "told",
    [
        "2026-07-01T13:00:00+01:00",
        "2026-07-01 12:00:00Z",
        "2026-07-01 12:00:00 UTC",
        "2026-07-01T12:00:00.000000000Z",
        "20260701T120000Z",
        "2026-07-01 13:00",
        "2026-07-01T13",
        datetime(2026, 7, 1, 13),
        datetime(2026, 7, 1, 12, tzinfo=UTC),
    ],
)
def test_moments_are_read_in_the_forms_of_iso_8601(told: Cell) -> None:
    assert moment(told, LONDON) == datetime(2026, 7, 1, 12, tzinfo=UTC)


def test_a_date_alone_is_its_midnight_in_the_shops_zone() -> None:
    assert moment("2026-07-01", LONDON) == moment(date(2026, 7, 1), LONDON) == datetime(2026, 6, 30, 23, tzinfo=UTC)


def test_an_hour_told_twice_is_read_as_its_first() -> None:
    assert moment("2026-10-25 01:30", LONDON) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "told", ["01/02/2026", "31.01.2026", "yesterday", "1672531200", 1672531200, 1.5, "2026-02-30", "2026-01-01x10:00"]
)
def test_a_date_in_no_known_form_is_refused(told: Cell) -> None:
    with pytest.raises(PydanticCustomError) as raised:
        moment(told, LONDON)
    assert raised.value.type == "not_a_time"


@pytest.mark.parametrize("told", ["0001-01-01", "9999-12-31T23:59-12:00"])
def test_a_moment_outside_the_calendar_is_refused(told: str) -> None:
    with pytest.raises(PydanticCustomError):
        moment(told, ZoneInfo("Asia/Tokyo"))


# Customers and products


def test_columns_of_no_other_meaning_become_attributes() -> None:
    record = CustomerRecord.from_cells(
        {"customer_id": 7, "country": "Peru", "columns": "x", "attributes": '{"tier": [1, null]}', "empty": ""}, UTC
    )
    assert json.loads(record.attributes_json()) == {"country": "Peru", "columns": "x", "tier": [1, None]}


def test_attributes_that_profiles_read_are_brought_into_their_form() -> None:
    record = CustomerRecord.from_cells(
        {
            "customer_id": "7",
            "average_monthly_spend": "500",
            "preferred_brands": "Apple; AllBirds",
            "preferred_shopping_times": "Weekend evenings",
            "candidates": "[1, 2]",
            "excluded_brands": "Acme;Foo",
            "excluded_categories": "Toys",
            "price_from": "2.5",
            "price_to": "10",
        },
        UTC,
    )
    assert json.loads(record.attributes_json()) == {
        "average_monthly_spend": 500,
        "preferred_brands": ["Apple", "AllBirds"],
        "preferred_shopping_times": "Weekend evenings",
        "candidates": ["1", "2"],
        "excluded_brands": ["Acme", "Foo"],
        "excluded_categories": ["Toys"],
        "price_from": 2.5,
        "price_to": 10,
    }


@pytest.mark.parametrize(
    ("cells", "column", "code"),
    [
        ({}, "customer_id", "missing"),
        ({"customer_id": " "}, "customer_id", "missing"),
        ({"customer_id": "1", "time_zone": "Mars/Base"}, "time_zone", "unknown_time_zone"),
        ({"customer_id": "1", "time_zone": "../../etc/passwd"}, "time_zone", "unknown_time_zone"),
        ({"customer_id": "1", "active": "maybe"}, "active", "not_a_flag"),
        ({"customer_id": "1", "average_monthly_spend": "lots"}, "average_monthly_spend", "not_a_number"),
        ({"customer_id": "1", "price_to": "cheap"}, "price_to", "not_a_number"),
        ({"customer_id": "1", "price_from": -1}, "price_from", "negative"),
        ({"customer_id": "1", "excluded_brands": 7}, "excluded_brands", "not_a_list"),
        ({"customer_id": "1", "country": "a\0"}, "country", "nul_character"),
        ({"customer_id": "1", "score": float("nan")}, "score", "not_finite"),
        ({"customer_id": "1", "a\0b": 1}, "attributes", "nul_character"),
        ({"customer_id": "1", "attributes": "[1]"}, "attributes", "not_an_object"),
        ({"customer_id": "1", "attributes": "{"}, "attributes", "not_json"),
        ({"customer_id": "1", "attributes": {"active": False}}, "attributes", "misplaced_column"),
        ({"customer_id": "1", "bio": "x" * 100_001}, "attributes", "too_long"),
        ({"customer_id": "1", "logo": b"\x89PNG"}, "logo", "not_json"),
        ({"customer_id": "1", "candidates": list(range(501))}, "candidates", "too_long"),
    ],
)
def test_a_customer_that_is_not_fit_is_refused_with_column_and_code(
    cells: dict[str, Cell], column: str, code: str
) -> None:
    def judged(cells: Mapping[str, Cell]) -> tuple[str, str]:
        try:
            CustomerRecord.from_cells(cells, UTC).attributes_json()
        except PydanticCustomError as error:
            return "attributes", error.type
        except ValidationError:
            return problem(CustomerRecord, cells)
        pytest.fail("the line was not refused")

    assert judged(cells) == (column, code)


def test_attributes_nested_too_deeply_are_refused() -> None:
    nested: Cell = "leaf"
    for _ in range(30):
        nested = [nested]
    assert problem(CustomerRecord, {"customer_id": "1", "nested": nested}) == ("nested", "too_deep")


@pytest.mark.parametrize(
    ("cells", "column", "code"),
    [
        ({"product_id": "1"}, "name", "missing"),
        ({"product_id": "1", "name": "\x01"}, "name", "missing"),
        ({"product_id": "1", "name": "x" * 1_001}, "name", "too_long"),
        ({"product_id": "1", "name": "a", "description": "x" * 10_001}, "description", "too_long"),
        ({"product_id": "1", "name": "a", "price": "NaN"}, "price", "not_finite"),
        ({"product_id": "1", "name": "a", "price": -1}, "price", "negative"),
        ({"product_id": "1", "name": "a", "price": "1,50"}, "price", "not_a_number"),
    ],
)
def test_a_product_that_is_not_fit_is_refused_with_column_and_code(
    cells: dict[str, Cell], column: str, code: str
) -> None:
    assert problem(ProductRecord, cells) == (column, code)


def test_a_product_without_price_has_none() -> None:
    assert ProductRecord.from_cells({"product_id": 1, "name": ' 12" LAMP ', "price": ""}, UTC).price is None


# Events


def event(**cells: Cell) -> EventRecord:
    told: dict[str, Cell] = {"customer_id": 1, "kind": "purchase", "product_id": "p", "occurred_at": WHEN}
    return EventRecord.from_cells(told | cells, LONDON)


def test_money_is_quantity_times_unit_price_unless_the_value_is_told() -> None:
    assert event(quantity="3", unit_price="0.1").value == 0.3
    assert event(unit_price="2.5").value == 2.5
    assert event(value="9", quantity=2, unit_price=2).value == 9
    assert event(quantity="3").value is None


def test_responses_are_read_from_words_and_numbers() -> None:
    assert event(kind="response", value="Interested").value == 1
    assert event(kind="response", value="not interested").value == 0
    assert event(kind="response", value=1).value == 1


@pytest.mark.parametrize(
    ("cells", "column", "code"),
    [
        ({"kind": "like"}, "kind", "unknown_kind"),
        ({"kind": "rating", "value": 6}, "value", "not_a_rating"),
        ({"kind": "rating"}, "value", "not_a_rating"),
        ({"kind": "response", "value": 0.5}, "value", "not_a_response"),
        ({"kind": "response", "response": "seen"}, "response", "unknown_response"),
        ({"kind": "response", "response": "clicked", "value": 0}, "value", "contradictory_response"),
        ({"kind": "response", "response": "shown", "value": 1}, "value", "contradictory_response"),
        ({"kind": "response", "response": "shown", "run_id": "17"}, "run_id", "not_a_run"),
        ({"kind": "response", "response": "shown", "run_id": 17}, "run_id", "not_a_run"),
        ({"kind": "response", "response": "shown", "rank": 0}, "rank", "not_a_rank"),
        ({"kind": "response", "response": "shown", "rank": "1.5"}, "rank", "not_a_rank"),
        ({"kind": "response", "response": "shown", "rank": 10_001}, "rank", "not_a_rank"),
        ({"kind": "response", "response": "shown", "rank": True}, "rank", "not_a_number"),
        ({"kind": "response"}, "value", "not_a_response"),
        ({"value": -5}, "value", "negative"),
        ({"value": "interested"}, "value", "not_a_number"),
        ({"quantity": "two"}, "quantity", "not_a_number"),
        ({"kind": "search"}, "text", "missing"),
        ({"product_id": None}, "text", "missing"),
        ({"text": "x" * 10_001}, "text", "too_long"),
        ({"occurred_at": "1/2/26"}, "occurred_at", "not_a_time"),
        ({"occurred_at": ""}, "occurred_at", "missing"),
    ],
)
def test_an_event_that_is_not_fit_is_refused_with_column_and_code(
    cells: dict[str, Cell], column: str, code: str
) -> None:
    told: dict[str, Cell] = {"customer_id": 1, "kind": "purchase", "product_id": "p", "occurred_at": WHEN}
    assert problem(EventRecord, told | cells) == (column, code)


def test_an_event_has_one_key_however_it_was_written() -> None:
    written_otherwise = event(customer_id="1", kind=" Purchase ", occurred_at="2026-01-31 18:30", value="")
    assert event().event_key() == written_otherwise.event_key()


def test_every_field_tells_events_apart() -> None:
    others = [
        event(customer_id=2),
        event(product_id="q"),
        event(kind="view"),
        event(quantity=2),
        event(unit_price=2),
        event(value=1),
        event(text="t"),
        event(occurred_at="2026-01-31T18:30:01Z"),
        event(order_id="o"),
        event(event_id="e"),
    ]
    assert len({other.event_key() for other in [event(), *others]}) == len(others) + 1


def test_an_event_id_alone_makes_the_key() -> None:
    assert event(event_id=5, value=1).event_key() == event(event_id="5", value=2).event_key()


def test_event_keys_never_change() -> None:
    assert str(event().event_key()) == "57b14f5a-eac3-5c8e-9492-5f3dcf174365"


RUN = "6f1c2f9e-0d0a-4c3e-9a53-0f6f6a1d2b11"


@pytest.mark.parametrize(
    ("response", "value"), [("shown", None), (" Clicked ", 1), ("BOUGHT", 1), ("refused", 0), ("refused", 0.0)]
)
def test_what_became_of_a_recommendation_says_what_the_customer_thinks_of_it(response: str, value: float) -> None:
    answer = event(kind="response", response=response, run_id=f" {RUN.upper()} ", rank="3")

    assert (answer.response, answer.value) == (response.strip().lower(), value)
    assert (str(answer.run_id), answer.rank) == (RUN, 3)
    assert event(kind="response", response="refused", value="not interested").value == 0


def test_run_and_rank_of_other_kinds_of_events_mean_nothing() -> None:
    purchase = event(kind="purchase", run_id="first", rank="best", response="thanks")

    assert (purchase.run_id, purchase.rank, purchase.response) == (None, None, None)
    assert purchase.event_key() == event(kind="purchase").event_key()


def test_events_of_before_have_the_key_that_they_had() -> None:
    told: dict[str, Cell] = {"customer_id": "7", "product_id": "8", "kind": "response", "value": 1, "occurred_at": WHEN}

    assert str(EventRecord.from_cells(told, UTC).event_key()) == "167f2b1f-bae0-5170-8c41-61fec7518c19"


def test_responses_that_differ_in_run_rank_or_kind_are_different_ones() -> None:
    told: dict[str, Cell] = {"kind": "response", "value": 1}
    keys = {
        event(**told).event_key(),
        event(**told, response="clicked").event_key(),
        event(**told, response="bought").event_key(),
        event(**told, response="clicked", run_id=RUN).event_key(),
        event(**told, response="clicked", run_id=RUN, rank=1).event_key(),
        event(**told, response="clicked", run_id=RUN, rank=2).event_key(),
    }

    assert len(keys) == 6
    assert event(kind="response", response="clicked", run_id=RUN.upper(), rank="2").event_key() in keys
