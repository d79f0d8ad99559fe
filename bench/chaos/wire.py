"""Just enough of Postgres's wire to know when rows are written and when the server has answered. No I/O.

Every message but the first of a client is a type byte, a length of four bytes that counts itself, and a body.
"""

import re
from collections.abc import Iterator

_WRITE = re.compile(rb"INSERT\s+INTO\s+recommendations\b", re.IGNORECASE)


class ClientSide:
    """Follows what a client sends. `name` is its application_name, once its first message is in."""

    def __init__(self) -> None:
        self.name = ""
        self._is_greeted = False
        self._received = b""
        self._writes: set[bytes] = set()  # the prepared statements that write rows
        self._bound = False
        self._executed = False

    def feed(self, data: bytes) -> bool:
        """True where `data` ends an order to write rows: from here on the server may commit them."""
        self._received += data
        ordered = False
        if not self._is_greeted:
            self._greet()
        if self._is_greeted:
            for kind, body in self._messages():
                ordered |= self._take(kind, body)
        return ordered

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        messages, self._received = split(self._received)
        return iter(messages)

    def _greet(self) -> None:
        length = int.from_bytes(self._received[:4])
        if len(self._received) < 4 or len(self._received) < length:
            return
        words = self._received[8:length].split(b"\0")
        told = dict(zip(words[::2], words[1::2], strict=False))
        self.name = told.get(b"application_name", b"").decode()
        self._received = self._received[length:]
        self._is_greeted = True

    def _take(self, kind: bytes, body: bytes) -> bool:
        if kind == b"P":  # Parse: the statement's name, its text
            name, _, query = body.partition(b"\0")
            (self._writes.add if _WRITE.search(query) else self._writes.discard)(name)
        elif kind == b"B":  # Bind: the portal, the statement's name
            self._bound = body.split(b"\0", 2)[1] in self._writes
        elif kind == b"E":  # Execute
            self._executed |= self._bound
        elif kind == b"Q":  # a plain query
            return _WRITE.search(body) is not None
        elif kind == b"S":  # Sync: the transaction ends here, unless it was begun by hand
            ordered, self._executed = self._executed, False
            return ordered
        return False


class ServerSide:
    """Follows what the server answers."""

    def __init__(self) -> None:
        self._received = b""
        self._wrote = False

    def feed(self, data: bytes) -> bool:
        """True where `data` ends the answer to an order that inserted rows: they are committed.

        Where a transaction was begun by hand, that is the answer to its COMMIT.
        """
        messages, self._received = split(self._received + data)
        answered = False
        for kind, body in messages:
            if kind == b"C":  # CommandComplete: a tag such as `INSERT 0 12`
                self._wrote = (self._wrote or body.startswith(b"INSERT")) and not body.startswith(b"ROLLBACK")
            elif kind == b"Z" and body == b"I":  # ReadyForQuery, outside of any transaction
                answered, self._wrote = answered or self._wrote, False
        return answered


def split(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The whole messages, type and body, and what is left behind them."""
    messages = []
    at = 0
    while len(data) - at >= 5 and len(data) - at > (length := int.from_bytes(data[at + 1 : at + 5])):
        messages.append((data[at : at + 1], data[at + 5 : at + 1 + length]))
        at += 1 + length
    return messages, data[at:]
