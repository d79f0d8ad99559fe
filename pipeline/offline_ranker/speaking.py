"""Hands one answer to one connection, faults included, and records what was really handed over."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from aiohttp import web

from pipeline.offline_ranker.answers import AnswerText, token_count, tokens
from pipeline.offline_ranker.chat_request import ChatRequest
from pipeline.offline_ranker.effects import BreakKind, Script, breaks_in_order
from pipeline.offline_ranker.pacing import Pace, paced
from pipeline.offline_ranker.record import Ending, Record
from pipeline.offline_ranker.throughput import Throughput
from pipeline.offline_ranker.wire import (
    ChunkWriter,
    Usage,
    WireError,
    completion_document,
    error_document,
    event,
)

_FAILURE = "The server had an error while it answered, because it was told to."


class BrokenOffError(Exception):
    """The answer ended early on purpose, and nothing more may be written to its connection."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request with what is needed to answer it.

    `resumed` is set when held answers may go on; `limit_headers` is filled in as the request comes to the limits.
    """

    http: web.Request
    request: ChatRequest
    script: Script
    answer: AnswerText
    record: Record
    throughput: Throughput
    resumed: asyncio.Event
    limit_headers: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that every answer carries."""
        return {"x-request-id": self.record.request_id, **self.limit_headers}

    @property
    def created(self) -> int:
        """The time of the answer, in seconds since 1970."""
        return int(time.time())

    @property
    def usage(self) -> Usage:
        """The tokens of the whole exchange."""
        return Usage(self.record.prompt_tokens, token_count(self.answer.text), self.record.cached_tokens)

    @property
    def ending(self) -> Ending:
        """How this answer ends if nothing comes in between."""
        return Ending.COMPLETE if self.answer.finish_reason == "stop" else Ending.LENGTH

    def drop_connection(self) -> None:
        """Close the connection in the middle of the answer."""
        if self.http.transport is not None:
            self.http.transport.close()


async def answer(exchange: Exchange) -> web.StreamResponse:
    """Answer one request and return the response, which has been sent already where it was streamed."""
    await _wait_and_refuse(exchange)
    return await (_stream(exchange) if exchange.request.stream else _send_whole(exchange))


async def refuse_in_stream(exchange: Exchange, refusal: WireError) -> web.StreamResponse:
    """Begin a stream well and say in it that the request is refused."""
    response = _event_stream(exchange)
    exchange.record.status = 200
    await response.prepare(exchange.http)
    await response.write(event(refusal.document))
    await response.write_eof()
    return response


async def _wait_and_refuse(exchange: Exchange) -> None:
    script, record = exchange.script, exchange.record
    if script.delay_seconds:
        await asyncio.sleep(script.delay_seconds)
    if script.refusal is not None:
        record.status, record.ending = script.refusal.status, Ending.REFUSED
        raise _refusal(script)
    if script.stalled:
        await asyncio.Event().wait()  # ends when the client leaves: the handler is cancelled then


def _refusal(script: Script) -> WireError:
    if script.refusal is None or script.refusal.status != 429:
        return WireError(500, _FAILURE, kind="server_error")
    wait = script.refusal.retry_after_seconds
    headers = {} if wait is None else {"retry-after": f"{wait:g}"}
    return WireError(
        429,
        "Too many requests, because the server was told to refuse this one.",
        kind="requests",
        code="rate_limit_exceeded",
        headers=headers,
    )


def _stretches(exchange: Exchange) -> Iterator[tuple[str, BreakKind | None]]:
    """Yield the answer's text in stretches, each with the break that follows it; none follows the last."""
    start = 0
    for offset, kind in breaks_in_order(exchange.script, exchange.answer):
        yield exchange.answer.text[start:offset], kind
        start = offset
    yield exchange.answer.text[start:], None


