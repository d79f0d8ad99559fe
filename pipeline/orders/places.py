"""So many at a time, in the order in which they came; how many that is may change at any moment."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """Places that are taken and given back. With `most` at None there is no end of them, at 0 there are none."""

    def __init__(self) -> None:
        self.most: int | None = None
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def allow(self, most: int | None) -> None:
        """From now on so many at a time. Whoever has a place keeps it."""
        self.most = most
        self._let_in()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place, and keep it inside."""
        await self._take()
        try:
            yield
        finally:
            self._give_back()

    async def _take(self) -> None:
        if self._is_free():  # then nobody waits
            self.taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()  # it was let in and cancelled in the same turn of the loop
            raise

    def _give_back(self) -> None:
        self.taken -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._is_free():
            turn = self._waiting.popleft()
            if not turn.done():  # or he who waited was cancelled
                self.taken += 1
                turn.set_result(None)

    def _is_free(self) -> bool:
        return self.most is None or self.taken < self.most
