"""What an endpoint takes is learnt from its refusals, in the words that they have in public, and from nothing else."""

import hashlib
import json
import logging
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pricing.token_counts import estimated_tokens
from pipeline.terms import SCHEMA, Offer, StructuredOutput, Terms, WantedOutput, most_output_tokens, parameters

SOMEWHERE = "http://gpu-7.internal:8000/v1"
OPENAI = "https://api.openai.com/v1"
STRICT = Offer(StructuredOutput.JSON_SCHEMA)
LOOSE = Offer(StructuredOutput.JSON_OBJECT)
NOTHING_SPECIAL = Offer(StructuredOutput.PROMPT)


class Refusal(NamedTuple):
    """What an endpoint answered instead of an answer: see the data file."""

    status: int | None
    words: str


def published(*parts: str) -> list[Refusal]:
    """The refusals of these parts of a request."""
    written = tomllib.loads(Path(__file__).with_name("published_refusals.toml").read_text(encoding="utf-8"))
    return [Refusal(one.get("status"), one["words"]) for one in written["refusal"] if one["part"] in parts]


OF_THE_SCHEMA = published("json_schema")
OF_THE_OBJECT = published("json_object")
OF_STREAM_OPTIONS = published("stream_options")
OF_TEMPERATURE = published("temperature")
OF_MAX_TOKENS = published("max_tokens")
OF_SERVICE_TIER = published("service_tier")
ANY = [*OF_THE_SCHEMA, *OF_THE_OBJECT, *OF_STREAM_OPTIONS, *OF_TEMPERATURE, *OF_MAX_TOKENS, *OF_SERVICE_TIER]
OF_SOMETHING_ELSE = [
    *published("nothing"),
    Refusal(400, "Unsupported language. " + "x " * 200 + "json_schema"),
    Refusal(400, ""),
]


def refused_part(terms: Terms, offered: Offer) -> set[str]:
    now = terms.offer()
    return {field.name for field in fields(Offer) if getattr(now, field.name) != getattr(offered, field.name)}


@pytest.mark.parametrize(
    ("part", "refusal"),
    [
        *(("structured_output", refusal) for refusal in OF_THE_SCHEMA),
        *(("stream_options", refusal) for refusal in OF_STREAM_OPTIONS),
        *(("temperature", refusal) for refusal in OF_TEMPERATURE),
        *(("max_tokens", refusal) for refusal in OF_MAX_TOKENS),
        *(("service_tier", refusal) for refusal in OF_SERVICE_TIER),
    ],
)
def test_a_refusal_takes_the_part_that_it_names_one_step_down(part: str, refusal: Refusal) -> None:
    terms = Terms(SOMEWHERE, service_tier="flex")
    offered = replace(STRICT, service_tier="flex")
    assert terms.step_down(offered, *refusal)
    assert refused_part(terms, offered) == {part}
    assert terms.offer().structured_output in {StructuredOutput.JSON_SCHEMA, StructuredOutput.JSON_OBJECT}


@pytest.mark.parametrize("refusal", OF_THE_OBJECT)
def test_below_the_object_is_the_prompt_alone(refusal: Refusal) -> None:
    terms = Terms(SOMEWHERE, "json_object")
    assert terms.step_down(LOOSE, *refusal)
    assert terms.offer() == NOTHING_SPECIAL


@pytest.mark.parametrize("refusal", OF_SOMETHING_ELSE)
def test_a_refusal_of_something_else_changes_nothing(refusal: Refusal) -> None:
    terms = Terms(SOMEWHERE)
    assert not terms.step_down(STRICT, *refusal)
    assert terms.offer() == STRICT


def test_what_the_request_did_not_hold_cannot_have_been_refused() -> None:
    terms = Terms(SOMEWHERE, "prompt")
    bare = Offer(StructuredOutput.PROMPT, stream_options=False, temperature=False, max_tokens=())
    for status, words in ANY:
        assert not terms.step_down(bare, status, words)
    assert terms.offer() == NOTHING_SPECIAL


