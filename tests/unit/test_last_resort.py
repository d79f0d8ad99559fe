"""The slate that is made without a model."""

import pytest

from pipeline.domain import ProductId, Provenance, Rank, Recommendation
from pipeline.retrying.last_resort import ORIGIN, retrieval_order
from tests.fixtures.shop import some_candidates


def recommendation(rank: int, score: float) -> Recommendation:
    return Recommendation(Rank(rank), ProductId(f"p{rank}"), f"Product {rank}", score)


def test_an_empty_slate_gets_the_candidates_in_the_order_in_which_they_were_found() -> None:
    made = list(retrieval_order(some_candidates(5).found, [], 3))
    assert [(row.rank, row.product_id, row.product_name) for row in made] == [
        (1, "p1", "Product 1"),
        (2, "p2", "Product 2"),
        (3, "p3", "Product 3"),
    ]
    assert [row.relevance_score for row in made] == [0.75, 0.5, 0.25]


def test_what_is_placed_stands_and_the_rest_follows_below_it() -> None:
    placed = [recommendation(2, 0.9), recommendation(1, 0.8)]
    made = list(retrieval_order(some_candidates(5).found, placed, 5))
    assert [(row.rank, row.product_id) for row in made] == [(3, "p3"), (4, "p4"), (5, "p5")]
    assert [row.relevance_score for row in made] == pytest.approx([0.6, 0.4, 0.2])


@pytest.mark.parametrize("score", [1.0, 0.5, 1e-9, 0.0])
def test_scores_fall_and_stay_between_the_last_one_and_0(score: float) -> None:
    scores = [row.relevance_score for row in retrieval_order(some_candidates(50).found, [recommendation(1, score)], 50)]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= made <= score for made in scores)
    assert score == 0 or len(set(scores)) == 49


def test_there_are_no_more_rows_than_candidates_nor_than_places() -> None:
    assert len(list(retrieval_order(some_candidates(2).found, [], 10))) == 2
    assert not list(retrieval_order(some_candidates(5).found, [recommendation(1, 0.5)], 1))


def test_its_rows_say_that_no_model_made_them() -> None:
    assert (ORIGIN.provenance, ORIGIN.model) == (Provenance.RETRIEVAL_ORDER, None)
