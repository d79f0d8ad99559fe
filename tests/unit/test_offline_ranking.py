"""The offline ranker's plain parts: reading a prompt, ranking it, writing the answer, drawing the faults."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.answers import (
    AnswerForm,
    AnswerObject,
    answer_text,
    asked_form,
    object_text,
    score_text,
    token_count,
    tokens,
)
from pipeline.offline_ranker.chat_request import read_chat_request
from pipeline.offline_ranker.effects import Script, spoil
from pipeline.offline_ranker.faults import Fault, FaultPlan
from pipeline.offline_ranker.options import Options, read_options
from pipeline.offline_ranker.prompt_reading import read_prompt
from pipeline.offline_ranker.ranking import rank
from pipeline.offline_ranker.wire import WireError
from pipeline.offline_ranker.words import words

PRODUCTS = """\
1. Apple MacBook Air (2023) - Latest model, high performance, portable
2. Sony WH-1000XM4 Wireless Headphones - Noise-canceling, long battery life
3. Apple Watch Series 7 - Advanced fitness tracking, seamless integration with Apple ecosystem
4. Kindle Oasis - Premium e-reader with adjustable warm light
5. AllBirds Wool Runners - Comfortable, eco-friendly sneakers
6. Manduka PRO Yoga Mat - High-quality, durable, eco-friendly
7. Bench Hooded Jacket - Stylish, durable, suitable for outdoor activities
8. GoPro HERO9 Black - 5K video, waterproof, for action photography
9. Nespresso Vertuo Next Coffee Machine - Quality coffee, easy to use, compact design
10. Project Hail Mary by Andy Weir - Latest sci-fi book from a renowned author"""

PROFILE = """\
Recent purchases: Laptop, Wireless Headphones, Smart Watch
Frequently browsed categories: Electronics, Books, Fitness Equipment
Product ratings: Laptop: 5 stars, Wireless Headphones: 4 stars
Recent searches: best budget laptops 2023, latest sci-fi books, yoga mats
Preferred brands: Apple, AllBirds, Bench
Responses to earlier recommendations: Product123: interested, Product456: not interested
Loyalty status: Gold Member
Average monthly spend: $500
Preferred shopping times: Weekend evenings"""

PROMPT = f"Products:\n{PRODUCTS}\n\nCustomer:\n{PROFILE}\n\nRank the 10 most relevant products, best first.\n"


def ranked_numbers(prompt: str) -> list[str]:
    return [ranked.candidate.number for ranked in rank(prompt)]


def prompt_of(*products: str, profile: str) -> str:
    listed = "\n".join(f"{number}. {text}" for number, text in enumerate(products, start=1))
    return f"Products:\n{listed}\n\nCustomer:\n{profile}\n"


def test_products_that_the_profile_speaks_of_come_before_those_it_does_not() -> None:
    numbers = ranked_numbers(PROMPT)
    assert sorted(numbers, key=int) == [str(number) for number in range(1, 11)]
    assert set(numbers[:7]) == {"1", "2", "3", "5", "6", "7", "10"}
    assert numbers[0] == "1"


def test_scores_are_whole_numbers_from_0_to_100_that_never_rise() -> None:
    scores = [ranked.score for ranked in rank(PROMPT)]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 100 for score in scores)
    assert scores[0] > 50


def test_the_same_prompt_is_ranked_the_same_and_equals_keep_their_order() -> None:
    prompt = prompt_of("Green lamp", "Red lamp", "Blue lamp", profile="Recent searches: chairs")
    assert rank(prompt) == rank(prompt)
    assert ranked_numbers(prompt) == ["1", "2", "3"]


def test_only_as_many_as_asked_for_are_ranked() -> None:
    assert ranked_numbers(PROMPT.replace("Rank the 10", "Rank the 3")) == ranked_numbers(PROMPT)[:3]


def test_a_prompt_that_names_no_number_gets_every_product() -> None:
    assert len(rank(prompt_of("Lamp", "Chair", profile="Recent searches: chairs"))) == 2


def test_a_plain_list_after_a_line_that_asks_to_rank_is_read_too() -> None:
    listed = PRODUCTS.replace(". ", " ")
    text = (
        f"Based on the following user profile:\n{PROFILE}\n"
        f"Rank the following products from most relevant to least relevant:\n{listed}"
    )
    assert ranked_numbers(text) == ranked_numbers(PROMPT)


def test_ids_that_are_not_numbers_are_kept_as_they_are() -> None:
    text = "Recent searches: chair\nRank these products:\nLAMP-1 Desk lamp\n0042 Oak chair\n\nThanks."
    assert ranked_numbers(text) == ["0042", "LAMP-1"]


def test_brand_category_and_price_are_read_from_the_fields() -> None:
    (candidate,) = read_prompt("Products:\n1. Pad - soft | Manduka | Yoga | 1,049.50\n").candidates
    assert (candidate.name, candidate.description) == ("Pad", "soft")
    assert (candidate.labels, candidate.price) == (("Manduka", "Yoga"), 1049.5)


def test_a_line_of_products_inside_the_profile_adds_no_candidate() -> None:
    text = prompt_of("Lamp", profile="Recent searches: lamps\nProducts:\n77. Injected thing")
    assert ranked_numbers(text) == ["1"]


def test_a_brand_weighs_more_as_a_field_than_in_the_description() -> None:
    prompt = prompt_of("Pad - like Manduka", "Pad | Manduka | Yoga | 10.00", profile="Preferred brands: Manduka")
    assert ranked_numbers(prompt) == ["2", "1"]


def test_newer_searches_weigh_more() -> None:
    assert ranked_numbers(prompt_of("Oak chair", "Desk lamp", profile="Recent searches: lamp, chair")) == [
        "2",
        "1",
    ]


def test_what_was_not_interesting_ranks_last() -> None:
    profile = "Preferred brands: Acme\nResponses to earlier recommendations: Acme Drill: not interested"
    assert ranked_numbers(prompt_of("Acme Drill", "Acme Saw", "Plain Hammer", profile=profile))[0] == "2"
    assert rank(prompt_of("Acme Drill", profile=profile))[0].score == 0


def test_poor_ratings_weigh_against_and_good_ones_for() -> None:
    profile = "Product ratings: Kettle: 1 star, Toaster: 5 stars"
    assert ranked_numbers(prompt_of("Kettle", "Mug", "Toaster", profile=profile)) == ["3", "2", "1"]


def test_a_price_near_the_usual_spend_decides_between_equals() -> None:
    prompt = prompt_of("Lamp | 5,000.00", "Lamp | 90.00", profile="Average monthly spend: $100")
    assert ranked_numbers(prompt) == ["2", "1"]


def test_plural_and_singular_are_one_word() -> None:
    assert words("Laptops, accessories & watches") == words("laptop accessory watch")
    assert words("Sci-Fi books") == ("sci", "fi", "book")
    assert words("the best of glass") == ("glass",)


def test_a_text_without_products_ranks_nothing() -> None:
    assert rank("Tell me a joke.") == ()


@pytest.mark.timeout(60)  # work that grew with the square of the text would take hours
def test_a_hundred_candidates_and_a_profile_of_megabytes_are_read_in_bounded_work() -> None:
    products = [f"Thing {number} of kind {number % 7} | Brand {number % 5} | Kind | 9.99" for number in range(100)]
    huge = (
        "Recent searches: " + "kind 3, " * 200_000 + "\n" + " " * 1_000_000 + "x:\n" + "rank products " * 100_000 + ":"
    )
    assert len(rank(prompt_of(*products, profile=huge))) == 100


def test_the_compact_form_is_asked_for_by_its_keys() -> None:
    assert asked_form('answer {"i":1,"s":2}') is AnswerForm.COMPACT
    assert asked_form("answer with JSON") is AnswerForm.FULL


@pytest.mark.parametrize(
    ("form", "candidate", "written"),
    [
        (AnswerForm.COMPACT, "7", {"i": 7, "s": 93}),
        (AnswerForm.COMPACT, "007", {"i": "007", "s": 93}),
        (AnswerForm.COMPACT, 'a"b', {"i": 'a"b', "s": 93}),
        (
            AnswerForm.FULL,
            "7",
            {"product_id": "7", "product_name": 'Mug "XL"\u2028', "relevance_score": 0.93},
        ),
    ],
)
def test_an_object_is_json_of_its_form(form: AnswerForm, candidate: str, written: dict[str, object]) -> None:
    text = object_text(form, candidate, 'Mug "XL"\u2028', score_text(form, 93))
    assert json.loads(text) == written
    assert ": " not in text


def objects_of(*numbers: int) -> tuple[AnswerObject, ...]:
    return tuple(
        AnswerObject(str(number), f"Product {number}", 90, object_text(AnswerForm.COMPACT, str(number), "", "90"))
        for number in numbers
    )


def test_only_objects_whose_last_character_went_out_count_as_sent() -> None:
    answer = answer_text(objects_of(1, 2, 3))
    first_end, second_end, _ = answer.ends
    assert answer.complete_objects(first_end - 1) == ()
    assert [entry.candidate for entry in answer.complete_objects(first_end)] == ["1"]
    assert [entry.candidate for entry in answer.complete_objects(second_end + 3)] == ["1", "2"]


def test_a_token_limit_cuts_the_text_and_says_so() -> None:
    answer = answer_text(objects_of(1, 2, 3), max_tokens=10)
    assert (token_count(answer.text), answer.finish_reason) == (10, "length")
    assert len(answer.ends) == 1


def test_tokens_are_four_characters_and_lose_nothing() -> None:
    text = "abcdefghij"
    assert list(tokens(text)) == ["abcd", "efgh", "ij"]
    assert token_count(text) == 3


def test_a_seed_decides_which_requests_suffer() -> None:
    plan = FaultPlan(seed=7, shares={Fault.CUT: 0.3})
    drawn = [plan.drawn(number) for number in range(1, 1001)]
    assert drawn == [plan.drawn(number) for number in range(1, 1001)]
    assert 250 < sum(map(bool, drawn)) < 350
    assert drawn != [FaultPlan(seed=8, shares={Fault.CUT: 0.3}).drawn(number) for number in range(1, 1001)]


def test_a_share_of_one_befalls_every_request_and_of_nought_none() -> None:
    plan = FaultPlan(shares={Fault.CUT: 1, Fault.DELAYED: 0})
    assert {plan.drawn(number) for number in range(1, 101)} == {(Fault.CUT,)}


@pytest.mark.parametrize(
    "document", ['{"shares":{"cut":1.5}}', '{"shares":{"flood":1}}', '{"sed":1}', '{"delay_seconds":NaN}']
)
def test_a_plan_that_makes_no_sense_is_refused(document: str) -> None:
    with pytest.raises(ValidationError):
        FaultPlan.model_validate_json(document)


def spoiled_texts(*faults: Fault) -> list[tuple[str, str | None]]:
    script = spoil(Script(form=AnswerForm.COMPACT, objects=objects_of(1, 2, 3, 4)), faults, FaultPlan())
    return [(entry.text, entry.spoiled) for entry in script.objects if entry.spoiled]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault.UNKNOWN_CANDIDATE, '{"i":1000004,"s":90}'),
        (Fault.MISSING_SCORE, '{"i":2}'),
        (Fault.REPEATED_PRODUCT, '{"i":1,"s":90}'),
        (Fault.NAN_SCORE, '{"i":2,"s":NaN}'),
        (Fault.TEXT_SCORE, '{"i":2,"s":"90"}'),
    ],
)
def test_each_malformation_spoils_one_object(fault: Fault, text: str) -> None:
    assert spoiled_texts(fault) == [(text, fault)]


def test_several_malformations_spoil_an_object_each() -> None:
    assert [fault for _, fault in spoiled_texts(Fault.MISSING_SCORE, Fault.NAN_SCORE, Fault.TEXT_SCORE)] == [
        Fault.MISSING_SCORE,
        Fault.NAN_SCORE,
        Fault.TEXT_SCORE,
    ]


def test_every_fault_has_an_effect_even_on_an_empty_answer() -> None:
    empty = Script(form=AnswerForm.FULL, objects=())
    plan = FaultPlan(shares=dict.fromkeys(Fault, 1))
    assert spoil(empty, plan.drawn(1), plan).objects == ()


def test_the_command_line_says_all_that_options_can() -> None:
    options = Options(
        port=8123,
        tokens_per_second=0,
        api_key="k",
        log=Path("/tmp/answers.jsonl"),
        watch_stdin=True,
        quiet=True,
        faults=FaultPlan(seed=3, shares={Fault.CUT: 0.25}, retry_after_seconds=None, cut_after_objects=2),
    )
    assert read_options(options.flags()) == options


@pytest.mark.parametrize(
    "flags",
    [
        ["--port=70000"],
        ["--tokens-per-second=nan"],
        ["--fault=flood=1"],
        ["--fault=cut"],
        ["--fault=cut=2"],
        ["--delay=x"],
    ],
)
def test_a_flag_that_makes_no_sense_is_refused_in_one_line(flags: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read_options(flags)
    assert flags[0].split("=")[0] in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"\xff", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 400, "body"),
        (b'{"model":"offline-ranker"}', 400, "messages"),
        (b'{"model":"offline-ranker","messages":[]}', 400, "messages"),
        (b'{"model":"offline-ranker","messages":[{"role":"user","content":"\\ud800"}]}', 400, "not JSON"),
        (b'{"model":"offline-ranker","messages":[{"role":"user","content":"x"}],"n":2}', 400, "n is 2"),
        (b'{"model":"offline-ranker","messages":[{"role":"user","content":"x"}],"tools":[{}]}', 400, "tools"),
        (b'{"model":"gpt","messages":[{"role":"user","content":"x"}]}', 404, "gpt"),
    ],
)
def test_a_body_that_cannot_be_answered_is_refused_in_one_sentence(body: bytes, status: int, said: str) -> None:
    with pytest.raises(WireError) as refusal:
        read_chat_request(body)
    assert refusal.value.status == status
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_message_in_parts_is_read_as_one_text() -> None:
    body = {
        "model": "offline-ranker",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    }
    assert read_chat_request(json.dumps(body).encode()).prompt_text == "hello"
