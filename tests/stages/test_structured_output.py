"""How an endpoint is asked for JSON, on the wire: what it does not take is left out at once, for all that follow."""

import asyncio
import json
from dataclasses import replace

import pytest

from pipeline.domain import AnswerRecord
from pipeline.errors import EndpointRefusedError
from pipeline.prompts import Prompt
from pipeline.streaming import open_client, stream
from tests.fixtures.scripted_endpoint import (
    JSON,
    PATIENCE_S,
    Answer,
    ScriptedEndpoint,
    event_of,
    scripted_endpoint,
    text_event,
    whole_stream,
)

PROMPT = Prompt(system="You rank products.", customer="1. Oak chair")
NO_SCHEMA = "This model does not support the response format 'json_schema'."
NO_OBJECT = "'response_format' of type 'json_object' is not supported with this model."
NO_COUNT = "Unsupported parameter: 'stream_options' is not supported with this model."
NO_HEAT = (
    "Unsupported value: 'temperature' does not support 0.1 with this model. Only the default (1) value is supported."
)


def refusing(words: str) -> Answer:
    return Answer([json.dumps({"error": {"message": words}}).encode()], status=400, headers=JSON)


WHOLE = Answer(whole_stream("x"))


async def read(scripted: ScriptedEndpoint, times: int) -> list[str]:
    endpoint = scripted.endpoint()
    async with open_client(endpoint, concurrency=times) as client:

        async def one() -> str:
            return "".join([piece.text async for piece in stream(client, endpoint, PROMPT, AnswerRecord())])

        return await asyncio.gather(*(one() for _ in range(times)))


def formats(scripted: ScriptedEndpoint) -> list[str | None]:
    return [body.get("response_format", {}).get("type") for body in scripted.bodies]


async def test_an_endpoint_is_asked_for_the_strictest_form_first_and_the_schema_is_the_same_for_all() -> None:
    async with scripted_endpoint(WHOLE) as scripted:
        assert await read(scripted, 3) == ["x"] * 3
    assert formats(scripted) == ["json_schema"] * 3
    assert len({json.dumps(body["response_format"], sort_keys=False) for body in scripted.bodies}) == 1


async def test_a_form_that_is_not_supported_is_left_without_costing_the_customer_anything() -> None:
    async with scripted_endpoint(refusing(NO_SCHEMA), refusing(NO_OBJECT), WHOLE) as scripted:
        assert await read(scripted, 1) == ["x"]
    assert formats(scripted) == ["json_schema", "json_object", None]


async def test_what_was_learnt_holds_for_the_answers_that_follow() -> None:
    async with scripted_endpoint(refusing(NO_SCHEMA), WHOLE) as scripted:
        endpoint = scripted.endpoint()
        async with open_client(endpoint, concurrency=1) as client:
            for _ in range(2):
                assert [piece async for piece in stream(client, endpoint, PROMPT, AnswerRecord())]
    assert formats(scripted) == ["json_schema", "json_object", "json_object"]


async def test_many_answers_that_are_refused_at_once_step_down_once() -> None:
    all_have_asked = asyncio.Event()
    refusal = refusing(NO_SCHEMA)
    held = replace(refusal, steps=[all_have_asked, *refusal.steps])
    async with scripted_endpoint(*[held] * 8, WHOLE) as scripted, asyncio.timeout(PATIENCE_S):
        reading = asyncio.create_task(read(scripted, 8))
        while len(scripted.bodies) < 8:  # noqa: ASYNC110 - the endpoint sets no event for the eighth request
            await asyncio.sleep(0)
        all_have_asked.set()
        assert await reading == ["x"] * 8
    assert formats(scripted) == ["json_schema"] * 8 + ["json_object"] * 8


async def test_a_refusal_inside_the_stream_steps_down_too() -> None:
    in_band = Answer([event_of({"error": {"message": NO_SCHEMA, "code": 400}})])
    async with scripted_endpoint(in_band, WHOLE) as scripted:
        assert await read(scripted, 1) == ["x"]
    assert formats(scripted) == ["json_schema", "json_object"]


@pytest.mark.parametrize(("words", "left_out"), [(NO_COUNT, "stream_options"), (NO_HEAT, "temperature")])
async def test_a_parameter_that_is_not_supported_is_left_out_alone(words: str, left_out: str) -> None:
    async with scripted_endpoint(refusing(words), WHOLE) as scripted:
        assert await read(scripted, 1) == ["x"]
    first, second = scripted.bodies
    assert set(first) - set(second) == {left_out}
    assert formats(scripted) == ["json_schema", "json_schema"]


async def test_a_refusal_after_text_is_told_and_nothing_is_asked_again() -> None:
    broken = Answer([text_event("half"), event_of({"error": {"message": NO_SCHEMA, "code": 400}})])
    async with scripted_endpoint(broken, WHOLE) as scripted:
        with pytest.raises(EndpointRefusedError, match="json_schema"):
            await read(scripted, 1)
    assert formats(scripted) == ["json_schema"]


async def test_any_other_refusal_is_told_and_changes_nothing() -> None:
    async with scripted_endpoint(refusing("The prompt is too long for this model.")) as scripted:
        with pytest.raises(EndpointRefusedError, match="too long"):
            await read(scripted, 1)
    assert formats(scripted) == ["json_schema"]
