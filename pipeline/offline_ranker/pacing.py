"""Lets tokens out at a set rate against a clock: a late wake-up is made good, so that nothing drifts."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from itertools import islice

_MOST_AT_ONCE = 32


def due(elapsed: float, tokens_per_second: float) -> int:
    """Return how many tokens are due `elapsed` seconds after the first one, that one among them."""
    return int(elapsed * tokens_per_second + 1e-9) + 1


class Pace:
    """One stream's clock. It starts when it is made; `tokens_per_second` of 0 means as fast as it goes."""

    def __init__(self, tokens_per_second: float) -> None:
        self._rate = tokens_per_second
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._released = 0

    async def released(self, tokens: Iterable[str]) -> AsyncGenerator[tuple[str, ...]]:
        """Yield the tokens in groups of those that are due by now, at most 32 a group."""
        waiting = iter(tokens)
        while group := tuple(islice(waiting, await self._allowance())):
            self._released += len(group)
            yield group

    async def wait_for(self, count: int) -> None:
        """Wait until `count` tokens are due."""
        if self._rate:
            await asyncio.sleep(self._start + max(count - 1, 0) / self._rate - self._loop.time())

    def restart(self) -> None:
        """Count the time from now: what was held up on purpose is not made good."""
        self._start = self._loop.time()
        self._released = 0

    async def _allowance(self) -> int:
        await self.wait_for(self._released + 1)
        if not self._rate:
            await asyncio.sleep(0)  # gives every other stream its turn
            return _MOST_AT_ONCE
        late = due(self._loop.time() - self._start, self._rate) - self._released
        return min(max(late, 1), _MOST_AT_ONCE)