def test_a_refusal_of_two_parts_takes_both_down() -> None:
    terms = Terms(SOMEWHERE)
    assert terms.step_down(STRICT, 400, "Unknown parameter: 'stream_options'. 'temperature' is not supported.")
    assert refused_part(terms, STRICT) == {"stream_options", "temperature"}


def test_many_streams_that_report_one_refusal_step_down_once(caplog: pytest.LogCaptureFixture) -> None:
    terms = Terms(SOMEWHERE)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(16) as threads:
        again = list(threads.map(lambda _: terms.step_down(STRICT, *OF_THE_SCHEMA[0]), range(200)))
    assert all(again)
    assert terms.offer() == LOOSE
    assert len(caplog.records) == 1


def test_a_late_report_of_a_refusal_asks_again_with_what_is_known_by_now() -> None:
    terms = Terms(SOMEWHERE)
    assert terms.step_down(STRICT, *OF_THE_SCHEMA[0])
    assert terms.step_down(LOOSE, *OF_THE_OBJECT[0])
    assert terms.step_down(STRICT, *OF_THE_SCHEMA[0])
    assert terms.offer() == NOTHING_SPECIAL
    assert not terms.step_down(NOTHING_SPECIAL, *OF_THE_OBJECT[0])


@given(
    st.lists(st.sampled_from(ANY), min_size=9),
    st.sampled_from(["auto", "json_schema", "json_object", "prompt"]),
)
def test_asking_again_comes_to_an_end(refusals: list[Refusal], wanted: WantedOutput) -> None:
    terms, asked = Terms(SOMEWHERE, wanted, service_tier="flex"), 0
    for refusal in refusals:
        offered = terms.offer()
        if terms.step_down(offered, *refusal):
            asked += 1
            assert terms.offer() != offered
    assert asked <= 7


@given(st.integers(100, 599) | st.none(), st.text())
def test_any_words_are_heard_without_harm(status: int | None, words: str) -> None:
    Terms(SOMEWHERE).step_down(STRICT, status, words)


def test_a_step_is_said_in_one_line_that_holds_no_password(caplog: pytest.LogCaptureFixture) -> None:
    terms = Terms("https://ann:secret@llm.example/v1")
    terms.step_down(STRICT, 400, "response_format is\tnot supported " + "x" * 5_000)
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith(
        "llm.example refuses json_schema, so it is asked by json_object from now on: response_format"
    )
    assert "\n" not in said
    assert "secret" not in said
    assert len(said) < 400


@pytest.mark.parametrize(
    ("base_url", "first"),
    [
        ("https://api.openai.com/v1", replace(STRICT, max_tokens=("max_completion_tokens", "max_tokens"))),
        (
            "https://shop.openai.azure.com/openai/v1",
            replace(STRICT, max_tokens=("max_completion_tokens", "max_tokens")),
        ),
        ("https://api.mistral.ai/v1", replace(STRICT, stream_options=False, max_tokens=("max_tokens",))),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", STRICT),
        ("https://api.anthropic.com/v1/", NOTHING_SPECIAL),
        ("https://api.deepseek.com", LOOSE),
        ("http://localhost:11434/v1", STRICT),
        ("http://[::1", STRICT),
        ("", STRICT),
    ],
)
def test_a_known_endpoint_is_first_asked_in_the_way_that_it_takes(base_url: str, first: Offer) -> None:
    assert Terms(base_url).offer() == first


def test_what_is_wanted_comes_before_what_is_known() -> None:
    assert Terms("https://api.deepseek.com", "json_schema").offer() == STRICT
    assert Terms("https://api.anthropic.com/v1/", StructuredOutput.JSON_OBJECT).offer() == LOOSE


