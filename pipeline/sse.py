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
        self._rest = b""  # bytes of a line that has not ended
        self._at_start = True
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes.

        Raises:
            AnswerCutError: one event exceeds the bound, so the other side does not speak this protocol.
        """
        for line in self._lines(self._rest + chunk):
            event = self._take(line)
            if event is not None:
                yield event

    def _lines(self, text: bytes) -> Iterator[bytes]:
        if self._at_start:
            if _BYTE_ORDER_MARK.startswith(text):
                self._rest = text
                return
            text = text.removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        begin = 0
        for end in _LINE_END.finditer(text):
            if end.end() == len(text) and end.group() == b"\r":
                break  # the LF that may belong to it has not arrived
            yield text[begin : end.start()]
            begin = end.end()
        self._rest = text[begin:]
        self._refuse_beyond_bound(len(self._rest))

    def _take(self, line: bytes) -> Event | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
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
