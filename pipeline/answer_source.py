"""aiohttp's own reader of one body, where it is filled, without the layers above it. I/O, but no protocol.

The reader wakes its task for every piece that arrives, and for most of them that costs more than all that is done with
them. So a task that can tell which pieces are of no use alone sleeps through those.
"""

import asyncio
from collections.abc import Callable

import aiohttp
import httpx2

_MOST_SLEPT_THROUGH = 16_384  # bytes: far less than makes aiohttp stop reading the socket until somebody takes them

CAN_NAP = {"_waiter", "_buffer", "_protocol"} <= set(aiohttp.StreamReader.__slots__)
"""Whether this aiohttp has its reader as `_Nap` knows it; without, the task is woken for every piece."""

IsQuiet = Callable[[bytes], bool]
"""Whether a piece of the body, as it arrived, need not be looked at before the next comes."""


class AnswerSource:
    """Reads one body. `waiting_since` is the event loop's time at the last sign of life, None while nobody waits."""

    def __init__(self, answered: aiohttp.ClientResponse) -> None:
        self._reader = answered.content
        self._nap = _Nap(self)
        self._loop = asyncio.get_running_loop()
        self._lost = _loss_of_connection(answered)
        if self._lost is not None:
            self._lost.add_done_callback(self._fail_if_waiting)
        self.waiting_since: float | None = None

    @property
    def at_end(self) -> bool:
        """True once the whole body has been read."""
        return self._reader.at_eof()

    async def read(self, is_quiet: IsQuiet | None) -> bytes:
        """All that is here, once there is something that is not quiet, or much that is; none at the end of the body.

        Raises:
            aiohttp.ClientError, OSError, or what `fail` was given; RuntimeError: the connection ended, and aiohttp did
                not tell its reader.
        """
        self.waiting_since = self._loop.time()
        try:
            if is_quiet is not None and CAN_NAP:
                await self._nap.until_woken(self._reader, is_quiet)
            return await self._reader.readany()
        finally:
            self.waiting_since = None

    def heard(self) -> None:
        """Something has come: the wait begins anew."""
        self.waiting_since = self._loop.time()

    def fail(self, error: Exception) -> None:
        """End a wait with this error."""
        self._reader.set_exception(error)

    def take_buffered(self) -> bytes:
        """What arrived before a failure: aiohttp's reader raises first, and would never give it."""
        self._reader.set_exception(None)  # type: ignore[arg-type] # it has no other way back
        return self._reader.read_nowait(-1)

    def close(self) -> None:
        """Stop looking after the connection."""
        if self._lost is not None:
            self._lost.remove_done_callback(self._fail_if_waiting)

    def _fail_if_waiting(self, lost: asyncio.Future[None]) -> None:
        """End a wait for bytes that cannot come: aiohttp does not tell its reader of a connection it gave up itself."""
        if self.waiting_since is not None and not self._reader.is_eof():
            cause = lost.exception() or "what came was no HTTP"
            self.fail(aiohttp.ClientPayloadError(f"the connection ended: {cause}"))


class _Nap:
    """Stands where aiohttp's reader has the future of the task that waits, and wakes the task only when it is worth it.

    The reader takes it out, and calls `set_result`, whenever something has come: a piece, the end of an HTTP chunk
    (with nothing new, then), the end of the body.
    """

    __slots__ = ("_end", "_future", "_is_quiet", "_reader", "_seen", "_source")

    _reader: aiohttp.StreamReader
    _is_quiet: IsQuiet
    _future: asyncio.Future[None]

    def __init__(self, source: AnswerSource) -> None:
        self._source = source
        self._seen = self._end = 0

    async def until_woken(self, reader: aiohttp.StreamReader, is_quiet: IsQuiet) -> None:
        """Wait, where nothing is here already."""
        if reader._buffer or reader.is_eof() or reader.exception() is not None or not reader._protocol.connected:  # noqa: SLF001 # it shows what it holds nowhere else
            return
        self._reader, self._is_quiet = reader, is_quiet
        self._seen = reader.total_bytes
        self._end = self._seen + _MOST_SLEPT_THROUGH
        self._future = asyncio.get_running_loop().create_future()
        reader._waiter = self  # type: ignore[assignment] # noqa: SLF001 # all that the reader asks of a future is here
        try:
            await self._future
        finally:
            reader._waiter = None  # noqa: SLF001 # as the reader's own wait does

    def done(self) -> bool:
        return self._future.done()

    def set_result(self, result: None) -> None:
        reader = self._reader
        so_far = reader.total_bytes
        if so_far == self._seen and not reader.is_eof():
            reader._waiter = self  # type: ignore[assignment] # noqa: SLF001 # nothing is new: sleep on
        elif so_far < self._end and not reader.is_eof() and self._is_quiet(reader._buffer[-1]):  # noqa: SLF001
            self._seen = so_far
            self._source.heard()
            reader._waiter = self  # type: ignore[assignment] # noqa: SLF001
        elif not self._future.done():
            self._future.set_result(result)

    def set_exception(self, error: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(error)


def aiohttp_response(response: httpx2.Response) -> aiohttp.ClientResponse | None:
    """The response that aiohttp fills; None under another transport."""
    bound = getattr(response.stream, "_stream", None)  # httpx2's, which measures the time
    answered = getattr(bound, "_aiohttp_response", None)  # the openai client's, over aiohttp's response
    return answered if isinstance(answered, aiohttp.ClientResponse) else None


def hang_up(answered: aiohttp.ClientResponse | None) -> None:
    """Close the connection of a body that is left in the middle, without the goodbyes of TLS: they may never come."""
    if answered is None or answered.content.is_eof() or answered.connection is None:
        return
    if answered.connection.transport is not None:
        answered.connection.transport.abort()


def _loss_of_connection(answered: aiohttp.ClientResponse) -> asyncio.Future[None] | None:
    """What is done when the connection is lost; None where it is no more, since the whole body is here."""
    if answered.connection is None or answered.connection.protocol is None:
        return None
    lost = answered.connection.protocol.closed
    if lost is not None:
        lost.remove_done_callback(_retrieve)  # one is enough for all answers of a connection
        lost.add_done_callback(_retrieve)
    return lost


def _retrieve(lost: asyncio.Future[None]) -> None:
    """Take note of how the connection was lost, since asyncio complains of errors that nobody has looked at."""
    if not lost.cancelled():
        lost.exception()
