"""Means over customers and how sure they are: known cases, pairing, and what does not count."""

import numpy as np
import pytest

from pipeline.evaluating.resampling import Estimate, Resampling

NAN = float("nan")


def of(*columns: list[float], seed: int = 1, resamples: int = 1_000) -> Resampling:
    resampling = Resampling(len(columns), seed=seed, resamples=resamples)
    resampling.add(np.array(columns).T)
    return resampling


def test_the_interval_of_a_share_is_that_of_the_normal_distribution() -> None:
    hits = [1.0] * 300 + [0.0] * 700

    estimate = of(hits).estimate(0)

    assert (estimate.customers, estimate.mean) == (1_000, 0.3)
    half = 1.96 * (0.3 * 0.7 / 1_000) ** 0.5
    assert estimate.low == pytest.approx(0.3 - half, abs=0.004)
    assert estimate.high == pytest.approx(0.3 + half, abs=0.004)


def test_a_difference_is_of_each_customer_with_himself() -> None:
    draws = np.random.default_rng(7)
    first = draws.random(500).tolist()
    second = [value + 0.01 for value in first]

    difference = of(first, second).difference(1, 0)

    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.01, 0.01, 0.01))


def test_a_customer_who_does_not_count_changes_neither_mean_nor_interval() -> None:
    counted = [0.1, 0.5, 0.9, 0.4]

    among_others = of([NAN, *counted[:2], NAN, *counted[2:]], [NAN] * 6)

    assert among_others.estimate(0) == of(counted, [NAN] * 4).estimate(0)
    assert among_others.estimate(1) == Estimate(0, None, None, None)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = [0.1, 0.5, 0.9, 0.4, 0.3]
    assert of(values, seed=3).estimate(0) == of(values, seed=3).estimate(0)
    assert of(values, seed=3).estimate(0) != of(values, seed=4).estimate(0)


def test_pages_are_as_good_as_one() -> None:
    values = np.random.default_rng(5).random((90, 2))
    paged = Resampling(2, seed=1)
    for start in range(0, 90, 10):
        paged.add(values[start : start + 10])
    assert paged.estimate(0).mean == pytest.approx(values[:, 0].mean())
    low, high = paged.difference(1, 0).low, paged.difference(1, 0).high
    assert low is not None
    assert high is not None
    spread = 1.96 * float(np.std(values[:, 1] - values[:, 0])) / 90**0.5
    assert high - low == pytest.approx(2 * spread, rel=0.15)


def test_two_groups_differ_by_their_means_and_the_interval_is_as_wide_as_both_make_it() -> None:
    draws = np.random.default_rng(3)
    one, other = draws.random(400).tolist(), (draws.random(100) + 0.2).tolist()

    difference = of([*one, *[NAN] * 100], [*[NAN] * 400, *other]).difference_of_groups(1, 0)

    mean = float(np.mean(other) - np.mean(one))
    half = 1.96 * (float(np.var(one)) / 400 + float(np.var(other)) / 100) ** 0.5
    assert difference.customers == 100
    assert difference.mean == pytest.approx(mean)
    assert difference.low == pytest.approx(mean - half, abs=0.15 * half)
    assert difference.high == pytest.approx(mean + half, abs=0.15 * half)


def test_a_group_without_anybody_has_no_difference() -> None:
    assert of([0.1, 0.2], [NAN, NAN]).difference_of_groups(0, 1) == Estimate(0, None, None, None)


def test_columns_of_other_customers_have_no_difference() -> None:
    with pytest.raises(ValueError, match="not of the same customers"):
        of([0.1, NAN, 0.2], [0.1, 0.3, NAN]).difference(1, 0)
