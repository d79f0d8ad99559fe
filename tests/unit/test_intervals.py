"""Intervals of shares and differences, against the worked examples of the papers that they come from."""

from datetime import UTC, datetime, timedelta
from math import comb

import pytest

from pipeline.comparing.hits import HitTally
from pipeline.comparing.intervals import Interval, independent_difference, paired_difference, wilson

SINCE = datetime(2024, 1, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=30)


def about(low: float, high: float) -> object:
    return pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("hits", "number", "interval"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_the_interval_of_a_share_is_wilsons(hits: int, number: int, interval: Interval) -> None:
    assert wilson(hits, number) == about(*interval)
    assert wilson(number - hits, number) == about(1 - interval[1], 1 - interval[0])


def test_the_share_of_nobody_may_be_anything() -> None:
    assert wilson(0, 0) == (0, 1)
    assert independent_difference((0, 0), (1, 2)) == paired_difference(0, 0, 0, 0) == (-1, 1)


@pytest.mark.parametrize(
    ("first", "second", "interval"),
    [
        ((48, 80), (56, 70), (0.0524, 0.3339)),
        ((3, 10), (9, 10), (0.1705, 0.8090)),
        ((2, 7), (6, 7), (0.0582, 0.8062)),
        ((0, 29), (5, 56), (-0.0381, 0.1926)),
        ((0, 20), (0, 10), (-0.1611, 0.2775)),
        ((0, 10), (10, 10), (0.6075, 1.0)),
    ],
)
def test_the_difference_of_two_groups_is_newcombes(
    first: tuple[int, int], second: tuple[int, int], interval: Interval
) -> None:
    assert independent_difference(first, second) == about(*interval)
    assert independent_difference(second, first) == about(-interval[1], -interval[0])


@pytest.mark.parametrize(
    ("table", "interval"),
    [
        ((36, 2, 12, 0), (0.0569, 0.3404)),  # its phi is negative
        ((59, 6, 16, 80), (0.0046, 0.1186)),  # its phi is positive
        ((1, 1, 7, 12), (0.0256, 0.5069)),  # its phi is brought to 0
    ],
)
def test_the_difference_of_pairs_is_newcombes(table: tuple[int, int, int, int], interval: Interval) -> None:
    assert paired_difference(*table) == about(*interval)
    both, first_only, second_only, neither = table
    assert paired_difference(both, second_only, first_only, neither) == about(-interval[1], -interval[0])


def test_pairs_that_agree_tell_more_than_two_groups_of_the_same_shares() -> None:
    low, high = paired_difference(100, 10, 20, 870)
    independent_low, independent_high = independent_difference((110, 1000), (120, 1000))
    assert independent_low < low < 0.01 < high < independent_high


def test_the_interval_of_a_share_holds_it_about_as_often_as_it_says() -> None:
    number, share = 40, 0.1
    held = sum(
        comb(number, hits) * share**hits * (1 - share) ** (number - hits)
        for hits in range(number + 1)
        if wilson(hits, number)[0] <= share <= wilson(hits, number)[1]
    )
    assert 0.92 < held < 0.98


def test_hits_of_customers_with_two_slates_are_paired_and_the_others_left_out() -> None:
    tally = HitTally()
    tally.add(["a", "b"], ["b", "c"], ["b", "x"])  # both
    tally.add(["a", "b"], ["b", "c"], ["a"])  # the first alone
    tally.add(["a", "b"], ["b", "c"], ["c"])  # the second alone
    tally.add(["a", "b"], ["b", "c"], ["c"])
    tally.add(["a", "b"], ["b", "c"], ["x"])  # neither, though he bought
    tally.add(["a", "b"], ["b", "c"], [])
    tally.add(["a"], None, ["a"])
    hits = tally.whole(SINCE, UNTIL, 2)
    assert hits is not None
    assert (hits.paired, hits.buyers, hits.first_only, hits.second_only) == (True, 5, 1, 2)
    assert (hits.first.hits, hits.first.customers, hits.second.hits, hits.second.customers) == (2, 6, 3, 6)
    assert hits.difference == pytest.approx(1 / 6)
    assert hits.interval == paired_difference(1, 1, 2, 2)
    assert (hits.first.interval, hits.depth) == (wilson(2, 6), 2)


def test_hits_of_sides_without_a_common_customer_are_of_two_groups() -> None:
    tally = HitTally()
    for first, second, bought in ((["a"], None, ["a"]), (["a"], None, []), (None, ["b"], ["b"]), (None, ["b"], ["b"])):
        tally.add(first, second, bought)
    hits = tally.whole(SINCE, UNTIL, 1)
    assert hits is not None
    assert (hits.paired, hits.buyers, hits.first.share, hits.second.share, hits.difference) == (False, 3, 0.5, 1, 0.5)
    assert hits.interval == independent_difference((1, 2), (2, 2))


def test_a_side_without_a_slate_has_no_hits_to_compare() -> None:
    tally = HitTally()
    tally.add(["a"], None, ["a"])
    assert tally.whole(SINCE, UNTIL, 1) is None
