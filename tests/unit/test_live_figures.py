"""Shares of customers who bought what they saw, and their bootstrap intervals, by cases counted by hand."""

import pytest

from pipeline.evaluating.live_figures import Alike, live_figures


def alike(customers: int, bought: int, ours: int, popular: int, variant: str | None = None) -> Alike:
    return Alike(variant, customers, bought, {5: ours, 10: ours}, {5: popular, 10: popular})


def test_the_shares_are_those_of_the_customers_as_they_are() -> None:
    figures = live_figures([alike(90, 0, 0, 0), alike(6, 2, 1, 0), alike(4, 3, 3, 1)], seed=1, control="control")

    hit = figures.hits[0]
    assert (hit.places, hit.customers.ours.mean, hit.customers.popularity.mean) == (5, 0.1, 0.04)
    assert hit.customers.difference.mean == pytest.approx(0.06)
    assert hit.products.ours.mean == 18 / 24
    assert hit.products.difference.mean == 14 / 24


def test_the_interval_of_a_share_is_as_wide_as_that_many_customers_make_it() -> None:
    share = live_figures([alike(900, 0, 0, 0), alike(100, 1, 1, 0)], seed=1, control="control").hits[0].customers.ours

    assert share.low is not None
    assert share.high is not None
    deviation = (0.1 * 0.9 / 1000) ** 0.5
    assert share.low == pytest.approx(0.1 - 1.96 * deviation, abs=0.003)
    assert share.high == pytest.approx(0.1 + 1.96 * deviation, abs=0.003)


def test_few_customers_are_drawn_as_rightly_as_many() -> None:
    """Those of a cell below 30 are drawn one by one: split up they have the same interval."""
    one = live_figures([alike(80, 0, 0, 0), alike(80, 1, 1, 0)], seed=1, control="control").hits[0].customers.ours
    cells = [alike(10, bought, int(bought < 8), 0) for bought in range(16)]
    many = live_figures(cells, seed=2, control="control").hits[0].customers.ours

    assert (many.mean, many.low, many.high) == pytest.approx((one.mean, one.low, one.high), abs=0.02)


def test_a_difference_that_one_customer_makes_is_not_sure_and_a_large_one_is() -> None:
    def difference(customers: int) -> bool:
        cells = [alike(200, 1, 0, 0), alike(customers, 1, 1, 0)]
        return live_figures(cells, seed=1, control="control").hits[0].customers.difference.is_sure

    assert not difference(1)
    assert difference(40)


def test_the_same_seed_gives_the_same_intervals() -> None:
    cells = [alike(50, 1, 0, 1), alike(20, 2, 1, 0)]

    assert live_figures(cells, seed=3, control="c") == live_figures(cells, seed=3, control="c")
    assert live_figures(cells, seed=3, control="c") != live_figures(cells, seed=4, control="c")


def test_one_variant_alone_is_held_against_nothing() -> None:
    cells = [alike(5, 1, 1, 0, "control"), alike(5, 1, 0, 0, None)]

    assert live_figures(cells, seed=1, control="control").variants == ()


def test_a_variant_without_a_control_beside_it_has_a_share_and_no_difference() -> None:
    cells = [alike(5, 1, 1, 0, "brief"), alike(5, 1, 0, 0, "warm")]

    told = live_figures(cells, seed=1, control="control").variants
    assert [(of.variant, of.share.mean) for of in told[:2]] == [("brief", 1.0), ("warm", 0.0)]
    assert all(of.less_control is not None and of.less_control.mean is None for of in told)
