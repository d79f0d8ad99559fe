"""The way of one pipeline process to Postgres: a proxy that can be told to strike at an exact moment of a write."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from bench.chaos.wire import ClientSide, ServerSide

HOST = "127.0.0.1"
WRITER = "recstream writer"
_PIECE = 65_536


class Moment(StrEnum):
    """Where in the life of a written row."""

    WRITE_HELD_BACK = "write-held-back"  # the order to write is at the proxy; the server will not get it
    WRITE_PASSED = "write-passed"  # the server has it, and may or may not have committed
    REPLY_HELD_BACK = "reply-held-back"  # the server has committed; the client will not be told


@dataclass(slots=True)
class Link:
    """One connection of the process."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    asked: ClientSide = field(default_factory=ClientSide)
    answered: ServerSide = field(default_factory=ServerSide)

    def cut(self) -> None:
        """End it on both sides, without a word."""
        for side in (self.client, self.server):
            side.transport.abort()


@dataclass(frozen=True, slots=True)
class _Trap:
    moment: Moment
    strike: Callable[[Link], object]
    sprung: asyncio.Event


class Door:
    """The proxy's listening end. Open it with `open_door`."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._links: dict[int, Link] = {}
        self._trap: _Trap | None = None
        self._written = asyncio.Condition()
        self.writes = 0
        self.port = 0

    def arm(self, moment: Moment, strike: Callable[[Link], object]) -> asyncio.Event:
        """Have `strike` called at the next such moment, at once and before anything else is forwarded."""
        self._trap = _Trap(moment, strike, asyncio.Event())
        return self._trap.sprung

    def disarm(self) -> None:
        """Forget the trap."""
        self._trap = None

    async def written(self, number: int) -> None:
        """Wait until so many orders to write have passed since the door was opened."""
        async with self._written:
            await self._written.wait_for(lambda: self.writes >= number)

    def links(self) -> list[Link]:
        """The connections that stand, the oldest first."""
        return list(self._links.values())

    def cut_all_but_the_writer(self) -> None:
        """End every connection on which no rows are written: locks that are held on them become free."""
        for link in self.links():
            if link.asked.name != WRITER:
                link.cut()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to the server and back until either end is gone."""
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(str(self._socket_path))
        except OSError:  # Postgres is down
            writer.transport.abort()
            return
        link = Link(writer, up_writer)
        self._links[id(link)] = link
        pumps = [
            asyncio.create_task(self._forward_orders(reader, link)),
            asyncio.create_task(self._forward_answers(up_reader, link)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            del self._links[id(link)]
            link.cut()

    async def _forward_orders(self, reader: asyncio.StreamReader, link: Link) -> None:
        with suppress(OSError):  # either end is gone
            while data := await reader.read(_PIECE):
                ordered = link.asked.feed(data)
                if ordered:
                    self._spring(Moment.WRITE_HELD_BACK, link)
                if link.server.is_closing():
                    return
                link.server.write(data)
                await link.server.drain()
                if ordered:
                    await self._note_write()
                    self._spring(Moment.WRITE_PASSED, link)

    async def _forward_answers(self, reader: asyncio.StreamReader, link: Link) -> None:
        with suppress(OSError):  # either end is gone
            while data := await reader.read(_PIECE):
                if link.answered.feed(data) and link.asked.name == WRITER:
                    self._spring(Moment.REPLY_HELD_BACK, link)
                if link.client.is_closing():
                    return
                link.client.write(data)
                await link.client.drain()

    async def _note_write(self) -> None:
        async with self._written:
            self.writes += 1
            self._written.notify_all()

    def _spring(self, moment: Moment, link: Link) -> None:
        trap = self._trap
        if trap is not None and trap.moment is moment:
            self._trap = None
            trap.strike(link)
            trap.sprung.set()


@asynccontextmanager
async def open_door(socket_path: Path) -> AsyncIterator[Door]:
    """A door to the server that listens at `socket_path`; at the end its connections are cut."""
    door = Door(socket_path)
    listening = await asyncio.start_server(door.serve, HOST, 0)
    door.port = listening.sockets[0].getsockname()[1]
    try:
        yield door
    finally:
        listening.close()
        for link in door.links():
            link.cut()
        await listening.wait_closed()
