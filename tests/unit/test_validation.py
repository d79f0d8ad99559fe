"""The judge on strings: what becomes a recommendation, what is refused and why."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.domain import Product, ProductId, Rank, Recommendation, Rejection, RejectionReason
from pipeline.errors import AnswerShortError
from pipeline.validation import MAX_RAW_CHARACTERS, Judge, remaining

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine too

CANDIDATES = [Product(ProductId(f"p{number}"), f"Product {number}") for number in range(1, 6)]
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
ITEM = st.dictionaries(st.sampled_from(["i", "s", "product_id", "product_name", "relevance_score"]), JSON_VALUE)


def judge_one(raw: str) -> Recommendation | Rejection:
    return Judge(CANDIDATES, asked=3).judge(raw)


def reason_of(raw: str) -> RejectionReason:
    outcome = judge_one(raw)
    assert isinstance(outcome, Rejection)
    assert outcome.raw == raw
    assert outcome.detail
    return outcome.reason


def score_of(raw: str) -> float:
    outcome = judge_one(raw)
    assert isinstance(outcome, Recommendation)
    return outcome.relevance_score


def test_the_compact_form_names_a_candidate_by_its_number() -> None:
    assert judge_one('{"i":3,"s":92}') == Recommendation(Rank(1), ProductId("p3"), "Product 3", 0.92)


def test_the_full_form_names_a_candidate_by_its_id_and_the_catalog_gives_the_name() -> None:
    raw = '{"product_id":"p2","product_name":"invented","relevance_score":0.5}'
    assert judge_one(raw) == Recommendation(Rank(1), ProductId("p2"), "Product 2", 0.5)


def test_an_id_may_come_as_a_number() -> None:
    judge = Judge([Product(ProductId("7"), "Seven")], asked=1)
    assert judge.judge('{"product_id":7,"relevance_score":1}') == Recommendation(Rank(1), ProductId("7"), "Seven", 1.0)


@pytest.mark.parametrize(
    ("raw", "score"),
    [
        ('{"i":1,"s":0}', 0.0),
        ('{"i":1,"s":100}', 1.0),
        ('{"i":1,"s":1}', 0.01),
        ('{"i":1,"s":"92"}', 0.92),
        ('{"i":"1","s":92.5}', 0.925),
        ('{"product_id":"p1","relevance_score":0.96}', 0.96),
        ('{"product_id":"p1","relevance_score":1}', 1.0),
        ('{"product_id":"p1","relevance_score":92}', 0.92),
        ('{"product_id":"p1","score":0.4}', 0.4),
        ('{"product_id":" p1 ","score":0.4}', 0.4),
    ],
)
def test_a_score_is_brought_to_0_to_1(raw: str, score: float) -> None:
    assert math.isclose(score_of(raw), score)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("{", RejectionReason.NOT_JSON),
        ("", RejectionReason.NOT_JSON),
        ('{"i":1,"s":[9}', RejectionReason.NOT_JSON),
        ("[1]", RejectionReason.NOT_AN_ITEM),
        ("{}", RejectionReason.NOT_AN_ITEM),
        ('{"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":null,"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":true,"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":1.5,"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":1,"s":"good"}', RejectionReason.NOT_AN_ITEM),
        ('{"i":1,"s":true}', RejectionReason.NOT_AN_ITEM),
        ('{"product_id":["p1"],"relevance_score":0.5}', RejectionReason.NOT_AN_ITEM),
        ('{"product_id":true,"relevance_score":0.5}', RejectionReason.NOT_AN_ITEM),
        ('{"i":0,"s":92}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"i":-1,"s":92}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"i":6,"s":92}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"product_id":"p9","relevance_score":0.5}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"i":1}', RejectionReason.MISSING_SCORE),
        ('{"i":1,"s":null}', RejectionReason.MISSING_SCORE),
        ('{"product_id":"p1"}', RejectionReason.MISSING_SCORE),
        ('{"i":1,"s":-1}', RejectionReason.SCORE_OUT_OF_RANGE),
        ('{"i":1,"s":100.5}', RejectionReason.SCORE_OUT_OF_RANGE),
        ('{"i":1,"s":NaN}', RejectionReason.SCORE_OUT_OF_RANGE),
        ('{"i":1,"s":Infinity}', RejectionReason.SCORE_OUT_OF_RANGE),
        ('{"i":1,"s":1e999}', RejectionReason.SCORE_OUT_OF_RANGE),
        ('{"product_id":"p1","relevance_score":NaN}', RejectionReason.SCORE_OUT_OF_RANGE),
        ('{"product_id":"p1","relevance_score":-0.1}', RejectionReason.SCORE_OUT_OF_RANGE),
        ('{"product_id":"p1","relevance_score":100.1}', RejectionReason.SCORE_OUT_OF_RANGE),
    ],
)
def test_a_bad_object_is_refused_with_its_reason(raw: str, reason: RejectionReason) -> None:
    assert reason_of(raw) is reason


def test_a_product_is_placed_once() -> None:
    judge = Judge(CANDIDATES, asked=3)
    judge.judge('{"i":1,"s":90}')
    again = judge.judge('{"product_id":"p1","relevance_score":0.5}')
    assert isinstance(again, Rejection)
    assert again.reason is RejectionReason.REPEATED_PRODUCT


def test_a_refused_object_takes_neither_rank_nor_product() -> None:
    judge = Judge(CANDIDATES, asked=3)
    judge.judge('{"i":1}')
    after = judge.judge('{"i":1,"s":90}')
    assert isinstance(after, Recommendation)
    assert after.rank == 1


def test_ranks_count_on_from_the_first_one_and_stop_when_enough_is_here() -> None:
    judge = Judge(CANDIDATES, asked=2, first_rank=4)
    ranks = []
    for number in (1, 2):
        assert not judge.enough()
        placed = judge.judge(f'{{"i":{number},"s":90}}')
        assert isinstance(placed, Recommendation)
        ranks.append(placed.rank)
    assert ranks == [4, 5]
    assert judge.enough()
    beyond = judge.judge('{"i":3,"s":90}')
    assert isinstance(beyond, Rejection)
    assert beyond.reason is RejectionReason.BEYOND_ASKED
    judge.require_enough()


def test_too_few_are_counted() -> None:
    judge = Judge(CANDIDATES, asked=3, first_rank=4)
    judge.judge('{"i":1,"s":90}')
    with pytest.raises(AnswerShortError, match="1 of the 3"):
        judge.require_enough()


def test_the_raw_text_of_a_rejection_is_bounded() -> None:
    rejection = judge_one('{"x":"' + "y" * 10_000 + '"}')
    assert isinstance(rejection, Rejection)
    assert len(rejection.raw) == MAX_RAW_CHARACTERS


def test_what_is_placed_already_is_no_candidate_any_more() -> None:
    left = remaining(CANDIDATES, {ProductId("p2"), ProductId("p4")})
    assert [product.product_id for product in left] == ["p1", "p3", "p5"]


@UNHURRIED
@given(st.lists(ITEM.map(json.dumps) | st.text(max_size=20), max_size=12))
def test_whatever_comes_ranks_have_no_gap_and_products_no_double(raws: list[str]) -> None:
    judge = Judge(CANDIDATES, asked=3)
    outcomes = [judge.judge(raw) for raw in raws]
    placed = [outcome for outcome in outcomes if isinstance(outcome, Recommendation)]
    assert len(outcomes) == len(raws)
    assert [recommendation.rank for recommendation in placed] == list(range(1, len(placed) + 1))
    assert len({recommendation.product_id for recommendation in placed}) == len(placed) <= 3
    assert all(0 <= recommendation.relevance_score <= 1 for recommendation in placed)


@UNHURRIED
@given(st.permutations(range(1, 6)), st.lists(st.floats(0, 100), min_size=5, max_size=5))
def test_a_good_answer_is_taken_whole_in_its_own_order(numbers: list[int], scores: list[float]) -> None:
    judge = Judge(CANDIDATES, asked=5)
    outcomes = [judge.judge(json.dumps({"i": i, "s": s})) for i, s in zip(numbers, scores, strict=True)]
    assert [outcome.product_id for outcome in outcomes if isinstance(outcome, Recommendation)] == [
        f"p{number}" for number in numbers
    ]
