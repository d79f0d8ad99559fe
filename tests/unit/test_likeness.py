"""How alike two rankings are, against the slow and plain forms of the same definitions."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.comparing.likeness import jaccard, kendall_tau, overlap, rank_biased_overlap
from pipeline.comparing.tallies import LikenessTally

RANKINGS = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=10, unique=True)


def tau_by_pairs(first: Sequence[str], second: Sequence[str]) -> float | None:
    common = sorted(set(first) & set(second))
    signs = [
        1 if (first.index(a) < first.index(b)) == (second.index(a) < second.index(b)) else -1
        for a, b in combinations(common, 2)
    ]
    return sum(signs) / len(signs) if signs else None


def rbo_by_depths(first: Sequence[str], second: Sequence[str], p: float, depths: int = 2_000) -> float:
    """The infinite sum itself: beyond the ends the agreement goes on as it was, which is what extrapolation means."""
    short, long = sorted((first, second), key=len)
    in_short = len(set(short) & set(long[: len(short)]))
    total, agreement = 0.0, 0.0
    for depth in range(1, depths + 1):
        if depth <= len(long):
            shared: float = len(set(short[:depth]) & set(long[:depth]))
            shared += in_short / len(short) * max(depth - len(short), 0)  # as many more of the short one's next
            agreement = shared / depth
        total += (1 - p) * p ** (depth - 1) * agreement
    return total


def test_the_same_ranking_is_wholly_alike() -> None:
    assert overlap("abc", "abc") == jaccard("abc", "abc") == kendall_tau("abc", "abc") == 1
    assert rank_biased_overlap("abc", "abc") == pytest.approx(1)


def test_rankings_without_a_product_in_common_are_not_alike_and_have_no_order() -> None:
    assert overlap("abc", "xyz") == jaccard("abc", "xyz") == rank_biased_overlap("abc", "xyz") == 0
    assert kendall_tau("abc", "xyz") is None
    assert kendall_tau("abc", "cxy") is None


def test_the_share_of_common_products_is_of_the_longer_ranking() -> None:
    assert overlap("abcd", "cdxy") == 0.5
    assert overlap("ab", "abcd") == overlap("abcd", "ab") == 0.5
    assert jaccard("abcd", "cdxy") == 2 / 6


def test_the_opposite_order_is_minus_one() -> None:
    assert kendall_tau("abcd", "dcba") == -1
    assert kendall_tau("abcd", "bxay") == -1


def test_a_product_at_the_top_weighs_more_than_one_further_down() -> None:
    assert rank_biased_overlap("abcde", "axyzw") > rank_biased_overlap("abcde", "xyzwe")


def test_rank_biased_overlap_has_the_values_that_follow_from_its_definition() -> None:
    assert rank_biased_overlap("a", "b") == 0
    assert rank_biased_overlap("ab", "ba", 0.5) == pytest.approx(0.5)  # (1 - p)/p · (0·p + 2/2·p²) + 2/2·p²
    assert rank_biased_overlap("abc", "abd", 0.5) == pytest.approx(0.5 + 0.25 + 2 / 3 * 0.25)


@settings(deadline=None)
@given(RANKINGS, RANKINGS, st.sampled_from([0.5, 0.9, 0.98]))
def test_each_measure_agrees_with_its_plain_form(first: list[str], second: list[str], p: float) -> None:
    assert kendall_tau(first, second) == pytest.approx(tau_by_pairs(first, second))
    assert rank_biased_overlap(first, second, p) == pytest.approx(rbo_by_depths(first, second, p))


@settings(deadline=None)
@given(RANKINGS, RANKINGS)
def test_no_measure_depends_on_which_comes_first(first: list[str], second: list[str]) -> None:
    for measure in (overlap, jaccard, kendall_tau, rank_biased_overlap):
        assert measure(first, second) == pytest.approx(measure(second, first))


@settings(deadline=None)
@given(st.lists(st.tuples(RANKINGS, RANKINGS), max_size=8))
def test_a_tally_is_the_mean_over_customers(pairs: list[tuple[list[str], list[str]]]) -> None:
    tally = LikenessTally(10)
    for first, second in [*pairs, (["a", "b"], ["a", "b"])]:
        tally.add(first, second, same_slate=False)
    whole = tally.whole()
    everybody = [*pairs, (["a", "b"], ["a", "b"])]
    taus = [tau for first, second in everybody if (tau := kendall_tau(first, second)) is not None]
    assert whole.customers == len(everybody)
    assert whole.identical == sum(first == second for first, second in everybody)
    assert whole.overlap == pytest.approx(sum(overlap(*pair) for pair in everybody) / len(everybody))
    assert whole.jaccard == pytest.approx(sum(jaccard(*pair) for pair in everybody) / len(everybody))
    assert whole.rank_biased_overlap == pytest.approx(
        sum(rank_biased_overlap(*pair) for pair in everybody) / len(everybody)
    )
    assert whole.ordered == len(taus)
    assert whole.kendall_tau == pytest.approx(sum(taus) / len(taus))


def test_a_tally_of_nobody_says_nothing() -> None:
    whole = LikenessTally(10).whole()
    assert (whole.customers, whole.overlap, whole.kendall_tau, whole.rank_biased_overlap) == (0, None, None, None)
