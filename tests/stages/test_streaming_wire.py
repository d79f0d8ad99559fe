"""The many ways in which HTTP carries a whole answer."""

from collections.abc import Mapping
from typing import Final

import pytest

from pipeline.errors import EndpointRefusedError, EndpointUnreachableError
from pipeline.prompts import Prompt
from tests.fixtures.http_bytes import LAST_CHUNK, chunk, chunked_head, deflated, gzipped, head, whole
from tests.fixtures.raw_endpoint import (
    Move,
    Pause,
    Play,
    Step,
    answer,
    early_answer,
    in_a_row,
    raw_endpoint,
)
from tests.fixtures.readings import (
    EVENTS,
    FIRST,
    REST,
    SECOND,
    THIRD,
    assert_names_where,
    in_chunks,
    read_outcomes,
    read_play,
    read_recommendations,
    read_text,
)

SHORT_S: Final = 0.05

ENDLESS_PROMPT = Prompt(system="You rank products.", customer="1. Oak chair\n" * 2_000_000)  # no buffer holds it


# Ways of sending a whole answer. In each the first item is taken before the rest goes out


def a_byte_a_packet(*steps: Step) -> tuple[Step, ...]:
    return tuple(piece for step in steps for piece in (_bytes_of(step) if isinstance(step, bytes) else (step,)))


def _bytes_of(data: bytes) -> tuple[bytes, ...]:
    return tuple(data[at : at + 1] for at in range(len(data)))


