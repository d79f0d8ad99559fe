"""What breaks an answer off, and what the reader of a stream is told of it: after all that was whole, in one line."""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import pytest

from pipeline.domain import AnswerRecord
from pipeline.errors import (
    AnswerCutError,
    AnswerError,
    AnswerOverdueError,
    AnswerStalledError,
    EndpointRefusedError,
    EndpointUnreachableError,
)
from pipeline.pricing.token_counts import estimated_tokens
from pipeline.streaming import check_endpoint, open_client
from tests.fixtures.http_bytes import LAST_CHUNK, chunk, chunked_head, gzipped, head, whole
from tests.fixtures.raw_endpoint import (
    PATIENT,
    Connection,
    Move,
    Pause,
    Play,
    Step,
    TimeOuts,
    answer,
    raw_endpoint,
    unasked,
)
from tests.fixtures.readings import (
    CUT_SHORT,
    EVENTS,
    FIRST,
    HALF_A_BODY,
    HALF_OF_SECOND,
    REST,
    SECOND,
    assert_names_where,
    error_at,
    in_chunks,
    read_outcomes,
    read_play,
    read_recommendations,
)
from tests.fixtures.scripted_endpoint import PATIENCE_S, text_event

SHORT_S: Final = 0.2  # long enough for what must come before it, on a busy machine too
NO_FIRST_BYTE: Final = TimeOuts(first_byte_timeout_s=SHORT_S)
BEGUN: Final = (chunked_head(), chunk(text_event(FIRST)))


