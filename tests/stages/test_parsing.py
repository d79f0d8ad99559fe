"""The parsing stage: objects at the moment they are whole, and an answer that is left when enough is here."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from pipeline.deltas import AnswerText
from pipeline.domain import AnswerRecord
from pipeline.errors import AnswerCutError, AnswerLimitError
from pipeline.parsing import MAX_TRAILING_CHARACTERS, never, parse
from pipeline.prompts import Prompt
from pipeline.streaming import open_client, stream
from tests.fixtures.scripted_endpoint import (
    DONE,
    Answer,
    Drop,
    ScriptedEndpoint,
    Step,
    every_generator_closed,
    finish_event,
    happens,
    item_text,
    scripted_endpoint,
    text_event,
    usage_event,
    whole_stream,
)

PROMPT = Prompt(system="You rank products.", customer="1. Oak chair")


@asynccontextmanager
async def parsing(
    scripted: ScriptedEndpoint, enough: Callable[[], bool] = never, record: AnswerRecord | None = None
) -> AsyncGenerator[AsyncGenerator[str]]:
    endpoint = scripted.endpoint()
    with every_generator_closed():
        async with open_client(endpoint, concurrency=1) as client:
            yield parse(stream(client, endpoint, PROMPT, record or AnswerRecord()), enough)


class Counted:
    """Enough is here when so many objects have been taken."""

    def __init__(self, asked: int) -> None:
        self.asked = asked
        self.taken: list[str] = []

    def enough(self) -> bool:
        return len(self.taken) >= self.asked

    async def take_all(self, objects: AsyncGenerator[str]) -> None:
        async with aclosing(objects):
            async for raw in objects:
                self.taken.append(raw)


async def fail_at_first(objects: AsyncGenerator[str]) -> None:
    async with aclosing(objects):
        async for _ in objects:
            raise ZeroDivisionError


async def test_an_object_is_here_while_the_next_one_is_held_back() -> None:
    gate = asyncio.Event()
    steps = [
        text_event('{"recommendations":['),
        text_event(item_text(1)),
        gate,
        *whole_stream("," + item_text(2), "]}"),
    ]
    async with (
        scripted_endpoint(Answer(steps)) as scripted,
        parsing(scripted) as objects,
        aclosing(objects),
    ):
        assert await anext(objects) == item_text(1)
        assert not scripted.answered.is_set()
        gate.set()
        assert [raw async for raw in objects] == [item_text(2)]


async def test_a_cut_stream_keeps_the_objects_that_were_complete() -> None:
    counted = Counted(10)
    steps: list[Step] = [text_event("[" + item_text(1) + "," + item_text(2)), text_event(',{"i":3,"s":9'), Drop()]
    async with scripted_endpoint(Answer(steps)) as scripted, parsing(scripted) as objects:
        with pytest.raises(AnswerCutError):
            await counted.take_all(objects)
    assert counted.taken == [item_text(1), item_text(2)]


async def test_an_answer_that_stops_inside_an_object_was_cut_although_it_ended_well() -> None:
    counted = Counted(10)
    async with (
        scripted_endpoint(Answer(whole_stream(item_text(1), '{"i":2,'))) as scripted,
        parsing(scripted) as objects,
    ):
        with pytest.raises(AnswerCutError, match="in the middle of its JSON"):
            await counted.take_all(objects)
    assert counted.taken == [item_text(1)]


async def test_the_length_limit_is_told_after_the_whole_objects() -> None:
    counted = Counted(10)
    async with (
        scripted_endpoint(Answer(whole_stream("[" + item_text(1), ',{"i":2', reason="length"))) as scripted,
        parsing(scripted) as objects,
    ):
        with pytest.raises(AnswerLimitError):
            await counted.take_all(objects)
    assert counted.taken == [item_text(1)]


async def test_after_enough_objects_the_end_of_the_answer_and_its_usage_are_still_read() -> None:
    counted, record = Counted(2), AnswerRecord()
    steps = whole_stream('{"recommendations":[' + item_text(1) + ",", item_text(2), "]", "}\n")
    async with (
        scripted_endpoint(Answer(steps)) as scripted,
        parsing(scripted, counted.enough, record) as objects,
    ):
        await counted.take_all(objects)
        assert await happens(scripted.answered)
    assert len(counted.taken) == 2
    assert record.finish_reason == "stop"
    assert (record.usage.tokens_out, record.usage.estimated) == (20, False)


class Told:
    """Texts of an answer, each a piece of its own, that count how many were taken."""

    def __init__(self, *texts: str) -> None:
        self.taken = 0
        self.closed = False
        self._texts = texts

    async def pieces(self) -> AsyncGenerator[AnswerText]:
        try:
            for text in self._texts:
                self.taken += 1
                yield AnswerText(text)
        finally:
            self.closed = True


@pytest.mark.parametrize(
    ("after", "taken"),
    [
        (["]", "}", "\n"], 3),
        (["x" * MAX_TRAILING_CHARACTERS, ""], 2),
        (["x" * MAX_TRAILING_CHARACTERS, "", "x", ""], 3),
        (["x" * (MAX_TRAILING_CHARACTERS + 1), ""], 1),
        (["]", ',"more":{', "}"], 2),
    ],
)
async def test_after_enough_a_few_characters_are_read_but_no_further_object(after: list[str], taken: int) -> None:
    counted, told = Counted(1), Told("[" + item_text(1), *after)
    await counted.take_all(parse(told.pieces(), counted.enough))
    assert counted.taken == [item_text(1)]
    assert told.taken == 1 + taken
    assert told.closed


async def test_objects_that_come_in_one_piece_with_the_last_of_enough_are_left() -> None:
    counted, told = Counted(1), Told("[" + item_text(1) + "," + item_text(2) + "," + item_text(3), "]")
    await counted.take_all(parse(told.pieces(), counted.enough))
    assert counted.taken == [item_text(1)]
    assert (told.taken, told.closed) == (1, True)


async def test_a_further_object_after_enough_closes_the_connection() -> None:
    counted, record = Counted(2), AnswerRecord()
    texts = ["[" + item_text(1), "," + item_text(2), ',{"i":3']
    async with (
        scripted_endpoint(Answer([*map(text_event, texts), asyncio.Event()])) as scripted,
        parsing(scripted, counted.enough, record) as objects,
    ):
        await counted.take_all(objects)
        assert await happens(scripted.client_gone)
    assert counted.taken == [item_text(1), item_text(2)]
    assert record.finish_reason is None
    assert record.usage.estimated


async def test_endless_words_after_enough_close_the_connection() -> None:
    counted = Counted(1)
    chatter = [text_event("and so on ")] * 20
    async with (
        scripted_endpoint(Answer([text_event(item_text(1)), *chatter, asyncio.Event()])) as scripted,
        parsing(scripted, counted.enough) as objects,
    ):
        await counted.take_all(objects)
        assert await happens(scripted.client_gone)
    assert counted.taken == [item_text(1)]


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param([Drop()], id="the connection breaks"),
        pytest.param([finish_event("length"), usage_event(), DONE], id="the length limit is reached"),
        pytest.param([b"data: oops\n\n"], id="nonsense follows"),
        pytest.param([b'data: {"error":{"message":"overloaded"}}\n\n'], id="an error follows"),
        pytest.param([asyncio.Event()], id="nothing follows"),
    ],
)
async def test_how_an_answer_ends_matters_no_more_when_enough_is_here(rest: list[bytes | Drop | asyncio.Event]) -> None:
    counted = Counted(1)
    async with (
        scripted_endpoint(Answer([text_event("[" + item_text(1)), *rest])) as scripted,
        parsing(scripted, counted.enough) as objects,
    ):
        await counted.take_all(objects)
    assert counted.taken == [item_text(1)]


async def test_leaving_the_loop_closes_the_connection() -> None:
    async with (
        scripted_endpoint(Answer([text_event(item_text(1)), asyncio.Event()])) as scripted,
        parsing(scripted) as objects,
    ):
        async with aclosing(objects):
            async for _ in objects:
                break
        assert await happens(scripted.client_gone)


async def test_an_exception_of_the_reader_closes_the_connection() -> None:
    async with (
        scripted_endpoint(Answer([text_event(item_text(1)), asyncio.Event()])) as scripted,
        parsing(scripted) as objects,
    ):
        with pytest.raises(ZeroDivisionError):
            await fail_at_first(objects)
        assert await happens(scripted.client_gone)


async def test_an_exception_of_the_scanner_closes_the_connection() -> None:
    async with (
        scripted_endpoint(Answer([text_event(item_text(1) + "</think>"), asyncio.Event()])) as scripted,
        parsing(scripted) as objects,
    ):
        assert await anext(objects) == item_text(1)
        with pytest.raises(AnswerCutError, match="reasoning"):
            await anext(objects)
        assert await happens(scripted.client_gone)


async def test_cancellation_closes_the_connection() -> None:
    counted = Counted(10)
    gate = asyncio.Event()
    async with (
        scripted_endpoint(Answer([text_event(item_text(1)), gate])) as scripted,
        parsing(scripted) as objects,
    ):
        first = await anext(objects)
        reader = asyncio.create_task(counted.take_all(objects))
        await asyncio.sleep(0)  # the task now waits for the second object
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await happens(scripted.client_gone)
    assert first == item_text(1)


async def test_cancellation_closes_the_connection_while_the_end_is_read() -> None:
    counted = Counted(1)
    async with (
        scripted_endpoint(Answer([text_event("[" + item_text(1)), asyncio.Event()])) as scripted,
        parsing(scripted, counted.enough) as objects,
    ):
        counted.taken.append(await anext(objects))
        reader = asyncio.create_task(counted.take_all(objects))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await happens(scripted.client_gone)