CHUNKED = in_chunks(*EVENTS)
PLAIN = (EVENTS[0], Move.WAIT_UNTIL_TAKEN, *REST)
WHOLE_ANSWERS: Mapping[str, Play] = {
    "a chunk an event": answer(*CHUNKED),
    "a byte a packet": answer(*a_byte_a_packet(*CHUNKED)),
    "a byte a chunk": answer(
        chunked_head(), *map(chunk, _bytes_of(EVENTS[0])), Move.WAIT_UNTIL_TAKEN, *map(chunk, REST), LAST_CHUNK
    ),
    "chunk extensions and trailers": answer(
        *CHUNKED[:2],
        Move.WAIT_UNTIL_TAKEN,
        *(b"%x;name=value\r\n%b\r\n" % (len(event), event) for event in REST),
        b"0\r\nX-Trailer: 1\r\n\r\n",
    ),
    "a length": answer(head(content_length=str(sum(map(len, EVENTS)))), *PLAIN),
    "up to the connection's end": answer(head(connection="close"), *PLAIN, Move.CLOSE),
    "HTTP/1.0": answer(head(version="HTTP/1.0"), *PLAIN, Move.CLOSE),
    "half-closed at its end": answer(*CHUNKED, Move.HALF_CLOSE),
    "gzip": answer(*in_chunks(*gzipped(*EVENTS), content_encoding="gzip")),
    "gzip, a byte a packet": answer(*a_byte_a_packet(*in_chunks(*gzipped(*EVENTS), content_encoding="gzip"))),
    "gzip without its end": answer(*in_chunks(*gzipped(*EVENTS)[:-1], content_encoding="gzip")),
    "deflate": answer(*in_chunks(*deflated(*EVENTS), content_encoding="deflate")),
    "after 100 Continue": answer(b"HTTP/1.1 100 Continue\r\n\r\n", *CHUNKED),
    "after 103 Early Hints": answer(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", *CHUNKED),
    "a status without a phrase": answer(head("200", transfer_encoding="chunked"), *CHUNKED[1:]),
    "a late head": answer(Pause(SHORT_S), *CHUNKED),
    "a late body": answer(CHUNKED[0], Pause(SHORT_S), *CHUNKED[1:]),
    "closed after its usage, without [DONE]": answer(*CHUNKED[:-2], Move.CLOSE),
    "reset after its usage, without [DONE]": answer(*CHUNKED[:-2], Move.RESET),
    "closed after [DONE] without the last chunk": answer(*CHUNKED[:-1], Move.CLOSE),
    "reset after [DONE]": answer(*CHUNKED[:-1], Move.RESET),
    "held open after [DONE]": answer(*CHUNKED[:-1], Move.HOLD),
}
whole_answers = pytest.mark.parametrize("play", WHOLE_ANSWERS.values(), ids=WHOLE_ANSWERS)


@whole_answers
async def test_a_whole_answer_is_read_however_it_is_sent(play: Play) -> None:
    reading, raw = await read_play(play)
    assert (reading.text, reading.error) == (FIRST + SECOND + THIRD, None)
    assert (reading.record.status, reading.record.finish_reason) == (200, "stop")
    assert reading.record.usage.tokens_out == 20
    assert len(raw.requests) == 1


@whole_answers
async def test_a_whole_answer_gives_every_recommendation_however_it_is_sent(play: Play) -> None:
    for reader in (read_outcomes, read_recommendations):
        reading, raw = await read_play(play, reader)
        assert (reading.ids, reading.error) == (["p-1", "p-2", "p-3"], None)
        assert len(raw.requests) == 1


# Long requests


sending_on = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # no prompt of ours is as large


@sending_on
async def test_an_error_is_told_although_the_request_is_still_being_sent() -> None:
    refusal = b'{"error":{"message":"that is too much"}}'
    play = early_answer(
        head("413 Content Too Large", content_type="application/json", content_length=str(len(refusal))),
        refusal,
        Move.HALF_CLOSE,
    )
    async with raw_endpoint(play) as raw:
        reading = await read_text(raw, raw.endpoint(), ENDLESS_PROMPT)
        await raw.all_clients_gone()
    assert isinstance(reading.error, EndpointRefusedError)
    assert (reading.error.status, reading.record.status) == (413, 413)
    assert "that is too much" in str(reading.error)


@sending_on
async def test_an_answer_may_begin_while_the_request_is_still_being_sent() -> None:
    async with raw_endpoint(early_answer(*whole(*EVENTS))) as raw:
        reading = await read_text(raw, raw.endpoint(), ENDLESS_PROMPT)
        await raw.all_clients_gone()
    assert (reading.text, reading.error) == (FIRST + SECOND + THIRD, None)


# Redirects


def redirect(status: str, location: str) -> bytes:
    return head(status, location=location, content_length="0")


@pytest.mark.parametrize("status", ["307 Temporary Redirect", "308 Permanent Redirect"])
async def test_a_redirect_that_keeps_the_request_is_followed(status: str) -> None:
    moved = in_a_row(answer(redirect(status, "/v2/chat/completions")), answer(*whole(*EVENTS)))
    async with raw_endpoint(moved) as raw:
        reading = await read_text(raw, raw.endpoint())
        await raw.all_clients_gone()
    assert (reading.text, reading.error) == (FIRST + SECOND + THIRD, None)
    first, second = raw.requests
    assert second.line == "POST /v2/chat/completions HTTP/1.1"
    assert second.body == first.body


async def test_a_redirect_to_another_host_does_not_take_the_key_along() -> None:
    async with raw_endpoint(answer(*whole(*EVENTS))) as other:
        away = answer(redirect("307 Temporary Redirect", f"{other.base_url}/chat/completions"))
        async with raw_endpoint(away) as raw:
            await read_text(raw, raw.endpoint())
            await raw.all_clients_gone()
        await other.all_clients_gone()
    assert raw.requests[0].headers["authorization"] == "Bearer test-key"
    assert [request for request in other.requests if "test-key" in str(request.headers)] == []


async def test_redirects_in_a_circle_end() -> None:
    step = answer(redirect("307 Temporary Redirect", "/v1/chat/completions"))
    reading, raw = await read_play(in_a_row(*[step] * 50))
    assert isinstance(reading.error, EndpointUnreachableError | EndpointRefusedError)
    assert_names_where(reading.error, raw.base_url)
    assert len(raw.requests) < 30


@pytest.mark.parametrize(
    ("status", "location"),
    [
        ("307 Temporary Redirect", "ftp://127.0.0.1/"),
        ("307 Temporary Redirect", "http://[/"),
    ],
)
async def test_a_redirect_to_nowhere_is_told(status: str, location: str) -> None:
    reading, raw = await read_play(answer(redirect(status, location)))
    assert isinstance(reading.error, EndpointUnreachableError | EndpointRefusedError)
    assert_names_where(reading.error, raw.base_url)