def test_an_offer_becomes_arguments_of_the_request() -> None:
    usage = {"stream_options": {"include_usage": True}}
    assert parameters(NOTHING_SPECIAL) == usage
    assert parameters(LOOSE) == usage | {"response_format": {"type": "json_object"}}
    assert parameters(STRICT) == usage | {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "recommendations", "strict": True, "schema": SCHEMA},
        }
    }
    assert parameters(Offer(StructuredOutput.PROMPT, stream_options=False)) == {}
    assert parameters(Offer(StructuredOutput.PROMPT, stream_options=False, service_tier="flex")) == {
        "service_tier": "flex"
    }


def test_the_limit_of_an_answer_goes_by_the_name_that_the_endpoint_takes_or_by_none() -> None:
    terms = Terms(OPENAI)
    names = []
    for words in (
        "Unknown parameter: 'max_completion_tokens'.",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    ):
        names += [name for name in parameters(terms.offer(), 10) if name.startswith("max")]
        assert terms.step_down(terms.offer(), 400, words)
    assert names == ["max_completion_tokens", "max_tokens"]
    assert not [name for name in parameters(terms.offer(), 10) if name.startswith("max")]
    assert most_output_tokens(terms.offer(), 10) is None


@pytest.mark.parametrize("asked", [1, 10, 200])
@pytest.mark.parametrize("form", StructuredOutput)
def test_the_limit_has_room_for_every_form_that_the_answer_may_take(form: StructuredOutput, asked: int) -> None:
    laid_out = json.dumps({"recommendations": [{"i": 100 + n, "s": 100} for n in range(asked)]}, indent=2)
    in_full = json.dumps([{"product_id": "P-00123", "product_name": "Linen Shirt, Blue", "score": 0.93}] * asked)
    most = most_output_tokens(Offer(form), asked)
    assert most is not None
    assert most > 1.25 * estimated_tokens(laid_out)
    if form is not StructuredOutput.JSON_SCHEMA:
        assert most > 1.25 * estimated_tokens(f"```json\n{in_full}\n```")
    assert parameters(Offer(form), asked)["max_tokens"] == most


def test_a_limit_of_an_answer_is_not_named_where_nobody_says_how_much_is_asked_for() -> None:
    assert "max_tokens" not in parameters(STRICT)


def test_reasoning_has_room_of_its_own() -> None:
    without, reasoning = Terms(SOMEWHERE).offer(), Terms(SOMEWHERE, reasoning_tokens=2_000).offer()
    more = (most_output_tokens(reasoning, 10) or 0) - (most_output_tokens(without, 10) or 0)
    assert more == 2_000


def test_answers_that_end_at_their_limit_make_the_next_one_twice_as_long_once(caplog: pytest.LogCaptureFixture) -> None:
    terms = Terms(SOMEWHERE)
    offered = terms.offer()
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(16) as threads:
        longer = list(threads.map(lambda _: terms.more_room(offered), range(200)))
    assert all(longer)
    assert most_output_tokens(terms.offer(), 10) == 2 * (most_output_tokens(offered, 10) or 0)
    assert len(caplog.records) == 1


def test_the_room_of_an_answer_does_not_grow_for_ever() -> None:
    terms = Terms(SOMEWHERE)
    grown = 0
    while terms.more_room(terms.offer()):
        grown += 1
    assert grown == 3
    assert terms.offer().room == 8


def test_where_no_limit_is_named_more_room_is_not_ours_to_give() -> None:
    terms = Terms("https://api.mistral.ai/v1")
    assert terms.step_down(terms.offer(), 422, "body.max_tokens: Extra inputs are not permitted")
    assert not terms.more_room(terms.offer())


def test_the_schema_is_the_same_byte_for_byte_for_every_customer() -> None:
    text = json.dumps(parameters(STRICT)["response_format"])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "adfc4eb6343e836a"
    assert parameters(STRICT)["response_format"] is parameters(STRICT)["response_format"]


def test_a_step_shows_nothing_that_a_terminal_would_obey(caplog: pytest.LogCaptureFixture) -> None:
    Terms(SOMEWHERE).step_down(STRICT, 400, "response_format is not supported \x1b[2J")
    assert caplog.records[0].getMessage().isprintable()
