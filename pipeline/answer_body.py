"""The body of one answer: its bytes as they arrive, and the time-outs that a stream needs. I/O, but no protocol.

Between the socket and the `openai` client's raw body lie four generators and two timers, which cost more for each
chunk than all that we do with it. So the body is read at its source, the reader that aiohttp fills, where that can be
had, and one timer a stream looks now and then whether it has waited too long.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
import httpx2

from pipeline.answer_source import AnswerSource, IsQuiet, aiohttp_response, hang_up
from pipeline.errors import AnswerError, AnswerOverdueError, AnswerStalledError

_PATIENCE_AFTER_FINISH_S = 5.0
_PATIENCE_AFTER_DONE_S = 0.5


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one answer may take. Moments are the event loop's times, the others seconds."""

    first_byte_s: float
    idle_s: float
    answer_s: float
    begin: float

    @property
    def first_byte_by(self) -> float:
        """The moment at which the first byte must be here."""
        return min(self.begin + self.first_byte_s, self.deadline)

    @property
    def deadline(self) -> float:
        """The moment at which the whole answer must be here."""
        return self.begin + self.answer_s


class AnswerBody:
    """Reads one body, chunk by chunk. What has arrived is given before the error that follows it is raised."""

    def __init__(
        self,
        incoming: AsyncGenerator[bytes],
        source: AnswerSource | None,
        patience: Patience,
        endpoint: str,
    ) -> None:
        self._incoming = incoming
        self._source = source
        self._chunk = self._chunk_through_layers if source is None else source.read
        self._patience = patience
        self._deadline = patience.deadline
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._begun = False
        self._finished = False
        self._idle_s = patience.idle_s
        self._failure: Exception | None = None
        self._timer = self._loop.call_at(patience.first_byte_by, self._look)

    @property
    def at_source(self) -> bool:
        """True where the bytes are read from aiohttp's own reader."""
        return self._source is not None

    async def read(self, is_quiet: IsQuiet | None = None) -> bytes:
        """The next bytes; none at the end of the body. Pieces that are quiet may be held until one comes that is not.

        Raises:
            AnswerStalledError: nothing came for too long.
            AnswerOverdueError: the answer has taken too long.
            aiohttp.ClientError, httpx2.HTTPError, OSError: the connection broke.
        """
        if self._failure is not None:
            raise self._failure
        now = self._loop.time()
        if now > self._deadline:  # what is buffered never waits, so that no timer sees it
            return self._last_words(self._too_late(now))
        try:
            chunk = await self._chunk(is_quiet)
        except (aiohttp.ClientError, AnswerError, OSError, RuntimeError) as error:
            chunk = self._last_words(_named(error))
        if not self._begun:
            self._begun = True
            self._timer.cancel()
            self._look()
        return chunk

    def finish(self) -> None:
        """The answer is whole: what may follow is a count of tokens, and is not worth a long wait."""
        if not self._finished:
            self._finished = True
            self._idle_s = min(self._idle_s, _PATIENCE_AFTER_FINISH_S)
            self._timer.cancel()
            self._look()

    async def read_out(self) -> None:
        """Wait a moment for the end that HTTP itself has, so that the connection can serve the next request."""
        if self._failure is not None or (self._source is not None and self._source.at_end):
            return
        with suppress(AnswerError, httpx2.HTTPError, aiohttp.ClientError, OSError, RuntimeError):  # it is whole already
            async with asyncio.timeout(_PATIENCE_AFTER_DONE_S):
                while await self._chunk(None):
                    pass

    def close(self) -> None:
        """Stop looking at the clock and the connection."""
        self._timer.cancel()
        if self._source is not None:
            self._source.close()

    async def _chunk_through_layers(self, is_quiet: IsQuiet | None) -> bytes:
        del is_quiet  # each piece costs so much here that looking at it adds little
        try:
            async with asyncio.timeout_at(self._due(self._loop.time())):
                return await anext(self._incoming, b"")
        except TimeoutError:
            raise self._too_late(self._loop.time()) from None

    def _last_words(self, failure: Exception) -> bytes:
        """What has arrived before the failure, which is raised at the next read; at once, if nothing has."""
        self._failure = failure
        chunk = b"" if self._source is None else self._source.take_buffered()
        if not chunk:
            raise failure
        return chunk

    def _look(self) -> None:
        """End a wait that has lasted too long, or look again when it would have."""
        now, source = self._loop.time(), self._source
        since = None if source is None else source.waiting_since
        due = self._due(now if since is None else since)
        if source is None or since is None or now < due:
            again = due if due > now else now + self._idle_s / 8  # nobody waits: the reader is busy with what it has
            self._timer = self._loop.call_at(again, self._look)
        else:
            source.fail(self._too_late(now))

    def _due(self, since: float) -> float:
        """The moment at which a wait that began at `since` has lasted too long."""
        if not self._begun:
            return self._patience.first_byte_by
        return min(since + self._idle_s, self._deadline)

    def _too_late(self, now: float) -> AnswerError:
        if now >= self._deadline:
            return AnswerOverdueError(
                f"the answer from {self._endpoint} was not there whole after {self._patience.answer_s:g} s: ask for "
                "fewer products, or raise answer_timeout_s"
            )
        waited, setting = self._idle_s, "idle_timeout_s"
        if not self._begun:
            waited, setting = self._patience.first_byte_s, "first_byte_timeout_s"
        return AnswerStalledError(
            f"the stream from {self._endpoint} stalled: nothing came for {waited:g} s (see {setting})"
        )


@asynccontextmanager
async def open_body(response: httpx2.Response, patience: Patience, endpoint: str) -> AsyncIterator[AnswerBody]:
    """The body of this response; the response itself is closed by who opened it."""
    async with aclosing(response.aiter_bytes()) as incoming:
        answered = aiohttp_response(response)
        is_plain = response.headers.get("content-encoding", "identity").lower() == "identity"
        source = AnswerSource(answered) if is_plain and answered is not None else None
        body = AnswerBody(incoming, source, patience, endpoint)
        try:
            yield body
        finally:
            body.close()
            hang_up(answered)


def _named(error: Exception) -> Exception:
    """The error, or what it means: a RuntimeError is aiohttp's where its reader was not told of a connection's end."""
    return aiohttp.ClientConnectionError(str(error)) if isinstance(error, RuntimeError) else error
