"""Lets a task of its own read an async generator, and hands over what it yields.

A generator that is left without being closed is closed by the event loop, in no order: where generators are nested,
that fails with "asynchronous generator is already running". A task owns the nested ones here, and ends them in order
whenever it is cancelled, be it by the loop's own end.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def handed_over(source: AsyncGenerator[T]) -> AsyncIterator[Callable[[], Awaitable[T | None]]]:
    """Each call gives what `source` yields next, None at its end, and raises what it raises.

    The task is at most one item ahead of its reader, and ends with the block.
    """
    handed: asyncio.Queue[T] = asyncio.Queue(1)

    async def read() -> None:
        async with aclosing(source):
            async for item in source:
                await handed.put(item)

    reading = asyncio.create_task(read(), name="recommendations")

    async def following() -> T | None:
        waiting = asyncio.ensure_future(handed.get())
        try:
            await asyncio.wait({waiting, reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not waiting.done():
                waiting.cancel()
        if waiting.done() and not waiting.cancelled():
            return waiting.result()
        if not handed.empty():
            return handed.get_nowait()
        reading.result()  # raises what ended it
        return None

    try:
        yield following
    finally:
        reading.cancel()
        await asyncio.wait({reading})
