"""The endpoints of the bench: offline rankers in processes of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from pipeline.offline_ranker.process import offline_ranker


@asynccontextmanager
async def silent_ranker(tokens_per_second: float) -> AsyncIterator[str]:
    """The address of one that writes nothing down. 0 tokens a second are as many as it can."""
    with ExitStack() as stack:
        starting = offline_ranker(tokens_per_second=tokens_per_second)
        ranker = await asyncio.to_thread(stack.enter_context, starting)
        yield ranker.base_url
        await asyncio.to_thread(stack.close)
