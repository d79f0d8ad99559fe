"""Server-sent events without I/O: bytes in any chunking become blocks, one an event, and a block becomes an event.

The rules are those of the HTML standard, section 9.2.6 "Interpreting an event stream": lines end with LF, CRLF or CR
and with nothing else (U+2028 is a legal character inside JSON strings), a byte order mark may come first, and an empty
line ends an event.
"""

from typing import NamedTuple

from pipeline.errors import AnswerCutError

MAX_EVENT_BYTES = 4_000_000
MESSAGE = "message"
BLOCK_END = b"\n\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its name (`message` if the stream named none) and its data, lines joined by LF."""

    name: str
    data: bytes


class SseDecoder:
    """Cuts one stream into whole blocks, the lines of one event each. All lines come out ended by LF.

    `feed` may be called with any split of the bytes; the blocks do not depend on the split.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._start: bytes | None = b""  # what may become a byte order mark; None when that is settled
        self._after_return = False
        self._rest = bytearray()  # a block that has not ended
        self._overflow: AnswerCutError | None = None

    def feed(self, chunk: bytes) -> bytes:
        """The blocks that `chunk` completes, one after the other, each ended by its empty line.

        Raises:
            AnswerCutError: an event exceeds the bound, so the other side does not speak this protocol. The blocks
                before it have been returned.
        """
        if self._is_whole(chunk):
            return chunk
        if self._overflow is not None:
            raise self._overflow
        lines = self._with_one_line_end(self._without_mark(chunk))
        searched = len(self._rest)
        if searched:
            self._rest += lines
            if self._rest.find(BLOCK_END, searched - 1) == -1:
                self._refuse_beyond_bound(self._rest)
                return b""
            lines = bytes(self._rest)
        end = lines.rfind(BLOCK_END) + len(BLOCK_END) if BLOCK_END in lines else 0
        self._rest = bytearray(lines[end:])
        return lines[:end] if len(lines) <= self._max_event_bytes else self._up_to_bound(lines[:end])

    def end(self) -> bytes:
        """The block that a body left without its empty line when it ended.

        The standard drops it. Endpoints exist that end so, and a cut event gives itself away by what is in it: a piece
        of a JSON document is none.
        """
        return self.feed(BLOCK_END)

    @property
    def is_between_events(self) -> bool:
        """True where all that came is cut into blocks, so that nothing before the next byte matters to it."""
        return not (self._rest or self._after_return or self._start is not None or self._overflow is not None)

    def _is_whole(self, chunk: bytes) -> bool:
        """Whether nothing is to be done: a chunk begins and ends with a block, as nearly all of a slow stream do."""
        return (
            self.is_between_events
            and chunk.endswith(BLOCK_END)
            and b"\r" not in chunk
            and len(chunk) <= self._max_event_bytes
        )

    def _without_mark(self, chunk: bytes) -> bytes:
        if self._start is None:
            return chunk
        self._start += chunk
        if _BYTE_ORDER_MARK.startswith(self._start):
            return b""  # too little to tell, or the mark and nothing else so far
        chunk, self._start = self._start.removeprefix(_BYTE_ORDER_MARK), None
        return chunk

    def _with_one_line_end(self, chunk: bytes) -> bytes:
        if self._after_return and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF whose line has been taken
            self._after_return = False
        if b"\r" not in chunk:
            return chunk
        self._after_return = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _up_to_bound(self, blocks: bytes) -> bytes:
        passed = 0
        for block in blocks.split(BLOCK_END):
            self._refuse_beyond_bound(block)
            if self._overflow is not None:
                return blocks[:passed]
            passed += len(block) + len(BLOCK_END)
        self._refuse_beyond_bound(self._rest)
        return blocks

    def _refuse_beyond_bound(self, block: bytes | bytearray) -> None:
        """Remember the error: what came before is still to be read."""
        if len(block) - block.endswith(b"\n") > self._max_event_bytes:  # that end may become the empty line's
            self._rest.clear()
            self._overflow = AnswerCutError(
                f"the endpoint sent an event of over {self._max_event_bytes:,} bytes: it does not speak this protocol"
            )


def unknown_line(block: bytes) -> bytes:
    """The first line of a block that is of no field of the standard and no comment; nothing if there is none."""
    for line in block.split(b"\n"):
        if line.partition(b":")[0] not in {b"", b"data", b"event", b"id", b"retry"}:
            return line
    return b""


def read_event(block: bytes) -> Event | None:
    """The event that a block's lines give; None where none is data. Comments, `id` and `retry` say nothing."""
    event_name, data = b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            event_name = value
        elif field == b"error":  # llama.cpp's, until 2025
            event_name = field
            data.append(value)
        elif line.startswith(b"{"):  # no field has such a name: an error that was put on the wire as it was
            data.append(line)
    if event_name == b"error" and not data:
        data.append(b"an error without a word")
    if not data:
        return None
    return Event(event_name.decode("utf-8", "replace") or MESSAGE, b"\n".join(data))
