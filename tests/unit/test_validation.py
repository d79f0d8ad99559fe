"""The judge on strings: what becomes a recommendation, what is refused and why."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from pipeline.domain import Outcome, Product, ProductId, Rank, Recommendation, Rejection, RejectionReason
from pipeline.scanning import MAX_ITEM_CHARACTERS
from pipeline.validation import MAX_RAW_CHARACTERS, Judge, remaining

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine too

CANDIDATES = [Product(ProductId(f"p{number}"), f"Product {number}") for number in range(1, 6)]
FIELDS = ["i", "s", "id", "product_id", "product_name", "relevance_score", "score", "recommendation", "why"]
TEXT = st.text(st.characters(exclude_categories=[]), max_size=5)  # with U+0000 and halves of pairs
SCALAR: st.SearchStrategy[JsonValue] = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["p1", "p2", "3", 2, 0.9, 90])
)
JSON_VALUE: st.SearchStrategy[JsonValue] = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT | st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(st.sampled_from(FIELDS) | TEXT, JSON_VALUE)


def judge_all(*raws: str, candidates: list[Product] = CANDIDATES, asked: int = 5) -> list[Outcome]:
    judge = Judge(candidates, asked=asked)
    return [judge.judge(raw) for raw in raws]


def judge_one(raw: str) -> Outcome:
    return judge_all(raw)[0]


def reason_of(outcome: Outcome) -> RejectionReason:
    assert isinstance(outcome, Rejection)
    assert outcome.detail
    assert "\n" not in outcome.detail
    return outcome.reason


def product_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Recommendation), outcome
    return outcome.product_id


def scores_of(*raws: str) -> list[float]:
    outcomes = judge_all(*raws)
    scores = [round(outcome.relevance_score, 12) for outcome in outcomes if isinstance(outcome, Recommendation)]
    assert len(scores) == len(raws), outcomes
    return scores


# Which product it is


def test_the_compact_form_names_a_candidate_by_its_number() -> None:
    assert judge_one('{"i":3,"s":92}') == Recommendation(Rank(1), ProductId("p3"), "Product 3", 0.92)


def test_the_full_form_names_a_candidate_by_its_id_and_the_catalog_gives_the_name() -> None:
    raw = '{"product_id":"p2","product_name":"invented","relevance_score":0.5}'
    assert judge_one(raw) == Recommendation(Rank(1), ProductId("p2"), "Product 2", 0.5)


@pytest.mark.parametrize("number", ["3", "3.0", '"3"', '" 3 "', '"+3"', "3e0"])
def test_a_candidates_number_is_a_whole_number_however_it_is_written(number: str) -> None:
    assert product_of(judge_one(f'{{"i":{number},"s":92}}')) == "p3"


@pytest.mark.parametrize(
    ("field", "product_id"),
    [
        ('"product_id":"7"', "7"),
        ('"product_id":7', "7"),
        ('"product_id":" 7\\n"', "7"),
        ('"id":7', "7"),
        ('"id":"kettle"', "kettle"),
        ('"product_id":null,"id":7', "7"),
        ('"product_id":7,"id":["another"]', "7"),
        ('"product_id":" blank "', " blank "),
        ('"product_id":"\\u00e9t\\u00e9"', "été"),
        ('"i":2,"product_id":"kettle"', "kettle"),
        ('"i":1,"id":7', "7"),
        ('"i":null,"id":7', "7"),
        ('"product_id":null,"i":1', "7"),
    ],
)
def test_an_id_is_text_or_a_whole_number_and_may_agree_with_a_number(field: str, product_id: str) -> None:
    catalog = [Product(ProductId(name), name) for name in ("7", "kettle", " blank ", "été")]
    (outcome,) = judge_all(f'{{{field},"score":92}}', candidates=catalog)
    assert product_of(outcome) == product_id


@pytest.mark.parametrize(
    "raw",
    [
        '{"recommendation":{"i":3,"s":92}}',
        '{"rank":1,"recommendation":{"product_id":"p3","score":92},"why":["cheap"]}',
        '{"i":null,"product":{"id":"p3","score":92}}',
    ],
)
def test_a_single_object_inside_an_object_without_an_id_is_the_item(raw: str) -> None:
    assert judge_one(raw) == Recommendation(Rank(1), ProductId("p3"), "Product 3", 0.92)


@pytest.mark.parametrize(
    "raw",
    [
        '{"a":{"i":3,"s":92},"b":{"i":4,"s":90}}',
        '{"a":{"b":{"i":3,"s":92}}}',
        '{"a":[{"i":3,"s":92}]}',
        '{"i":true,"a":{"i":3,"s":92}}',
        '{"product_id":{"i":3,"s":92}}',
    ],
)
def test_nothing_is_looked_for_deeper_or_in_several_places(raw: str) -> None:
    assert reason_of(judge_one(raw)) is RejectionReason.NOT_AN_ITEM


@pytest.mark.parametrize(
    "raw",
    [
        '{"i":1,"s":92,"product_id":"p2"}',
        '{"i":1,"s":92,"id":"p2"}',
        '{"i":1,"s":92,"product_id":"unheard of"}',
        '{"i":99,"s":92,"product_id":"p2"}',
        '{"i":1,"s":92,"product_name":"Product 2"}',
        '{"product_id":"p1","product_name":" PRODUCT\\t 2 ","relevance_score":0.9}',
        '{"i":1,"product_id":"p1","product_name":"product 2","relevance_score":0.9}',
    ],
)
def test_number_id_and_name_that_mean_different_products_contradict_each_other(raw: str) -> None:
    assert reason_of(judge_one(raw)) is RejectionReason.CONTRADICTORY


@pytest.mark.parametrize("name", ['"Product 1"', '" product  1"', '"Product 22"', '"Prod"', '""', "7", "null", '["x"]'])
def test_any_name_but_another_candidates_is_ignored(name: str) -> None:
    raw = f'{{"product_id":"p1","product_name":{name},"relevance_score":0.9}}'
    assert judge_one(raw) == Recommendation(Rank(1), ProductId("p1"), "Product 1", 0.9)


def test_candidates_of_one_name_do_not_contradict_each_other() -> None:
    twins = [Product(ProductId("a"), "Mug"), Product(ProductId("b"), "MUG")]
    outcomes = judge_all('{"i":2,"s":90,"product_name":"Mug"}', '{"i":1,"s":80,"product_name":"mug"}', candidates=twins)
    assert list(map(product_of, outcomes)) == ["b", "a"]


def test_a_candidates_number_in_the_place_of_the_id_is_betrayed_by_the_name() -> None:
    catalog = [Product(ProductId("2"), "Kettle"), Product(ProductId("1"), "Toaster")]
    (outcome,) = judge_all('{"product_id":1,"product_name":"Kettle","relevance_score":0.9}', candidates=catalog)
    assert reason_of(outcome) is RejectionReason.CONTRADICTORY


# What its score is


@pytest.mark.parametrize(
    ("raw", "score"),
    [
        ('{"i":1,"s":0}', 0.0),
        ('{"i":1,"s":-0.0}', 0.0),
        ('{"i":1,"s":1}', 0.01),
        ('{"i":1,"s":"1"}', 0.01),
        ('{"i":1,"s":"+1"}', 0.01),
        ('{"i":1,"s":1.0}', 1.0),
        ('{"i":1,"s":"1.0"}', 1.0),
        ('{"i":1,"s":0.92}', 0.92),
        ('{"i":1,"s":1.5}', 0.015),
        ('{"i":1,"s":92}', 0.92),
        ('{"i":1,"s":92.5}', 0.925),
        ('{"i":1,"s":100}', 1.0),
        ('{"i":1,"s":1e2}', 1.0),
        ('{"i":1,"s":"92"}', 0.92),
        ('{"i":1,"s":" 0.92\\n"}', 0.92),
        ('{"i":1,"s":".5"}', 0.5),
        ('{"i":1,"s":"92."}', 0.92),
        ('{"i":1,"s":"92%"}', 0.92),
        ('{"i":1,"s":" 92.5 % "}', 0.925),
        ('{"i":1,"s":"1%"}', 0.01),
        ('{"i":1,"s":"0.5%"}', 0.005),
        ('{"i":1,"score":1}', 0.01),
        ('{"i":1,"relevance_score":1}', 1.0),
        ('{"i":1,"s":null,"relevance_score":0.4}', 0.4),
        ('{"i":1,"s":40,"relevance_score":0.9,"score":"x"}', 0.4),
        ('{"product_id":"p1","s":1}', 0.01),
        ('{"product_id":"p1","relevance_score":0}', 0.0),
        ('{"product_id":"p1","relevance_score":0.96}', 0.96),
        ('{"product_id":"p1","relevance_score":1}', 1.0),
        ('{"product_id":"p1","relevance_score":"1"}', 1.0),
        ('{"product_id":"p1","relevance_score":92}', 0.92),
        ('{"product_id":"p1","relevance_score":"92 %"}', 0.92),
        ('{"product_id":"p1","score":1}', 1.0),
    ],
)
def test_a_score_is_brought_to_0_to_1(raw: str, score: float) -> None:
    assert list(map(str, scores_of(raw))) == [str(score)]  # -0.0 is not printed as 0.0


@pytest.mark.parametrize(
    ("told", "scores"),
    [
        (["92", "1", "0.5", "1.0"], [0.92, 0.01, 0.005, 0.01]),
        (["0.92", "1", "0", "0.5"], [0.92, 1.0, 0.0, 0.5]),
        (["1.0", "1", "0.5"], [1.0, 1.0, 0.5]),
        (["1", "0", "0.5", "1"], [0.01, 0.0, 0.5, 1.0]),
        (["0.9", "87", "0.8"], [0.9, 0.87, 0.008]),
        (['"92%"', '"0.5"', "1"], [0.92, 0.005, 0.01]),
        (['"1%"', "0.5"], [0.01, 0.005]),
    ],
)
def test_a_compact_answer_has_the_scale_that_it_has_shown(told: list[str], scores: list[float]) -> None:
    assert scores_of(*(f'{{"i":{number},"s":{score}}}' for number, score in enumerate(told, start=1))) == scores


@pytest.mark.parametrize(
    ("told", "scores"),
    [
        (["1", "0.97", "0"], [1.0, 0.97, 0.0]),
        (["0.97", "1"], [0.97, 1.0]),
        (["97", "1", "0.5", "1.5"], [0.97, 0.01, 0.005, 0.015]),
        (["1", "97", "1"], [1.0, 0.97, 0.01]),
        (["0.9", "2", "1.5"], [0.9, 0.02, 0.015]),
    ],
)
def test_a_full_answer_has_the_scale_that_it_has_shown(told: list[str], scores: list[float]) -> None:
    items = (f'{{"product_id":"p{at}","relevance_score":{score}}}' for at, score in enumerate(told, start=1))
    assert scores_of(*items) == scores


def test_the_forms_of_one_answer_share_its_scale() -> None:
    assert scores_of('{"product_id":"p1","relevance_score":0.9}', '{"i":2,"s":1}') == [0.9, 1.0]
    assert scores_of('{"i":2,"s":95}', '{"product_id":"p1","relevance_score":1}') == [0.95, 0.01]


def test_the_score_of_a_refused_item_shows_no_scale() -> None:
    unknown, _, placed = judge_all('{"id":"p9","score":95}', '{"i":5,"s":900}', '{"id":"p1","score":1}')
    assert reason_of(unknown) is RejectionReason.UNKNOWN_CANDIDATE
    assert isinstance(placed, Recommendation)
    assert placed.relevance_score == 1.0
    assert judge_all('{"i":5,"s":900}', '{"id":"p1","score":1}')[1] == Recommendation(
        Rank(1), ProductId("p1"), "Product 1", 1.0
    )


@pytest.mark.parametrize(
    "raws", [('{"product_id":"p1","relevance_score":1.05}',), ('{"i":2,"s":0.99}', '{"i":1,"s":1.05}')]
)
def test_a_slip_over_one_is_not_taken_for_a_hundredth(raws: tuple[str, ...]) -> None:
    assert reason_of(judge_all(*raws)[-1]) is RejectionReason.SCORE_OUT_OF_RANGE


def test_an_id_that_is_also_anothers_number_needs_its_name() -> None:
    judge = Judge([Product(ProductId(name), f"Product {name}") for name in ("3", "1", "2")], asked=3)
    assert reason_of(judge.judge('{"product_id":3,"relevance_score":0.9}')) is RejectionReason.CONTRADICTORY
    placed = judge.judge('{"product_id":3,"product_name":"Product 3","relevance_score":0.9}')
    assert isinstance(placed, Recommendation)
    assert placed.product_id == "3"


@pytest.mark.parametrize(
    "raw",
    [
        '{"i":1,"s":92,"i":2}',
        '{"i":1,"s":92,"s":10}',
        '{"i":1,"s":92,"i":2,"s":81}',
        '{"id":"p1","score":1,"id":"p2"}',
        '{"id":"p1","score":1,"score":2}',
        '{"product_id":"p1","relevance_score":1,"product_id":"p2"}',
        '{"product_id":"p1","relevance_score":1,\n"relevance_score" : 0.5}',
    ],
)
def test_an_object_that_says_the_same_twice_is_refused(raw: str) -> None:
    assert reason_of(judge_one(raw)) is RejectionReason.CONTRADICTORY
    assert isinstance(judge_one('{"i":1,"s":9,"x":{"i":2,"s":1}}'), Recommendation)
    assert isinstance(judge_one('{"i":1,"s":9,"why":"a","why":"b"}'), Recommendation)


def test_an_id_that_is_its_own_number_needs_no_name() -> None:
    numbered = [Product(ProductId(str(number)), f"Product {number}") for number in (1, 2, 3)]
    told = ('{"product_id":2,"relevance_score":0.9}', '{"id":"3","score":0.8}')
    assert [product_of(outcome) for outcome in judge_all(*told, candidates=numbered)] == ["2", "3"]


@pytest.mark.parametrize("key", ["i", "s"])
def test_a_number_in_a_text_is_read_up_to_forty_characters(key: str) -> None:
    raw = '{"i":1,"s":1}'.replace(f'"{key}":1', f'"{key}":"{"1".rjust(40)}"')
    assert judge_one(raw) == Recommendation(Rank(1), ProductId("p1"), "Product 1", 0.01)
    assert isinstance(judge_one(raw.replace('" ', '"  ')), Rejection)


@pytest.mark.parametrize(
    "told",
    ["true", "false", "[92]", "{}", '"good"', '""', '"nan"', '"inf"', '"92/100"', '"9_2"', '"٩٢"', '"92%%"', '"0x5c"'],
)
@pytest.mark.parametrize("key", ["s", "relevance_score", "score"])
def test_a_score_that_is_no_number_is_unreadable(key: str, told: str) -> None:
    assert reason_of(judge_one(f'{{"i":1,"{key}":{told}}}')) is RejectionReason.UNREADABLE_SCORE


@pytest.mark.parametrize(
    "told",
    ["-1", "-0.1", "100.5", "101", '"101%"', '"-5"', "NaN", "Infinity", "-Infinity", "1e999", '"1e999"', "9" * 400],
)
@pytest.mark.parametrize("key", ["s", "relevance_score", "score"])
def test_a_score_outside_of_0_to_100_is_refused(key: str, told: str) -> None:
    assert reason_of(judge_one(f'{{"i":1,"{key}":{told}}}')) is RejectionReason.SCORE_OUT_OF_RANGE


def test_scores_that_rise_down_the_list_are_kept_and_counted() -> None:
    judge = Judge(CANDIDATES, asked=5)
    raws = [f'{{"i":{number},"s":{score}}}' for number, score in enumerate([80, 90, 90, 99, 50], start=1)]
    outcomes = [judge.judge(raw) for raw in ['{"i":9,"s":10}', *raws]]
    placed = [outcome for outcome in outcomes if isinstance(outcome, Recommendation)]
    assert [outcome.relevance_score for outcome in placed] == [0.8, 0.9, 0.9, 0.99, 0.5]
    assert [outcome.rank for outcome in placed] == [1, 2, 3, 4, 5]
    assert judge.score_rises == 2


# What is refused


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("{", RejectionReason.NOT_JSON),
        ("", RejectionReason.NOT_JSON),
        ('{"i":1,"s":[9}', RejectionReason.NOT_JSON),
        ("{'i':1,'s':9}", RejectionReason.NOT_JSON),
        ('{"i":1,"s":92,}', RejectionReason.NOT_JSON),
        ('{"i":1,"s":92,"why":"a\x00b"}', RejectionReason.NOT_JSON),
        ('{"i":1,"s":92,"deep":' + "[" * 300 + "]" * 300 + "}", RejectionReason.NOT_JSON),
        ('{"i":1,"s":' + "9" * 5_000 + "}", RejectionReason.NOT_JSON),
        ("[1]", RejectionReason.NOT_AN_ITEM),
        ("3", RejectionReason.NOT_AN_ITEM),
        ("{}", RejectionReason.NOT_AN_ITEM),
        ('{"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"product_name":"Product 1","relevance_score":0.9}', RejectionReason.NOT_AN_ITEM),
        ('{"i":null,"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":true,"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":1.5,"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":NaN,"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":"٣","s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":"' + "9" * 5_000 + '","s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":"p1","s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":[1],"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":[1],"product_id":"p1","s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"i":1,"product_id":["p1"],"s":92}', RejectionReason.NOT_AN_ITEM),
        ('{"product_id":["p1"],"relevance_score":0.5}', RejectionReason.NOT_AN_ITEM),
        ('{"product_id":true,"relevance_score":0.5}', RejectionReason.NOT_AN_ITEM),
        ('{"product_id":1.5,"relevance_score":0.5}', RejectionReason.NOT_AN_ITEM),
        ('{"i":0,"s":92}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"i":-1,"s":92}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"i":6,"s":92}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"i":' + "9" * 4_000 + ',"s":92}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"i":6,"product_id":"p9","s":92}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"product_id":"p9","relevance_score":0.5}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"product_id":"P1","relevance_score":0.5}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"product_id":"","relevance_score":0.5}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"product_id":"p1\\u0000","relevance_score":0.5}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"product_id":"\\ud800","relevance_score":0.5}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"product_id":"\ud800","relevance_score":0.5}', RejectionReason.UNKNOWN_CANDIDATE),
        ('{"i":1,"s":"' + "9" * 5_000 + '"}', RejectionReason.UNREADABLE_SCORE),
        ('{"i":1}', RejectionReason.MISSING_SCORE),
        ('{"i":1,"s":null}', RejectionReason.MISSING_SCORE),
        ('{"product_id":"p1"}', RejectionReason.MISSING_SCORE),
        ('{"score":92,"product":{"id":"p1"}}', RejectionReason.MISSING_SCORE),
    ],
)
def test_a_bad_object_is_refused_with_its_reason(raw: str, reason: RejectionReason) -> None:
    assert reason_of(judge_one(raw)) is reason


def test_an_object_that_names_no_product_is_told_so() -> None:
    for raw in ("{}", '{"s":92}', '{"product_name":"Product 1","relevance_score":1}', '{"x":{"s":92}}'):
        rejection = judge_one(raw)
        assert isinstance(rejection, Rejection)
        assert rejection.detail == "it names no product, neither by number nor by id"


def test_the_unknown_product_is_told_before_the_bad_score() -> None:
    assert reason_of(judge_one('{"i":6}')) is RejectionReason.UNKNOWN_CANDIDATE


@pytest.mark.parametrize(
    "field",
    [
        '"why":"a\\u0000b"',
        '"why":"half a pair: \\ud83d"',
        '"why":"the other half: \\udE00, and none: \\\\ud83d"',
        '"why":"whole: \\ud83d\\ude00, turned: \\ude00\\ud83d"',
        '"\\ud800":1',
        '"why":"\ud800"',
        '"why":"\ud83d\ude00"',
        '"nested":{"i":2,"s":[{"i":3}]},"more":[1,{"product_id":"p4"}]',
        '"i ":2,"I":3,"S":null,"rank":"first","NaN":NaN',
    ],
)
def test_no_further_field_spoils_an_item_whatever_it_holds(field: str) -> None:
    expected = Recommendation(Rank(1), ProductId("p1"), "Product 1", 0.9)
    assert judge_one(f'{{"i":1,"s":90,{field}}}') == expected
    assert judge_one(f'{{{field},"product_id":"p1","relevance_score":0.9}}') == expected


def test_an_escaped_backslash_is_no_escape_beside_a_half_of_a_pair() -> None:
    (outcome,) = judge_all(
        r'{"product_id":"\\ud800","score":90,"why":"\ud800"}', candidates=[Product(ProductId(r"\ud800"), "Odd")]
    )
    assert product_of(outcome) == r"\ud800"


def test_an_object_beyond_the_bound_is_refused_unread() -> None:
    start = '{"i":1,"s":90,"why":"'
    longest = start + "x" * (MAX_ITEM_CHARACTERS - len(start) - 2) + '"}'
    assert product_of(judge_one(longest)) == "p1"
    assert reason_of(judge_one(longest + " ")) is RejectionReason.TOO_LARGE
    assert reason_of(judge_one("{" * (MAX_ITEM_CHARACTERS + 1))) is RejectionReason.TOO_LARGE


def test_a_product_is_placed_once() -> None:
    first, again, without_score = judge_all('{"i":1,"s":90}', '{"product_id":"p1","relevance_score":0.5}', '{"i":1}')
    assert product_of(first) == "p1"
    assert reason_of(again) is RejectionReason.REPEATED_PRODUCT
    assert reason_of(without_score) is RejectionReason.REPEATED_PRODUCT


def test_a_refused_object_takes_neither_rank_nor_product() -> None:
    _, after = judge_all('{"i":1}', '{"i":1,"s":90}')
    assert after == Recommendation(Rank(1), ProductId("p1"), "Product 1", 0.9)


def test_ranks_count_from_1_and_stop_when_enough_is_here() -> None:
    judge, ranks = Judge(CANDIDATES, asked=2), []
    for number in (1, 2):
        assert not judge.enough()
        placed = judge.judge(f'{{"i":{number},"s":90}}')
        assert isinstance(placed, Recommendation)
        ranks.append(placed.rank)
    assert ranks == [1, 2]
    assert judge.enough()
    assert reason_of(judge.judge('{"i":3,"s":90}')) is RejectionReason.BEYOND_ASKED
    assert reason_of(judge.judge('{"i":2,"s":90}')) is RejectionReason.REPEATED_PRODUCT
    assert (judge.accepted, judge.refused) == (2, 2)


def test_what_is_kept_of_a_rejection_is_bounded() -> None:
    for raw in ('{"x":"' + "y" * 10_000 + '"}', '{"product_id":"' + "y" * 10_000 + '"}', "\x00" * 10_000):
        rejection = judge_one(raw)
        assert isinstance(rejection, Rejection)
        assert len(rejection.raw) == MAX_RAW_CHARACTERS
        assert len(rejection.detail) < 200


def test_what_is_kept_of_a_rejection_can_be_stored_and_printed() -> None:
    rejection = judge_one('{"product_id":"\x00\ud800"}')
    assert isinstance(rejection, Rejection)
    assert rejection.raw == '{"product_id":"\\u0000\\ud800"}'


def test_what_is_placed_already_is_no_candidate_any_more() -> None:
    left = remaining(CANDIDATES, {ProductId("p2"), ProductId("p4")})
    assert [product.product_id for product in left] == ["p1", "p3", "p5"]


# Whatever comes


@UNHURRIED
@given(st.lists(OBJECT.map(json.dumps) | JSON_VALUE.map(json.dumps) | st.text(max_size=20), max_size=12))
def test_whatever_comes_has_an_outcome_and_ranks_have_no_gap_and_products_no_double(raws: list[str]) -> None:
    judge = Judge(CANDIDATES, asked=3)
    outcomes = [judge.judge(raw) for raw in raws]
    placed = [outcome for outcome in outcomes if isinstance(outcome, Recommendation)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    assert (judge.accepted, judge.refused) == (len(placed), len(refused))
    assert len(placed) + len(refused) == len(raws)
    assert [recommendation.rank for recommendation in placed] == list(range(1, len(placed) + 1))
    assert len({recommendation.product_id for recommendation in placed}) == len(placed) <= 3
    assert all(0 <= recommendation.relevance_score <= 1 for recommendation in placed)
    for rejection in refused:
        kept = (rejection.raw + rejection.detail).encode()
        assert b"\x00" not in kept


@UNHURRIED
@given(OBJECT, st.sampled_from(['"i":3,"s":50', '"product_id":"p3","relevance_score":0.5', '"id":"p3","score":"50%"']))
def test_further_fields_change_no_item(extra: dict[str, JsonValue], item: str) -> None:
    others = {key: value for key, value in extra.items() if key not in FIELDS or key in {"recommendation", "why"}}
    raw = json.dumps(others)[:-1] + (", " if others else "") + item + "}"
    assert judge_one(raw) == Recommendation(Rank(1), ProductId("p3"), "Product 3", 0.5)


@UNHURRIED
@given(st.permutations(range(1, 6)), st.lists(st.integers(2, 100), min_size=5, max_size=5))
def test_a_good_answer_is_taken_whole_in_its_own_order(numbers: list[int], scores: list[int]) -> None:
    raws = [json.dumps({"i": i, "s": s}) for i, s in zip(numbers, scores, strict=True)]
    assert list(map(product_of, judge_all(*raws))) == [f"p{number}" for number in numbers]
    assert all(math.isclose(read * 100, told) for read, told in zip(scores_of(*raws), scores, strict=True))
