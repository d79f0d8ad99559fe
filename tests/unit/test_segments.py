"""The nine segments of a profile: what is told, what is left out, and how long it may be."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.segments import (
    MAX_ITEM_CHARACTERS,
    MAX_ITEMS,
    MAX_SEGMENT_CHARACTERS,
    History,
    ShopHabits,
    segments_of,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine too

NOW = datetime(2024, 3, 12, 12, tzinfo=UTC)
SATURDAY_EVENING = datetime(2024, 3, 9, 20, 30, tzinfo=UTC)


def told(history: History, habits: ShopHabits = ShopHabits()) -> dict[str, str]:  # noqa: B008 - it is frozen
    return dict(segments_of(history, NOW, habits))


def bought(*labels: str, brand: str | None = None, when: datetime = SATURDAY_EVENING) -> History:
    return History(purchases=tuple((label, brand, when) for label in labels))


def test_a_customer_of_whom_nothing_is_known_has_no_segments() -> None:
    assert told(History()) == {}


def test_all_nine_segments_stand_in_the_order_of_the_prompt() -> None:
    history = History(
        attributes={"loyalty_status": "Gold Member", "preferred_brands": ["Apple", "AllBirds"]},
        purchases=tuple((label, None, SATURDAY_EVENING) for label in ("Laptop", "Headphones", "Smart Watch")),
        categories=("Electronics", "Books"),
        ratings=(("Laptop", 5), ("Headphones", 4.5)),
        searches=("yoga mats",),
        responses=(("Product123", 1, None), ("Product456", 0, None)),
        spent=6_000,
        spending_since=NOW - timedelta(days=365),
    )
    assert list(told(history).items()) == [
        ("Recent purchases", "Laptop, Headphones, Smart Watch"),
        ("Frequently browsed categories", "Electronics, Books"),
        ("Product ratings", "Laptop: 5 stars, Headphones: 4.5 stars"),
        ("Recent searches", "yoga mats"),
        ("Preferred brands", "Apple, AllBirds"),
        ("Responses to earlier recommendations", "Product123: interested, Product456: not interested"),
        ("Loyalty status", "Gold Member"),
        ("Average monthly spend", "$500"),
        ("Preferred shopping times", "Weekend evenings"),
    ]


def test_the_same_thing_is_told_once() -> None:
    assert told(bought("Laptop", "Lamp", "Laptop"))["Recent purchases"] == "Laptop, Lamp"


def test_of_two_opinions_the_newest_counts() -> None:
    history = History(ratings=(("Laptop", 2), ("Laptop", 5)), responses=(("Lamp", 0, None), ("Lamp", 1, "clicked")))
    assert told(history)["Product ratings"] == "Laptop: 2 stars"
    assert told(history)["Responses to earlier recommendations"] == "Lamp: not interested"


def test_what_became_of_a_recommendation_is_told_in_a_word() -> None:
    history = History(
        responses=(
            ("Lamp", 1, "bought"),
            ("Desk", 0, "refused"),
            ("Chair", 1, "clicked"),
            ("Desk", 1, "clicked"),
            ("Rug", 1, None),
        )
    )
    words = "Lamp: bought, Desk: not interested, Chair: clicked, Rug: interested"
    assert told(history) == {"Responses to earlier recommendations": words}


def test_stated_brands_come_before_those_bought_twice_and_one_purchase_is_no_preference() -> None:
    history = History(
        attributes={"preferred_brands": "Apple"},
        purchases=tuple(("thing", brand, SATURDAY_EVENING) for brand in ("Sony", "Bose", "Sony", "Apple", "Apple")),
    )
    assert told(history)["Preferred brands"] == "Apple, Sony"


def test_the_monthly_spend_is_that_of_the_events_over_the_months_they_cover() -> None:
    def spend(spent: float, days: int) -> str:
        return told(History(spent=spent, spending_since=NOW - timedelta(days=days)))["Average monthly spend"]

    assert spend(300, 1) == "$300"
    assert spend(600, 61) == "$299"
    assert spend(1_200, 365) == "$100"
    assert spend(1_200, 3_650) == "$100"
    assert spend(-50, 100) == "$0"


@pytest.mark.parametrize(
    ("stated", "expected"), [(500, "€500"), (1234.6, "€1,235"), ("500", None), (True, None), (None, None), ([], None)]
)
def test_a_stated_spend_fills_in_where_no_event_tells(stated: object, expected: str | None) -> None:
    history = History(attributes={"average_monthly_spend": stated})
    assert told(history, ShopHabits(currency="€")).get("Average monthly spend") == expected


@pytest.mark.parametrize(
    ("zone", "habit"),
    [
        (None, "Weekend evenings"),
        ("America/New_York", "Weekend afternoons"),
        ("Asia/Tokyo", "Weekend nights"),
        ("Pacific/Auckland", "Weekend mornings"),
        ("no/such/zone", "Weekend evenings"),
        ("../../etc/passwd", "Weekend evenings"),
        ("Europe", "Weekend evenings"),
        ("", "Weekend evenings"),
        ("a\x00b", "Weekend evenings"),
    ],
)
def test_shopping_times_are_those_of_the_customer_s_clock(zone: str | None, habit: str) -> None:
    history = History(time_zone=zone, purchases=bought("a", "b", "c").purchases)
    assert told(history)["Preferred shopping times"] == habit


def test_two_purchases_are_no_habit_but_a_stated_one_counts() -> None:
    assert "Preferred shopping times" not in told(bought("a", "b"))
    stated = History(attributes={"preferred_shopping_times": "Weekend evenings"}, purchases=bought("a", "b").purchases)
    assert told(stated)["Preferred shopping times"] == "Weekend evenings"


def test_purchases_at_all_times_are_no_habit() -> None:
    scattered = tuple(("thing", None, SATURDAY_EVENING + timedelta(hours=7 * step)) for step in range(12))
    assert "Preferred shopping times" not in told(History(purchases=scattered))


@pytest.mark.parametrize("value", [5, True, None, {"a": 1}, [1, None], ""])
def test_attributes_of_another_type_are_left_out(value: object) -> None:
    names = ("loyalty_status", "preferred_brands", "preferred_shopping_times")
    assert told(History(attributes=dict.fromkeys(names, value))) == {}


def test_control_characters_and_line_ends_become_blanks() -> None:
    history = History(searches=('yoga\nmats\x00"', "\u2028"), attributes={"loyalty_status": "Gold\r\nMember: $1"})
    assert told(history) == {"Recent searches": 'yoga mats "', "Loyalty status": "Gold Member: $1"}


TEXT = st.text(max_size=300)
TEXTS = st.lists(TEXT, max_size=30).map(tuple)
OPINIONS = st.lists(st.tuples(TEXT, st.floats(0, 5)), max_size=30).map(tuple)
ANSWERS = st.lists(
    st.tuples(TEXT, st.sampled_from([0.0, 1.0]), st.sampled_from([None, "clicked", "bought", "refused"])), max_size=30
).map(tuple)
HISTORY = st.builds(
    History,
    attributes=st.dictionaries(st.sampled_from(["loyalty_status", "preferred_brands"]), TEXT | TEXTS.map(list)),
    purchases=st.lists(st.tuples(TEXT, st.none() | TEXT, st.just(SATURDAY_EVENING)), max_size=30).map(tuple),
    categories=TEXTS,
    ratings=OPINIONS,
    searches=TEXTS,
    responses=ANSWERS,
)


@UNHURRIED
@given(HISTORY)
def test_every_segment_is_bounded_and_on_one_line(history: History) -> None:
    for title, text in segments_of(history, NOW, ShopHabits()):
        assert text, title
        assert len(text) <= MAX_SEGMENT_CHARACTERS
        assert text.isprintable()
        assert len(text.splitlines()) == 1


@UNHURRIED
@given(st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=5), max_size=40))
def test_the_newest_things_are_told_and_not_more_than_the_bound(searches: list[str]) -> None:
    newest = list(dict.fromkeys(searches))[:MAX_ITEMS]
    assert told(History(searches=tuple(searches))).get("Recent searches", "") == ", ".join(newest)


def test_a_long_thing_is_shortened() -> None:
    assert len(told(History(searches=("x" * 1_000,)))["Recent searches"]) == MAX_ITEM_CHARACTERS
