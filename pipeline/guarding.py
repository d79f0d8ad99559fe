"""Work that goes on for as long as nothing stands against it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Never, TypeVar

T = TypeVar("T")


async def guarded(work: Coroutine[Any, Any, T], guard: Coroutine[Any, Any, Never]) -> T:
    """Do the work to its end. If the guard raises meanwhile, the work is cancelled, and has ended before the error."""
    working, guarding = asyncio.create_task(work), asyncio.create_task(guard)
    try:
        await asyncio.wait({working, guarding}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await guarding
        return await working
    finally:
        await _end(working)
        await _end(guarding)


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel what is not done, and wait for its end. How it ended is told already, or matters no more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen, so that asyncio does not complain
