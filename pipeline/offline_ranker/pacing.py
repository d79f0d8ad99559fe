"""Lets tokens out at a set rate against a clock: a late wake-up is made good, so that nothing drifts."""

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from pipeline.offline_ranker.throughput import Throughput

_MOST_AT_ONCE = 32
_ROUNDING = 1e-6  # of a token


class Pace:
    """One stream's clock, which starts when it is made. Make it with `paced`."""

    def __init__(self, throughput: Throughput) -> None:
        self._throughput = throughput
        self._loop = asyncio.get_running_loop()
        self._start = throughput.progress(self._loop.time())
        self._released = 0

    async def released(self, tokens: Iterable[str]) -> AsyncGenerator[tuple[str, ...]]:
        """Yield the tokens in groups of those that are due by now, at most 32 a group."""
        waiting = iter(tokens)
        while group := tuple(islice(waiting, await self._allowance())):
            self._released += len(group)
            yield group

    async def wait_for(self, count: int) -> None:
        """Wait until `count` tokens are due."""
        missing = self._missing(count)
        while missing > _ROUNDING:  # the rate may have changed meanwhile
            await asyncio.sleep(missing / self._throughput.rate)
            missing = self._missing(count)

    def restart(self) -> None:
        """Count the time from now: what was held up on purpose is not made good."""
        self._start = self._throughput.progress(self._loop.time())
        self._released = 0

    def _missing(self, count: int) -> float:
        """How many tokens must become due before `count` are; none where nothing paces them."""
        return max(count - 1, 0) - self._due() if math.isfinite(self._throughput.rate) else 0.0

    def _due(self) -> float:
        """The tokens that are due after the first one."""
        return self._throughput.progress(self._loop.time()) - self._start

    async def _allowance(self) -> int:
        if math.isinf(self._throughput.rate):
            await asyncio.sleep(0)  # gives every other stream its turn
            return _MOST_AT_ONCE
        await self.wait_for(self._released + 1)
        late = int(self._due() + _ROUNDING) + 1 - self._released
        return min(max(late, 1), _MOST_AT_ONCE)


@contextmanager
def paced(throughput: Throughput) -> Iterator[Pace]:
    """A stream that shares in the throughput while the block runs."""
    loop = asyncio.get_running_loop()
    throughput.open(loop.time())
    try:
        yield Pace(throughput)
    finally:
        throughput.close(loop.time())