# Ways of breaking off


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and what a reader gets: text, then an error with these words in it."""

    play: Play
    error: type[AnswerError]
    says: str = ""
    limits: TimeOuts = PATIENT
    text: str = ""
    status: int | None = None


def before_an_answer(play: Play, says: str = "", limits: TimeOuts = PATIENT) -> Fault:
    """Nothing came that is an answer."""
    return Fault(play, EndpointUnreachableError, says, limits)


def cut(*steps: Step, text: str = FIRST + HALF_OF_SECOND) -> Fault:
    """One item came, and half of another in most cases."""
    return Fault(answer(*steps), AnswerCutError, text=text, status=200)


HALF_IN_GZIP = (chunked_head(content_encoding="gzip"), chunk(gzipped(HALF_A_BODY)[0]), Move.WAIT_UNTIL_TAKEN)
ALIVE: tuple[Step, ...] = (Pause(0.02), chunk(b": ping\n\n"))
FAULTS: Mapping[str, Fault] = {
    "reset as it is connected": before_an_answer(unasked(Move.RESET)),
    "closed as it is connected": before_an_answer(unasked(Move.CLOSE)),
    "reset after the request": before_an_answer(answer(Move.RESET)),
    "closed after the request": before_an_answer(answer(Move.CLOSE)),
    "half-closed after the request": before_an_answer(answer(Move.HALF_CLOSE)),
    "closed in the head": before_an_answer(answer(b"HTTP/1.1 200 OK\r\nContent-Ty", Move.CLOSE)),
    "reset in the head": before_an_answer(answer(b"HTTP/1.1 200 OK\r\nContent-Ty", Pause(0), Move.RESET)),
    "closed after 100 Continue": before_an_answer(answer(b"HTTP/1.1 100 Continue\r\n\r\n", Move.CLOSE)),
    "no HTTP": before_an_answer(unasked(b"SSH-2.0-OpenSSH_9.6\r\n", Move.HOLD)),
    "a header without end": before_an_answer(answer(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, Move.HOLD)),
    "headers without end": before_an_answer(answer(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, Move.HOLD)),
    "no head": before_an_answer(answer(Move.HOLD), "0.2 s", NO_FIRST_BYTE),
    "half a head": before_an_answer(answer(b"HTTP/1.1 200 OK\r\nX", Move.HOLD), "0.2 s", NO_FIRST_BYTE),
    "no body": Fault(
        answer(chunked_head(), Move.HOLD),
        AnswerStalledError,
        "0.2 s (see first_byte_timeout_s)",
        NO_FIRST_BYTE,
        status=200,
    ),
    "reset": cut(*CUT_SHORT, Move.RESET),
    "reset without a length": cut(head(), HALF_A_BODY, Move.WAIT_UNTIL_TAKEN, Move.RESET),
    "closed between chunks": cut(*CUT_SHORT, Move.CLOSE),
    "closed in a chunk": cut(*CUT_SHORT, chunk(text_event(SECOND))[:-20], Move.CLOSE),
    "closed in the size of a chunk": cut(*CUT_SHORT, b"1", Move.CLOSE),
    "half-closed between chunks": cut(*CUT_SHORT, Move.HALF_CLOSE),
    "ended well in the middle": cut(*CUT_SHORT, LAST_CHUNK),
    "ended well between items": cut(*BEGUN, LAST_CHUNK, text=FIRST),
    "a chunk that is longer than its size": cut(*CUT_SHORT, b"4\r\n" + text_event(SECOND) + b"\r\n", Move.HOLD),
    "a chunk that is shorter than its size": cut(*CUT_SHORT, b"ffff\r\n" + text_event(""), Move.CLOSE),
    "a size that is no number": cut(*CUT_SHORT, b"zz\r\n" + text_event(SECOND) + b"\r\n", Move.HOLD),
    "a size below zero": cut(*CUT_SHORT, b"-5\r\n" + text_event(SECOND) + b"\r\n", Move.HOLD),
    "a size without bound": cut(*CUT_SHORT, b"f" * 40 + b"\r\n" + text_event(""), Move.CLOSE),
    "less than its length": cut(head(content_length="99999"), HALF_A_BODY, Move.WAIT_UNTIL_TAKEN, Move.CLOSE),
    "more than its length": cut(
        head(content_length=str(len(HALF_A_BODY))), HALF_A_BODY, Move.WAIT_UNTIL_TAKEN, b"".join(REST)
    ),
    "up to the connection's end": cut(head(connection="close"), HALF_A_BODY, Move.CLOSE),
    "HTTP/1.0": cut(head(version="HTTP/1.0"), HALF_A_BODY, Move.CLOSE),
    "a gzip that breaks off": cut(*HALF_IN_GZIP, LAST_CHUNK),
    "a gzip that goes wrong": cut(*HALF_IN_GZIP, chunk(b"\xff" * 400), LAST_CHUNK),
    "a gzip that is none": cut(*whole(*EVENTS, content_encoding="gzip"), text=""),
    "stalled": Fault(
        answer(*CUT_SHORT, Move.HOLD),
        AnswerStalledError,
        "0.2 s",
        TimeOuts(idle_timeout_s=SHORT_S),
        FIRST + HALF_OF_SECOND,
        200,
    ),
    "stalled in a chunk": Fault(
        answer(*CUT_SHORT, chunk(text_event(SECOND))[:-20], Move.HOLD),
        AnswerStalledError,
        "0.2 s",
        TimeOuts(idle_timeout_s=SHORT_S),
        FIRST + HALF_OF_SECOND,
        200,
    ),
    "too late as a whole": Fault(
        answer(*CUT_SHORT, Move.HOLD),
        AnswerOverdueError,
        "0.4 s",
        TimeOuts(answer_timeout_s=0.4, idle_timeout_s=1),
        FIRST + HALF_OF_SECOND,
        200,
    ),
    "alive but saying nothing": Fault(
        answer(*BEGUN, Move.WAIT_UNTIL_TAKEN, *ALIVE * 100),
        AnswerOverdueError,
        "0.4 s",
        TimeOuts(answer_timeout_s=0.4, idle_timeout_s=0.3),
        FIRST,
        200,
    ),
}
faults = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


def assert_told(error: AnswerError | None, fault: Fault, base_url: str) -> None:
    assert type(error) is fault.error
    assert_names_where(error, base_url)
    assert fault.says in str(error)
    assert f"{PATIENCE_S:g} s" not in str(error)  # nobody waited as long: a break is no time-out


@faults
async def test_a_fault_is_told_after_all_the_text_before_it_and_stands_in_the_ledger(fault: Fault) -> None:
    reading, raw = await read_play(fault.play, limits=fault.limits)
    assert reading.text == fault.text
    assert_told(reading.error, fault, raw.base_url)
    assert_noted(reading.record, fault)
    assert len(raw.connections) == 1


def assert_noted(record: AnswerRecord, fault: Fault) -> None:
    assert record.status == fault.status
    assert record.whole_s is not None
    assert (record.first_byte_s is not None) == bool(fault.text)
    assert 0 <= (record.first_byte_s or 0) <= record.whole_s
    assert record.usage.estimated == (fault.status == 200)
    assert record.usage.tokens_out == (estimated_tokens(fault.text) if fault.status == 200 else 0)


@faults
async def test_a_fault_is_told_after_the_last_whole_recommendation(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, limit in asdict(fault.limits).items():
        monkeypatch.setenv(f"RECSTREAM_{name.upper()}", str(limit))
    for reader in (read_outcomes, read_recommendations):
        reading, raw = await read_play(fault.play, reader, fault.limits)
        assert reading.ids == (["p-1"] if fault.text else [])
        assert_told(reading.error, fault, raw.base_url)


async def test_a_deadline_is_kept_however_long_the_patience_between_bytes_is() -> None:
    async def play(connection: Connection) -> None:
        await connection.read_request()
        await connection.play(CUT_SHORT)
        async with asyncio.timeout(2):  # a small part of the patience between bytes
            await connection.client_gone()

    reading, _ = await read_play(play, limits=TimeOuts(answer_timeout_s=2 * SHORT_S))
    assert type(reading.error) is AnswerOverdueError


@pytest.mark.parametrize(
    ("play", "limits"),
    [
        (answer(Pause(2 * SHORT_S), *in_chunks(*EVENTS)), TimeOuts(idle_timeout_s=SHORT_S)),
        (answer(Pause(2 * SHORT_S), *in_chunks(*EVENTS)), TimeOuts(connect_timeout_s=SHORT_S)),
        (answer(*BEGUN, Pause(2 * SHORT_S), *map(chunk, REST), LAST_CHUNK), TimeOuts(first_byte_timeout_s=SHORT_S)),
    ],
    ids=["between bytes", "for a connection", "for the first byte"],
)
async def test_each_patience_is_its_own(play: Play, limits: TimeOuts) -> None:
    assert (await read_play(play, limits=limits))[0].error is None


@pytest.mark.parametrize(
    "body",
    [
        (head("503 Service Unavailable", content_length="99"), b"busy", Move.CLOSE),
        (head("503 Service Unavailable", transfer_encoding="chunked"), chunk(b"busy"), Move.RESET),
        (head("503 Service Unavailable", transfer_encoding="chunked"), Pause(SHORT_S), b"zz\r\n", Move.HOLD),
        (head("503 Service Unavailable", transfer_encoding="chunked"), chunk(b"busy"), Move.HOLD),
    ],
    ids=["too short", "reset", "a size that is no number", "stalled"],
)
async def test_an_error_status_whose_body_breaks_is_still_that_status(body: tuple[Step, ...]) -> None:
    reading, _ = await read_play(
        answer(*body), limits=TimeOuts(first_byte_timeout_s=2 * SHORT_S, idle_timeout_s=2 * SHORT_S)
    )
    assert type(reading.error) is EndpointRefusedError
    assert (reading.error.status, reading.record.status) == (503, 503)


async def test_an_answer_longer_than_its_length_is_one_line_however_it_arrives() -> None:
    steps = (head(content_length=str(len(HALF_A_BODY))) + HALF_A_BODY + b"".join(REST), Move.HOLD)
    reading, raw = await read_play(answer(*steps))
    assert reading.error is not None
    assert_names_where(reading.error, raw.base_url)


# Nobody there


async def test_a_port_that_nobody_listens_on_is_told() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        error = await error_at(f"http://127.0.0.1:{reserved.getsockname()[1]}/v1")
    assert type(error) is EndpointUnreachableError
    assert "OPENAI_BASE_URL" in str(error)


@pytest.mark.parametrize("host", ["nobody.invalid", "x" * 64, "a..b", "[::ffff:0:0:1%25none]"])
async def test_a_name_that_does_not_resolve_is_told(host: str) -> None:
    error = await error_at(f"http://{host}/v1")
    assert type(error) is EndpointUnreachableError
    assert "OPENAI_BASE_URL" in str(error)


async def test_a_connection_that_is_not_taken_is_given_up() -> None:
    with socket.socket() as busy, socket.socket() as first, socket.socket() as second:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for waiting in (first, second):  # fill the queue: whoever comes next is not answered
            waiting.settimeout(0)
            waiting.connect_ex(busy.getsockname())
        error = await error_at(f"http://127.0.0.1:{busy.getsockname()[1]}/v1", TimeOuts(connect_timeout_s=SHORT_S))
    assert type(error) is EndpointUnreachableError
    assert "0.2 s" in str(error)


# The look at an endpoint before a night begins


@pytest.mark.parametrize(
    "play",
    [fault.play for fault in FAULTS.values() if fault.error is EndpointUnreachableError and fault.status is None],
    ids=[name for name, fault in FAULTS.items() if fault.error is EndpointUnreachableError and fault.status is None],
)
async def test_an_endpoint_that_gives_no_answer_fails_the_look_before_a_night(play: Play) -> None:
    async with raw_endpoint(play) as raw:
        endpoint = raw.endpoint(TimeOuts(connect_timeout_s=2 * SHORT_S))
        with pytest.raises(EndpointUnreachableError) as caught:
            async with open_client(endpoint, concurrency=1) as client:
                await check_endpoint(client, endpoint)
        await raw.all_clients_gone()
    assert_names_where(caught.value, raw.base_url)
