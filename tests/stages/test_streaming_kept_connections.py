"""Many answers over one connection, none of which is taken for another's, whatever a server says between them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from openai import DefaultAioHttpClient

from pipeline.connections import open_connections
from pipeline.errors import EndpointRefusedError, EndpointUnreachableError
from pipeline.streaming import Endpoint, open_client, stream
from tests.fixtures.certificates import identity
from tests.fixtures.http_bytes import head, whole
from tests.fixtures.raw_endpoint import (
    Connection,
    Move,
    Pause,
    Play,
    RawEndpoint,
    Step,
    answer,
    in_a_row,
    raw_endpoint,
)
from tests.fixtures.readings import ENDING, FIRST, PROMPT, SECOND, Reading, noted, read_play
from tests.fixtures.scripted_endpoint import text_event


async def turns(number: int) -> None:
    """Let whatever is on its way between two ends in this loop arrive."""
    for _ in range(number):
        await asyncio.sleep(0)


async def arrival(raw: RawEndpoint) -> None:
    """Let what the plays do after the first answer come through."""
    raw.taken.set()
    await turns(30)


async def read_both(
    raw: RawEndpoint, endpoint: Endpoint, between: Callable[[RawEndpoint], Awaitable[None]] = arrival
) -> list[Reading]:
    """Two readings with one client, and what happens between them."""
    readings = [Reading(), Reading()]
    async with open_client(endpoint, concurrency=1) as client:
        for reading in readings:
            with noted(reading):
                async for piece in stream(client, endpoint, PROMPT, reading.record):
                    reading.text += piece.text
            await between(raw)
    return readings


async def read_twice(*plays: Play) -> tuple[list[Reading], RawEndpoint]:
    """Two readings with one client. The second begins when what the plays did after the first has come through."""
    async with raw_endpoint(*plays) as raw:
        readings = await read_both(raw, raw.endpoint())
        await raw.all_clients_gone()
    return readings, raw


def assert_both_are_whole(readings: list[Reading]) -> None:
    assert [(reading.text, reading.error) for reading in readings] == [(FIRST, None), (SECOND, None)]


ONE = whole(text_event(FIRST), *ENDING)
OTHER = whole(text_event(SECOND), *ENDING)
STALE = b"".join(whole(text_event("stale"), *ENDING))
SURPLUS = {
    "an answer": STALE,
    "two answers": STALE + STALE,
    "an answer without its end": STALE[:-20],
    "half a head": STALE[:30],
    "a letter": b"H",
    "an answer without a body": head("204 No Content"),
    "a forerunner": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "a time-out": head("408 Request Timeout", content_length="0", connection="close"),
}
NOISE = b"data: more\n\n"
surplus = pytest.mark.parametrize("extra", SURPLUS.values(), ids=SURPLUS)


# Kept


FIRST_EVENTS = b"".join((text_event(FIRST), *ENDING))
KEPT = {
    "a packet a chunk": ONE,
    "one packet": (b"".join(ONE),),
    "a length": (head(content_length=str(len(FIRST_EVENTS))), FIRST_EVENTS),
    "after a forerunner": (b"HTTP/1.1 103 Early Hints\r\n\r\n", *ONE),
    "after a forerunner, in one packet": (b"HTTP/1.1 103 Early Hints\r\n\r\n" + b"".join(ONE),),
    "HTTP's end behind the answer's, later": (*ONE[:-1], Pause(0.01), ONE[-1]),
    "trailers": (*ONE[:-1], b"0\r\nX-Trailer: 1\r\n\r\n"),
}
kept = pytest.mark.parametrize("steps", KEPT.values(), ids=KEPT)


@kept
async def test_two_answers_come_over_one_connection(steps: tuple[Step, ...]) -> None:
    readings, raw = await read_twice(in_a_row(answer(*steps), answer(*OTHER)))
    assert_both_are_whole(readings)
    assert len(raw.connections) == 1


@kept
async def test_two_answers_come_over_one_connection_in_tls(
    steps: tuple[Step, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    play = in_a_row(answer(*steps), answer(*OTHER))
    async with raw_endpoint(play, tls=identity(tmp_path).server_context()) as raw:
        assert_both_are_whole(await read_both(raw, raw.endpoint()))
        await raw.all_clients_gone()
    assert len(raw.connections) == 1


async def test_an_error_leaves_its_connection_to_the_next_answer() -> None:
    refusal = answer(head("500 Internal Server Error", content_length="4"), b"oh no"[:4])
    [first, second], raw = await read_twice(in_a_row(refusal, answer(*OTHER)))
    assert isinstance(first.error, EndpointRefusedError)
    assert (second.text, second.error) == (SECOND, None)
    assert len(raw.connections) == 1


@pytest.mark.parametrize("end", [Move.CLOSE, Move.RESET])
async def test_a_connection_that_was_closed_between_answers_is_replaced(end: Move) -> None:
    readings, raw = await read_twice(answer(*ONE, Move.WAIT_UNTIL_TAKEN, end), answer(*OTHER))
    assert_both_are_whole(readings)
    assert len(raw.connections) == 2


@pytest.mark.parametrize("end", [Move.CLOSE, Move.RESET])
async def test_a_kept_connection_that_closes_as_it_is_used_again_costs_one_attempt_that_says_so(end: Move) -> None:
    # The request may have been taken, and paid for: whether to ask again is for the owner of the attempts to say.
    [first, second], _ = await read_twice(in_a_row(answer(*ONE), answer(end)), answer(*OTHER))
    assert (first.error, second.text) == (None, "")
    assert isinstance(second.error, EndpointUnreachableError)
    assert re.search("closed the connection|reset by peer", str(second.error))


async def test_a_new_connection_that_closes_is_not_tried_again_in_silence() -> None:
    _, raw = await read_play(answer(Move.CLOSE))
    assert len(raw.requests) == 1


# Left, for what came that nobody had asked for


@surplus
@pytest.mark.parametrize("end", [(), (Move.CLOSE,)], ids=["open", "closed"])
async def test_what_comes_between_two_answers_is_not_the_next(extra: bytes, end: tuple[Step, ...]) -> None:
    once = in_a_row(answer(*ONE, Move.WAIT_UNTIL_TAKEN, extra, *end), answer(*OTHER))
    readings, raw = await read_twice(once, answer(*OTHER))
    assert_both_are_whole(readings)
    assert [len(connection.requests) for connection in raw.connections] == [1, 1]


@surplus
async def test_what_comes_byte_by_byte_between_two_answers_is_not_the_next(extra: bytes) -> None:
    once = in_a_row(answer(*ONE, Move.WAIT_UNTIL_TAKEN, *(extra[at : at + 1] for at in range(20))), answer(*OTHER))
    readings, raw = await read_twice(once, answer(*OTHER))
    assert_both_are_whole(readings)
    assert [len(connection.requests) for connection in raw.connections] == [1, 1]


@surplus
@pytest.mark.parametrize(
    "before", [ONE[:-1], ONE[:1], ()], ids=["in the last packet", "with the whole body", "all in one packet"]
)
async def test_what_comes_right_behind_an_answer_is_not_the_next(extra: bytes, before: tuple[Step, ...]) -> None:
    rest = b"".join(ONE[len(before) :])
    once = in_a_row(answer(*before, rest + extra), answer(*OTHER))
    readings, raw = await read_twice(once, answer(*OTHER))
    assert_both_are_whole(readings)
    assert [len(connection.requests) for connection in raw.connections] == [1, 1]


@surplus
async def test_what_has_come_but_was_not_read_before_the_next_request_is_not_its_answer(extra: bytes) -> None:
    async def send_unseen(raw: RawEndpoint) -> None:
        await turns(30)
        raw.connections[0]._writer.write(extra)  # no turn of the loop lies between this and the request

    async with raw_endpoint(in_a_row(answer(*ONE), answer(*OTHER)), answer(*OTHER)) as raw:
        assert_both_are_whole(await read_both(raw, raw.endpoint(), send_unseen))
        await raw.all_clients_gone()
    assert len(raw.connections) == 2


async def test_noise_right_behind_an_answer_costs_no_other() -> None:
    once = in_a_row(answer(b"".join(ONE) + NOISE), answer(*OTHER))
    [_, second], raw = await read_twice(once, answer(*OTHER))
    assert (second.text, second.error) == (SECOND, None)
    assert len(raw.connections) == 2


async def test_empty_lines_between_answers_harm_none() -> None:
    readings, _ = await read_twice(in_a_row(answer(*ONE, b"\r\n\r\n"), answer(*OTHER)), answer(*OTHER))
    assert_both_are_whole(readings)


async def test_a_proxys_answer_to_nobody_is_not_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    once = in_a_row(answer(*ONE, Move.WAIT_UNTIL_TAKEN, STALE), answer(*OTHER))
    async with raw_endpoint(once, answer(*OTHER)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert_both_are_whole(await read_both(proxy, proxy.endpoint(base_url="http://nobody.invalid/v1")))
        await proxy.all_clients_gone()
    assert len(proxy.connections) == 2


async def test_an_answer_to_nobody_over_tls_is_not_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    once = in_a_row(answer(*ONE, Move.WAIT_UNTIL_TAKEN, STALE), answer(*OTHER))
    async with raw_endpoint(once, answer(*OTHER), tls=identity(tmp_path).server_context()) as raw:
        assert_both_are_whole(await read_both(raw, raw.endpoint()))
        await raw.all_clients_gone()
    assert len(raw.connections) == 2


async def test_noise_between_two_answers_is_not_the_next() -> None:
    readings, raw = await read_twice(
        in_a_row(answer(*ONE, Move.WAIT_UNTIL_TAKEN, NOISE), answer(*OTHER)), answer(*OTHER)
    )
    assert_both_are_whole(readings)
    assert len(raw.connections) == 2


async def test_a_flood_while_nothing_is_asked_closes_the_connection() -> None:
    async def flood(connection: Connection) -> None:
        await answer(*ONE, Move.WAIT_UNTIL_TAKEN)(connection)
        while True:  # until it is closed: the play ends with the error that says so
            await connection.send(STALE * 100)

    readings, raw = await read_twice(flood, answer(*OTHER))
    assert_both_are_whole(readings)
    assert len(raw.connections) == 2


async def test_the_libraries_in_use_let_their_connections_be_watched() -> None:
    async with open_connections(concurrency=1, connect_timeout_s=20) as client:
        assert isinstance(client, DefaultAioHttpClient)
