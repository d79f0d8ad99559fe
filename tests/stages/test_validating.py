"""The validating stage on a real stream: good objects get ranks, bad ones reasons, and it closes what it reads."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import pytest

from pipeline.domain import AnswerRecord, Outcome, Product, ProductId, Rank, Recommendation, Rejection, RejectionReason
from pipeline.errors import AnswerCutError, AnswerEmptyError
from pipeline.parsing import parse
from pipeline.prompts import compose, load_templates
from pipeline.scanning import MAX_ITEM_CHARACTERS
from pipeline.streaming import open_client, stream
from pipeline.validation import MAX_REJECTIONS, Judge, validate
from tests.fixtures.scripted_endpoint import (
    Answer,
    Drop,
    ScriptedEndpoint,
    Step,
    every_generator_closed,
    happens,
    item_text,
    scripted_endpoint,
    text_event,
    whole_stream,
)

CANDIDATES = [Product(ProductId(f"p{number}"), f"Product {number}") for number in range(1, 6)]


@asynccontextmanager
async def validating(scripted: ScriptedEndpoint, judge: Judge) -> AsyncGenerator[AsyncGenerator[Outcome]]:
    endpoint = scripted.endpoint()
    with every_generator_closed():
        async with open_client(endpoint, concurrency=1) as client:
            texts = stream(client, endpoint, compose(load_templates(), "likes chairs", CANDIDATES, 5), AnswerRecord())
            yield validate(parse(texts, judge.enough), judge)


async def fail_at_first(outcomes: AsyncGenerator[Outcome]) -> None:
    async with aclosing(outcomes):
        async for _ in outcomes:
            raise ZeroDivisionError


async def test_the_first_recommendation_is_here_while_the_rest_is_held_back() -> None:
    judge, gate = Judge(CANDIDATES, asked=2), asyncio.Event()
    steps = [text_event("[" + item_text(3, 92)), gate, *whole_stream("," + item_text(1), "]")]
    async with (
        scripted_endpoint(Answer(steps)) as scripted,
        validating(scripted, judge) as outcomes,
        aclosing(outcomes),
    ):
        assert await anext(outcomes) == Recommendation(Rank(1), ProductId("p3"), "Product 3", 0.92)
        assert not scripted.answered.is_set()
        gate.set()
        assert [outcome async for outcome in outcomes] == [Recommendation(Rank(2), ProductId("p1"), "Product 1", 0.9)]


async def test_a_bad_object_gets_its_reason_and_its_neighbours_land() -> None:
    judge = Judge(CANDIDATES, asked=3)
    refused = {
        item_text(99): RejectionReason.UNKNOWN_CANDIDATE,
        '{"i":2,"product_id":"p4","s":80}': RejectionReason.CONTRADICTORY,
        item_text(1): RejectionReason.REPEATED_PRODUCT,
        '{"rank":2}': RejectionReason.NOT_AN_ITEM,
        '{"i":2,"s":[5}': RejectionReason.NOT_JSON,
        '{"i":2,"s":NaN}': RejectionReason.SCORE_OUT_OF_RANGE,
        '{"i":2,"s":"high"}': RejectionReason.UNREADABLE_SCORE,
        '{"i":2}': RejectionReason.MISSING_SCORE,
        json.dumps({"i": 2, "s": 80, "why": "x" * MAX_ITEM_CHARACTERS}): RejectionReason.TOO_LARGE,
    }
    objects = [item_text(1), *refused, item_text(3, 95)]
    steps = whole_stream("[", *(f"{raw}," for raw in objects), item_text(5), "]")
    async with (
        scripted_endpoint(Answer(steps)) as scripted,
        validating(scripted, judge) as outcomes,
        aclosing(outcomes),
    ):
        judged = [outcome async for outcome in outcomes]
    places = [(outcome.rank, outcome.product_id) for outcome in judged if isinstance(outcome, Recommendation)]
    reasons = [outcome.reason for outcome in judged if isinstance(outcome, Rejection)]
    assert places == [(1, "p1"), (2, "p3"), (3, "p5")]
    assert reasons == list(refused.values())
    assert (judge.accepted, judge.refused, judge.score_rises) == (3, len(refused), 1)
    assert judge.shortfall() == ""


async def test_a_cut_stream_keeps_the_recommendations_that_were_complete() -> None:
    judged: list[Outcome] = []

    async def consume(outcomes: AsyncGenerator[Outcome]) -> None:
        async for outcome in outcomes:
            judged.append(outcome)  # noqa: PERF401 - what came before the error is what is asked here

    judge = Judge(CANDIDATES, asked=5)
    steps: list[Step] = [text_event("[" + item_text(1) + "," + item_text(2) + ',{"i":3,"s":9'), Drop()]
    async with scripted_endpoint(Answer(steps)) as scripted, validating(scripted, judge) as outcomes:
        with pytest.raises(AnswerCutError):
            await consume(outcomes)
    assert [outcome.product_id for outcome in judged if isinstance(outcome, Recommendation)] == ["p1", "p2"]


async def test_an_answer_with_fewer_than_asked_for_ends_well_and_says_what_is_missing() -> None:
    judge = Judge(CANDIDATES, asked=5)
    async with (
        scripted_endpoint(Answer(whole_stream("[", item_text(1), ",", item_text(99), "]"))) as scripted,
        validating(scripted, judge) as outcomes,
    ):
        judged = [outcome async for outcome in outcomes]
    assert [type(outcome) for outcome in judged] == [Recommendation, Rejection]
    judge.require_any()
    assert judge.shortfall() == (
        "the answer ended with 1 of the 5 recommendations asked for; 1 of its objects were refused"
    )


@pytest.mark.parametrize("text", ['{"recommendations":[]}', "I cannot tell.", item_text(99)])
async def test_an_answer_without_a_recommendation_is_empty(text: str) -> None:
    judge = Judge(CANDIDATES, asked=5)
    async with (
        scripted_endpoint(Answer(whole_stream(text))) as scripted,
        validating(scripted, judge) as outcomes,
    ):
        assert not [outcome async for outcome in outcomes if isinstance(outcome, Recommendation)]
    with pytest.raises(AnswerEmptyError, match="0 of the 5"):
        judge.require_any()


async def test_an_answer_of_nothing_but_bad_objects_is_cut_off() -> None:
    async def bad_objects() -> AsyncGenerator[str]:
        while True:
            yield '{"i":99,"s":1}'

    outcomes: list[Outcome] = []
    with pytest.raises(AnswerCutError, match="were refused"):
        async for outcome in validate(bad_objects(), Judge([], asked=1)):
            outcomes.append(outcome)  # noqa: PERF401 - what came before the error is looked at
    assert len(outcomes) == MAX_REJECTIONS + 1


async def test_leaving_the_loop_closes_the_connection() -> None:
    async with (
        scripted_endpoint(Answer([text_event(item_text(1)), asyncio.Event()])) as scripted,
        validating(scripted, Judge(CANDIDATES, asked=5)) as outcomes,
    ):
        async with aclosing(outcomes):
            async for _ in outcomes:
                break
        assert await happens(scripted.client_gone)


async def test_an_exception_of_the_reader_closes_the_connection() -> None:
    async with (
        scripted_endpoint(Answer([text_event(item_text(1)), asyncio.Event()])) as scripted,
        validating(scripted, Judge(CANDIDATES, asked=5)) as outcomes,
    ):
        with pytest.raises(ZeroDivisionError):
            await fail_at_first(outcomes)
        assert await happens(scripted.client_gone)


async def test_cancellation_closes_the_connection() -> None:
    async def consume(outcomes: AsyncGenerator[Outcome]) -> None:
        async for _ in outcomes:
            first.set()

    first = asyncio.Event()
    async with (
        scripted_endpoint(Answer([text_event(item_text(1)), asyncio.Event()])) as scripted,
        validating(scripted, Judge(CANDIDATES, asked=5)) as outcomes,
    ):
        reader = asyncio.create_task(consume(outcomes))
        assert await happens(first)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await happens(scripted.client_gone)
