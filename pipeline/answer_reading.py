"""Reads the body of an answer without I/O: bytes in any chunking become the answer's text, and what is known of it.

The body is a stream of events, or a JSON document that came whole although a stream was asked for, or a web page; its
first byte tells, since content types often do not.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import NamedTuple

from pydantic_core import from_json

from pipeline.deltas import DONE, AnswerText, Delta, read_delta
from pipeline.domain import Usage
from pipeline.errors import (
    AnswerCutError,
    AnswerFilteredError,
    AnswerLimitError,
    AnswerRefusedError,
    EndpointFatalError,
)
from pipeline.refusals import MAX_WORDS, bounded
from pipeline.sse import BLOCK_END, MESSAGE, SseDecoder, read_event, unknown_line

MAX_WHOLE_ANSWER_BYTES = 4_000_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WINDOW = 32_768  # bytes that are looked through at once for blocks of one frame
_MOST_FRAMES = 4  # an answer whose events look different each time is not worth more attempts
_TEXT_FIELD = re.compile(rb'"(?:content|arguments)"\s*:\s*(?=")')
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*\{')
_PROBE = "\u00b7"
_LOST_HALF = "\ufffd"


class _Frame(NamedTuple):
    """What nearly every block of a stream has around its text: the same bytes before it and the same bytes after it.

    A block in this frame is the same event with the same JSON document but for one string, so that string is all there
    is to read.
    """

    before: bytes
    after: bytes
    end: bytes  # `after` and the block's end
    channel: int

    def is_quiet(self, chunk: bytes) -> bool:
        """Whether the chunk is one block in this frame whose text cannot complete an object: it closes no bracket."""
        if not (chunk.startswith(self.before) and chunk.endswith(self.end)):
            return False
        text = chunk[len(self.before) : -len(self.end)]
        if b"}" in text or b"\\u" in text:  # the second may be a bracket, too
            return False
        return b"\n" not in text and _STRING.fullmatch(text) is not None  # else it says something else, too

    def text_at(self, blocks: bytes, at: int) -> tuple[str, int]:
        """The text of the blocks in this frame that stand at `at`, and the place after them."""
        first_end = blocks.find(BLOCK_END, at)
        if not (blocks.startswith(self.before, at) and blocks.endswith(self.after, at, first_end)):
            return "", at
        strings = [blocks[at + len(self.before) : first_end - len(self.after)]]
        if first_end + len(BLOCK_END) < len(blocks):
            window_end = blocks.rfind(BLOCK_END, first_end, max(at + _WINDOW, first_end + 2)) + len(BLOCK_END)
            strings = self._strings_in(blocks[at + len(self.before) : window_end])
        texts = _read_strings(strings)
        read = len(texts) * (len(self.before) + len(self.end)) + sum(map(len, strings[: len(texts)]))
        return "".join(texts), at + read

    def _strings_in(self, blocks: bytes) -> list[bytes]:
        """The strings of the blocks in this frame with which `blocks`, but for the first `before`, begins."""
        *inner, last = blocks.split(self.end + self.before)
        strings = list(takewhile(_STRING.fullmatch, inner))
        string, found, _ = (inner[len(strings)] if len(strings) < len(inner) else last).partition(self.end)
        if found and _STRING.fullmatch(string):
            strings.append(string)
        return strings


class AnswerReader:
    """Reads one answer. `feed` may be called with any split of the body; the text does not depend on the split."""

    def __init__(self, endpoint: str = "the endpoint") -> None:
        self._endpoint = endpoint
        self._first: bytes | None = b""  # the body's beginning, to be quoted where it is no answer; None where it is
        self._kind = ""  # `events` or `whole`, once it is known
        self._decoder = SseDecoder()
        self._whole = bytearray()
        self._frame: _Frame | None = None
        self._frames_tried = 0
        self._halves: dict[int, str] = {}  # by channel: half of a character, whose other half may still come
        self._refusal = ""
        self._spoke_on = False  # text came after a finish reason: that word means nothing here
        self._unread = b""  # an event, or what stood in its place, that says nothing we know
        self.done = False  # nothing follows
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.model: str | None = None

    def feed(self, chunk: bytes) -> Iterable[AnswerText]:
        """The text that `chunk` adds, in as few pieces as it allows. Read it to its end before the next chunk.

        Raises:
            EndpointRefusedError (or one of its kinds): the answer holds an error.
            EndpointFatalError: a web page answers.
            AnswerCutError: the body is not what it should be.
        """
        if self._first is not None:
            chunk = self._tell_apart(self._first, chunk)
        if self._kind == "events":
            return self._take_all(self._decoder.feed(chunk))
        if self._kind == "whole":
            self._whole += chunk
            if len(self._whole) > MAX_WHOLE_ANSWER_BYTES:
                raise AnswerCutError(f"the endpoint sent an answer of over {MAX_WHOLE_ANSWER_BYTES:,} bytes")
        return ()

    def end(self) -> Iterator[AnswerText]:
        """Yield what is left when the body has ended.

        Raises:
            EndpointRefusedError (or one of its kinds), AnswerCutError: as `feed`.
        """
        if self._kind == "whole":
            delta = read_delta(bytes(self._whole))
            self.done = bool(delta.texts or delta.refusal or delta.finish_reason)
            yield from self._take(delta)
        elif not self.done:
            yield from self._take_rest(self._decoder.end())
        for channel in self._halves:
            yield AnswerText(_LOST_HALF, channel)

    def judge_ending(self) -> None:
        """Say how the answer ended, if not well.

        Raises:
            AnswerRefusedError: the model declined.
            AnswerFilteredError: the endpoint's content filter stopped it.
            AnswerLimitError: the model stopped at its length limit.
            AnswerCutError: the body ended before the answer had.
        """
        if self._refusal:
            raise AnswerRefusedError(f"the model refused to answer: {bounded(self._refusal)}")
        if self.finish_reason == "length":
            raise AnswerLimitError("the model stopped at its length limit: ask for fewer products")
        if self.finish_reason == "content_filter":
            raise AnswerFilteredError("the endpoint's content filter stopped the answer")
        if self.finish_reason not in {None, "stop"}:
            raise AnswerCutError(f"the model ended its answer for a reason that is not known: {self.finish_reason!r}")
        if not (self.has_ended or self.done):
            raise AnswerCutError(self._how_it_broke_off())
        if self.finish_reason is None and self._unread:
            raise AnswerCutError(
                f"the stream ended without a finish reason, after what is no answer: {bounded(self._unread)!r}"
            )

    @property
    def is_quiet(self) -> Callable[[bytes], bool] | None:
        """Tells of a chunk that may come next whether it can wait, to be fed with the one after it; None: none can.

        Its text can complete no object. So an endpoint that sends a token at a time can be read an object at a time.
        """
        if self._frame is None or self.finish_reason is not None or not self._decoder.is_between_events:
            return None  # text after a finish reason is to be noticed at once
        return self._frame.is_quiet

    @property
    def has_ended(self) -> bool:
        """True once the model has said its last word: what may follow is a count of tokens."""
        return self.finish_reason is not None and not self._spoke_on

    def _how_it_broke_off(self) -> str:
        if self._first is None:
            return f"the stream from {self._endpoint} broke off before the answer had ended"
        if not self._first.strip():
            return f"{self._endpoint} sent an empty answer"
        return f"{self._endpoint} sent something that is no answer: {bounded(self._first)!r}"

    def _tell_apart(self, before: bytes, chunk: bytes) -> bytes:
        """Find out what kind of body it is; what is to be read of it now."""
        beginning = before + chunk
        self._first = beginning[:MAX_WORDS]
        if self._kind:
            return chunk
        start = beginning.removeprefix(_BYTE_ORDER_MARK).lstrip()
        if not start or _BYTE_ORDER_MARK.startswith(beginning):
            self._first = beginning[-MAX_WORDS:]
            return b""
        if start.startswith(b"<"):
            raise web_page(self._endpoint)
        self._kind = "whole" if start.startswith((b"{", b"[")) else "events"
        return start if self._kind == "whole" else beginning

    def _take_all(self, blocks: bytes) -> Iterator[AnswerText]:
        """Read whole blocks: as many at once as are in one frame, the others one by one."""
        at = 0
        while at < len(blocks) and not self.done:
            if self._frame is not None:
                text, at = self._frame.text_at(blocks, at)
                if text:
                    self._note_text()
                    yield self._mended(AnswerText(text, self._frame.channel))
            end = blocks.find(BLOCK_END, at)
            if end == -1:
                return  # nothing, or one more empty line
            yield from self._take_block(blocks[at:end])
            at = end + len(BLOCK_END)

    def _take_rest(self, blocks: bytes) -> Iterator[AnswerText]:
        try:
            yield from self._take_all(blocks)
        except AnswerCutError:
            return  # a piece of an event: how the answer ended is told by what came before

    def _take_block(self, block: bytes) -> Iterator[AnswerText]:
        event = read_event(block)
        if event is None or not (data := event.data.strip()):
            self._unread = self._unread or unknown_line(block)
            return  # a sign of life
        if data == DONE:
            self.done = True
            self._first = None
            return
        delta = read_delta(data, event.name)
        self._first = None
        if not (_CHOICE.search(data) or delta.texts or _says_more(delta)):
            self._unread = self._unread or data[:MAX_WORDS]
        if delta.texts and event.name == MESSAGE and self._frames_tried < _MOST_FRAMES:
            self._frames_tried += 1
            self._frame = _frame_of(block) or self._frame
        yield from self._take(delta)

    def _take(self, delta: Delta) -> Iterator[AnswerText]:
        self.model = delta.model or self.model
        if delta.texts:
            self._note_text()
        if self.finish_reason in {None, "stop"}:  # a proxy may add a stop of its own to an answer that was cut short
            self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage
        self._refusal = (self._refusal + delta.refusal)[: MAX_WORDS + 1]
        for piece in delta.texts:
            yield self._mended(piece)
        if delta.error is not None:
            raise delta.error

    def _note_text(self) -> None:
        self._spoke_on = self._spoke_on or self.finish_reason is not None

    def _mended(self, piece: AnswerText) -> AnswerText:
        """Put together characters whose halves came in two deltas; a half that stays alone is no character."""
        if not self._halves and piece.text.isascii():
            return piece
        text = self._halves.pop(piece.channel, "") + piece.text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[piece.channel], text = text[-1], text[:-1]
        return AnswerText(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), piece.channel)


def _read_strings(strings: list[bytes]) -> list[str]:
    """The JSON strings, up to the first that is none."""
    if len(strings) > 1:
        try:
            texts: list[str] = from_json(b"[" + b",".join(strings) + b"]")
        except ValueError:
            pass
        else:
            return texts
    return list(_read_one_by_one(strings))


def _read_one_by_one(strings: list[bytes]) -> Iterator[str]:
    for string in strings:
        try:
            text = from_json(string)
        except ValueError:
            return
        if type(text) is not str:
            return
        yield text


def web_page(endpoint: str) -> EndpointFatalError:
    """The error for an endpoint that is none."""
    return EndpointFatalError(
        f"{endpoint} answered with a web page: is OPENAI_BASE_URL right (it often ends in /v1)?", in_band=True
    )


def _frame_of(block: bytes) -> _Frame | None:
    """The frame that this block shows, if it is one line of data with one text in it that says nothing else."""
    fields = list(_TEXT_FIELD.finditer(block))
    if len(fields) != 1 or (string := _STRING.match(block, fields[0].end())) is None:
        return None
    before, after = block[: string.start()], block[string.end() :]
    if not before.startswith(b"data:") or b"\n" in before or b"\n" in after:
        return None
    probe = read_delta(before.removeprefix(b"data:") + b'"' + _PROBE.encode() + b'"' + after)
    if [piece.text for piece in probe.texts] != [_PROBE] or _says_more(probe):
        return None
    if read_delta(before.removeprefix(b"data:") + b'""' + after).texts:
        return None  # where that text is empty, another is read
    return _Frame(before, after, after + BLOCK_END, probe.texts[0].channel)


def _says_more(delta: Delta) -> bool:
    return bool(delta.finish_reason or delta.usage or delta.refusal or delta.error)
