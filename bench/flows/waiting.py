"""Waits for what happens in another process, within a bound."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from pipeline.errors import UnfinishedRunError

_LOOK_S = 0.1


async def until(holds: Callable[[], Awaitable[bool]], what: str, within_s: float) -> None:
    """Look ten times a second until it holds.

    Raises:
        UnfinishedRunError: it did not within this time; `what` says what was waited for.
    """
    end = time.monotonic() + within_s
    while not await holds():
        if time.monotonic() > end:
            raise UnfinishedRunError(f"waited {within_s:.0f} s in vain: {what}")
        await asyncio.sleep(_LOOK_S)
