"""Tells whoever listens which rows were committed: lossy, over a connection of its own, so that nobody waits for it.

A transaction that notifies takes a lock of the whole server when it commits, so the writer's own must not be one.
"""

import asyncio
import json
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from os import dup
from socket import SHUT_RDWR, socket
from typing import Final

import psycopg
from psycopg import AsyncConnection

from pipeline.committing import Row
from pipeline.database import connect_as_writer
from pipeline.domain import RunId
from pipeline.errors import DatabaseError, first_line

CHANNEL: Final = "recommendation_committed"
MOST_UNTOLD: Final = 10_000
_LONGEST_PAYLOAD: Final = 7_999  # bytes; Postgres refuses a longer one, and all that are sent with it
_STUCK_S: Final = 10.0  # a notification takes milliseconds
_LAST_WORDS_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 5.0

_log = logging.getLogger(__name__)


class Notifier:
    """Notifies of one run's rows, or gives them up. Open it with `open_notifier`. `lost` counts what was given up."""

    def __init__(self, url: str, run_id: RunId) -> None:
        self._url = url
        self._run_id = run_id
        self._untold: deque[Row] = deque(maxlen=MOST_UNTOLD)
        self._arrived = asyncio.Event()
        self._connection: AsyncConnection | None = None
        self._ending = False
        self._failures = 0
        self.lost = 0

    def tell(self, rows: Sequence[Row]) -> None:
        """Have listeners told of these rows soon. It neither waits nor raises: of too many, the oldest are lost."""
        too_many = self.waiting + len(rows) - MOST_UNTOLD
        if too_many > 0:
            self._lose(too_many, f"more than {MOST_UNTOLD:,} rows wait to be told")
        self._untold.extend(rows)
        self._arrived.set()

    @property
    def waiting(self) -> int:
        """How many rows are not told yet, but for those that are being told."""
        return len(self._untold)

    async def run(self) -> None:
        """Notify of what arrives, until it is ended and everything is told."""
        while self._untold or not self._ending:
            await self._arrived.wait()
            self._arrived.clear()
            payloads = self._payloads()
            try:
                async with asyncio.timeout(_STUCK_S):
                    await self._notify(payloads)
            except (psycopg.Error, DatabaseError, TimeoutError) as error:
                self._failures += 1
                self._lose(len(payloads), first_line(error))
                await self.close()  # another connection may find a server that is well
                if self._ending:
                    return
                await asyncio.sleep(_pause(self._failures))
            else:
                self._failures = 0

    async def end(self, telling: asyncio.Task[None]) -> None:
        """Give the last rows a moment, then end the task that runs this notifier."""
        self._ending = True
        self._arrived.set()
        try:
            _, stuck = await asyncio.wait({telling}, timeout=_LAST_WORDS_S)
            if stuck:
                self._hang_up()
                await asyncio.wait(stuck, timeout=_LAST_WORDS_S)
        finally:
            telling.cancel()
            (ended_by,) = await asyncio.gather(telling, return_exceptions=True)
            await self.close()
        self._lose(self.waiting, "the run ended before they were told")
        if isinstance(ended_by, Exception):
            raise ended_by

    def _hang_up(self) -> None:
        """Have the statement that waits for its answer fail at once: psycopg's cancellation would wait for seconds."""
        if self._connection is not None and not self._connection.closed:
            # Closing would give the number of the socket away while the event loop still watches it.
            with suppress(OSError), socket(fileno=dup(self._connection.fileno())) as line:
                line.shutdown(SHUT_RDWR)

    async def close(self) -> None:
        """Close the connection; the next rows would open a new one."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _notify(self, payloads: list[str]) -> None:
        if not payloads:
            return
        if self._connection is None or self._connection.closed:
            self._connection = await connect_as_writer(self._url, "recstream notifier")
        await self._connection.execute(
            "SELECT count(pg_notify(%s, payload)) FROM unnest(%b::text[]) AS payload", (CHANNEL, payloads)
        )

    def _payloads(self) -> list[str]:
        rows = list(self._untold)
        self._untold.clear()
        payloads = [payload for row in rows if len(payload := self._payload(row)) <= _LONGEST_PAYLOAD]
        if len(payloads) < len(rows):
            self._lose(len(rows) - len(payloads), "its customer's id is too long for a notification")
        return payloads

    def _payload(self, row: Row) -> str:
        customer_id = json.dumps(row.customer_id)  # ASCII: as many characters as bytes
        return f'{{"run_id": "{self._run_id}", "customer_id": {customer_id}, "rank": {row.recommendation.rank}}}'

    def _lose(self, number: int, reason: str) -> None:
        if number and not self.lost:
            _log.warning(
                "listeners on %s of run %s miss rows from now on: %s; the rows themselves are committed",
                CHANNEL,
                self._run_id,
                reason,
            )
        self.lost += number


@asynccontextmanager
async def open_notifier(url: str, run_id: RunId) -> AsyncIterator[Notifier]:
    """A running notifier of this run's rows; at the end the last rows get a moment, and what is left is given up."""
    notifier = Notifier(url, run_id)
    telling = asyncio.create_task(notifier.run(), name="notifier")
    try:
        yield notifier
    finally:
        await notifier.end(telling)


def _pause(failures: int) -> float:
    longest: float = min(0.1 * 2 ** min(failures, 10), _LONGEST_PAUSE_S)
    return random.uniform(0.5, 1) * longest  # noqa: S311 - jitter
