"""The HTTP client that asks the endpoint: nothing is left over from one answer to the next, and no refusal is endless.

A connection is kept for the next request. What comes through it while nothing is asked is the answer to no request of
ours (a proxy has lost count, say), but aiohttp would give it to the next: so that connection is closed. Where the
libraries do not let us see to that, no connection is kept. What comes once the next request is out is its answer:
HTTP/1.1 has no other way to tell.
"""

import asyncio
import os
import select
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Any, Protocol, runtime_checkable

import aiohttp
import httpx2
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from openai import DefaultAioHttpClient, DefaultAsyncHttpxClient

from pipeline.errors import ConfigurationError, first_line
from pipeline.foreign_errors import without_credentials

_MOST_REFUSAL_BYTES = 65_536
_MOST_PACKED_BYTES = 4_096  # of a compressed one: they may be a thousand times as many


@asynccontextmanager
async def open_connections(*, concurrency: int, connect_timeout_s: float) -> AsyncIterator[httpx2.AsyncClient]:
    """A client for this many streams at a time, with the proxies and the certificates that the environment names.

    It has no time-out but that of connecting. The body of a response that is no success ends after 64 KiB.

    Raises:
        ConfigurationError: certificates or a proxy that the environment names cannot be used.
    """
    settings: dict[str, Any] = {  # the arguments of both kinds of client
        "timeout": httpx2.Timeout(None, connect=connect_timeout_s),
        "verify": _trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
        "event_hooks": {"response": [_bound_refusal]},
    }
    most = concurrency * 2
    kept = httpx2.Limits(max_connections=most, max_keepalive_connections=concurrency)
    async with _made(DefaultAioHttpClient, **settings, limits=kept) as watched:
        if _is_watched(watched):
            yield watched
            return
    unkept = httpx2.Limits(max_connections=most, max_keepalive_connections=0)
    async with _made(DefaultAsyncHttpxClient, **settings, limits=unkept) as careful:
        yield careful


def _made(kind: Callable[..., httpx2.AsyncClient], **settings: Any) -> httpx2.AsyncClient:
    try:
        return kind(**settings)
    except ValueError as error:
        why = without_credentials(first_line(error))
        raise ConfigurationError(f"a proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {why}") from error


@cache
def _trusted(certificates: str | None, folder: str | None) -> ssl.SSLContext:
    """Whom the client trusts, by the two variables that say so. Read once: it takes tens of milliseconds."""
    try:
        return httpx2.create_ssl_context()  # which reads them
    except OSError as error:
        raise ConfigurationError(
            f"the certificates in SSL_CERT_FILE={certificates or ''} SSL_CERT_DIR={folder or ''} cannot be read: "
            f"{error.strerror or first_line(error)}"
        ) from error


async def _bound_refusal(response: httpx2.Response) -> None:
    """See to it that no more is read than the words of a refusal need: the `openai` client reads it whole."""
    if not response.is_success and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Beginning(response.stream, _most_bytes(response.headers.get("content-encoding", "identity")))
        if not _is_known(response.charset_encoding):
            response.encoding = "utf-8"


def _most_bytes(codings: str) -> int:
    """What is read of a refusal's body as it comes."""
    if codings.strip().lower() == "identity":
        return _MOST_REFUSAL_BYTES
    return 0 if "," in codings else _MOST_PACKED_BYTES  # packed twice, they may be a million times as many


def _is_known(charset: str | None) -> bool:
    """Whether this decodes bytes to text: Python knows codecs by names of this kind that do other things."""
    try:
        return charset is None or isinstance(b"words".decode(charset, "replace"), str)
    except (LookupError, ValueError):
        return False


class _Beginning(httpx2.AsyncByteStream):
    """A body that ends after so many bytes, whether it has ended or not."""

    def __init__(self, whole: httpx2.AsyncByteStream, most: int) -> None:
        self._whole = whole
        self._most = most

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        left = self._most
        async for piece in self._whole:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._whole.aclose()


@runtime_checkable
class _Transport(Protocol):
    """The `openai` client's transport over aiohttp. It has one for the endpoint and one for each proxy."""

    client: Any  # the session, once there is one

    def get_client(self) -> aiohttp.ClientSession:
        """A session with a pool of connections."""


def _is_watched(client: httpx2.AsyncClient) -> bool:
    """Watch all connections that the client will make; False where these libraries do not let us."""
    try:
        transports = [client._transport, *client._mounts.values()]  # noqa: SLF001 # a client with one given has no proxies
    except AttributeError:
        return False
    return all(_is_transport_watched(transport) for transport in transports if transport is not None)


def _is_transport_watched(transport: httpx2.AsyncBaseTransport) -> bool:
    if not isinstance(transport, _Transport):
        return False
    transport.client = session = transport.get_client()
    connector = session.connector
    if connector is None or not hasattr(connector, "_factory"):
        return False
    made = partial(OneAnswerARequest, loop=asyncio.get_running_loop())
    connector._factory = made  # type: ignore[assignment] # noqa: SLF001 # `partial` is invariant; it has no other way in
    return True


class OneAnswerARequest(ResponseHandler):
    """aiohttp's end of a connection, which is closed at once by what comes behind an answer before the next request."""

    _answered = False

    def set_response_params(self, **params: Any) -> None:  # aiohttp's own, passed on
        """A request goes out."""
        self._answered = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Take in what has come."""
        if self._answered and data:
            self._hang_up()
            return
        super().data_received(data)
        if self._answered and self._holds_half_a_message():
            self._hang_up()

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """Take in the head of an answer, and its body, which may be here in part or whole."""
        if self._answered:
            self._hang_up()
            return
        super().feed_data(data, size)
        message, body = data
        if message.code >= 200:  # others are forerunners of the answer
            body.on_eof(self._note_answer)

    def is_connected(self) -> bool:
        """Whether the connection can be used; a kept one cannot if anything has come through it."""
        return super().is_connected() and not (self._answered and self._has_unread())

    def _note_answer(self) -> None:
        self._answered = True

    def _holds_half_a_message(self) -> bool:
        """Whether another message has begun right behind the answer. To be asked once, before hanging up or not."""
        try:
            return self._parser is not None and self._parser.feed_eof() is not None
        except HttpProcessingError:
            return True

    def _has_unread(self) -> bool:
        """Whether something, be it the other side's goodbye, waits in the system for the loop's next turn."""
        waiting = None if self.transport is None else self.transport.get_extra_info("socket")
        if waiting is None or not hasattr(select, "poll"):
            return False
        poll = select.poll()
        poll.register(waiting.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _hang_up(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.abort()
