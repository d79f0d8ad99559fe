"""Server-sent events without I/O: bytes in any chunking become events.

The rules are those of the HTML standard, section 9.2.6 "Interpreting an event stream": lines end with LF, CRLF or CR
and with nothing else (U+2028 is a legal character inside JSON strings), a byte order mark may come first, an empty line
ends an event, and an event that the stream's end cut off is dropped.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import AnswerCutError

MAX_EVENT_BYTES = 4_000_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name (`message` if the stream named none) and its data, lines joined by LF."""

    name: str
    data: bytes


class SseDecoder:
    """Decodes one stream. `feed` may be called with any split of the bytes; the events do not depend on the split."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._start: bytes | None = b""  # what may become a byte order mark; None when that is settled
        self._line = bytearray()  # a line that has not ended
        self._after_return = False
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes.

        Raises:
            AnswerCutError: one event exceeds the bound, so the other side does not speak this protocol.
        """
        for line in self._lines(self._without_mark(chunk)):
            event = self._take(line)
            if event is not None:
                yield event

    def _without_mark(self, chunk: bytes) -> bytes:
        if self._start is None:
            return chunk
        self._start += chunk
        if _BYTE_ORDER_MARK.startswith(self._start):
            return b""  # too little to tell, or the mark and nothing else so far
        chunk, self._start = self._start.removeprefix(_BYTE_ORDER_MARK), None
        return chunk

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_return and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF whose line has been taken
            self._after_return = False
        begin = 0
        for end in _LINE_END.finditer(chunk):
            self._lengthen_line(chunk[begin : end.start()])
            line = bytes(self._line)
            self._line.clear()
            yield line
            begin = end.end()
        self._after_return = self._after_return or chunk.endswith(b"\r")
        self._lengthen_line(chunk[begin:])

    def _lengthen_line(self, piece: bytes) -> None:
        self._line += piece
        self._refuse_beyond_bound(len(self._line))

    def _take(self, line: bytes) -> Event | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1  # the LF that joins it to the next
            self._refuse_beyond_bound(self._size)
        elif name == b"event":
            self._name = value
        return None  # `id`, `retry`, comments and unknown fields change nothing for us

    def _complete(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data, self._size = b"", [], 0
        if not data:
            return None
        return Event(name.decode("utf-8", "replace") or "message", b"\n".join(data))

    def _refuse_beyond_bound(self, size: int) -> None:
        if size > self._max_event_bytes:
            raise AnswerCutError(
                f"the endpoint sent an event of over {self._max_event_bytes:,} bytes: it does not speak this protocol"
            )
