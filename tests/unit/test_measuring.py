"""What a library calls recall, precision, NDCG, MRR and hit is what we mean by them: checked by hand."""

from math import log2

import numpy as np
import pytest

from pipeline.domain import CustomerId, ProductId
from pipeline.evaluating.measuring import measured
from pipeline.evaluating.vocabulary import At, Measure

ANN, BEN = CustomerId("ann"), CustomerId("ben")


def figures(targets: str, ranked: str, *measures: At) -> list[float]:
    """One customer's figures; a product is a letter."""
    rows = measured(
        {ANN: frozenset(map(ProductId, targets))}, {ANN: [ProductId(product) for product in ranked]}, measures
    )
    return [float(value) for value in rows[0]]


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (Measure.RECALL, 2 / 3),
        (Measure.PRECISION, 2 / 5),
        (Measure.NDCG, (1 / log2(3) + 1 / log2(5)) / (1 / log2(2) + 1 / log2(3) + 1 / log2(4))),
        (Measure.MRR, 1 / 2),
        (Measure.HIT, 1.0),
    ],
)
def test_two_of_three_targets_at_places_two_and_four(measure: Measure, expected: float) -> None:
    assert figures("xyz", "pxqyr", At(measure, 5)) == [pytest.approx(expected)]


def test_what_stands_beyond_the_cut_does_not_count() -> None:
    at_one = [At(measure, 1) for measure in Measure]
    assert figures("xyz", "pxy", *at_one) == [0.0] * 5
    assert figures("xyz", "pqrstx", At(Measure.MRR, 5), At(Measure.MRR, 6)) == [0.0, pytest.approx(1 / 6)]


def test_a_list_shorter_than_the_cut_is_judged_by_the_cut() -> None:
    assert figures("xy", "x", At(Measure.PRECISION, 10), At(Measure.RECALL, 10)) == [0.1, 0.5]


def test_ndcg_is_one_where_the_cut_has_no_place_for_more() -> None:
    assert figures("abcdefg", "abcde", At(Measure.NDCG, 5)) == [pytest.approx(1.0)]


def test_who_has_no_targets_does_not_count_and_who_has_no_list_counts_as_missed() -> None:
    rows = measured(
        {ANN: frozenset(), BEN: frozenset({ProductId("x")})}, {ANN: [ProductId("x")]}, [At(Measure.RECALL, 10)]
    )
    assert np.isnan(rows[0, 0])
    assert rows[1, 0] == 0.0


def test_ids_that_numbers_and_spaces_could_confuse_stay_apart() -> None:
    targets = {ANN: frozenset(map(ProductId, ("1", "01", "a b", "é" * 200)))}
    ranked = {ANN: list(map(ProductId, ("1.0", "a  b", "01", "é" * 200)))}
    assert measured(targets, ranked, [At(Measure.RECALL, 10)])[0, 0] == 0.5