async def _stream(exchange: Exchange) -> web.StreamResponse:
    response = _event_stream(exchange)
    options = exchange.request.stream_options
    writer = ChunkWriter(
        exchange.record.request_id,
        exchange.created,
        include_usage=options is not None and options.include_usage,
        service_tier=exchange.request.service_tier,
    )
    exchange.record.status = 200
    await response.prepare(exchange.http)
    try:
        await _write(exchange, response, writer.opening(), characters=0)
        await _write_text(exchange, response, writer)
    except BrokenOffError:
        return response
    await _write(exchange, response, writer.closing(exchange.answer.finish_reason, exchange.usage), characters=0)
    exchange.record.ending = exchange.ending
    await response.write_eof()
    return response


def _event_stream(exchange: Exchange) -> web.StreamResponse:
    response = web.StreamResponse(headers={**exchange.headers, "cache-control": "no-cache"})
    response.content_type = "text/event-stream"
    return response


async def _write_text(exchange: Exchange, response: web.StreamResponse, writer: ChunkWriter) -> None:
    with paced(exchange.throughput) as pace:
        await _write_stretches(exchange, response, writer, pace)


async def _write_stretches(exchange: Exchange, response: web.StreamResponse, writer: ChunkWriter, pace: Pace) -> None:
    for stretch, break_kind in _stretches(exchange):
        async with aclosing(pace.released(tokens(stretch))) as groups:
            async for group in groups:
                payload = b"".join(map(writer.text, group))
                await _write(exchange, response, payload, characters=sum(map(len, group)))
        if break_kind is BreakKind.HOLD:
            await exchange.resumed.wait()
            pace.restart()
        elif break_kind is BreakKind.ERROR_EVENT:
            await _end_with_error_event(exchange, response)
        elif break_kind is BreakKind.CUT:
            _cut(exchange)


async def _write(exchange: Exchange, response: web.StreamResponse, payload: bytes, *, characters: int) -> None:
    _require_client(exchange)
    # Counted before the wait: a cancelled wait for room in the buffer does not take back what is in it.
    exchange.record.sent_characters += characters
    await response.write(payload)


def _require_client(exchange: Exchange) -> None:
    transport = exchange.http.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError


async def _end_with_error_event(exchange: Exchange, response: web.StreamResponse) -> None:
    await _write(exchange, response, event(error_document(_FAILURE, kind="server_error")), characters=0)
    await response.write_eof()
    exchange.record.ending = Ending.ERROR_EVENT
    raise BrokenOffError


def _cut(exchange: Exchange) -> None:
    exchange.record.ending = Ending.CUT
    exchange.drop_connection()
    raise BrokenOffError


async def _send_whole(exchange: Exchange) -> web.StreamResponse:
    """Send the answer in one piece, at the time at which a stream would have ended."""
    kinds = [kind for _, kind in _stretches(exchange) if kind is not None]
    if BreakKind.HOLD in kinds:
        await exchange.resumed.wait()
    with paced(exchange.throughput) as pace:
        await pace.wait_for(token_count(exchange.answer.text))
    if BreakKind.ERROR_EVENT in kinds:
        exchange.record.status, exchange.record.ending = 500, Ending.REFUSED
        raise WireError(500, _FAILURE, kind="server_error")
    document = completion_document(
        exchange.record.request_id,
        exchange.created,
        exchange.answer.text,
        exchange.answer.finish_reason,
        exchange.usage,
        exchange.request.service_tier,
    )
    response = web.json_response(document, headers=exchange.headers)
    exchange.record.status = 200
    if BreakKind.CUT in kinds:
        return await _send_half(exchange, response)
    await response.prepare(exchange.http)
    _require_client(exchange)
    exchange.record.sent_characters, exchange.record.ending = len(exchange.answer.text), exchange.ending
    await response.write_eof()
    return response


async def _send_half(exchange: Exchange, whole: web.Response) -> web.StreamResponse:
    """Send half of the bytes that the headers promise; no object can be read in them, so none is recorded."""
    body = bytes(whole.body) if isinstance(whole.body, bytes) else b""
    response = web.StreamResponse(headers={**exchange.headers, "content-type": "application/json"})
    response.content_length = len(body)
    await response.prepare(exchange.http)
    await response.write(body[: len(body) // 2])
    exchange.record.ending = Ending.CUT
    exchange.drop_connection()
    return response
