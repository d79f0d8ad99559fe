"""Keeps all processes that ask an endpoint to one limit: each renews its lease once a second and gets its share back.

What is known to all is decided in the database and by its clock alone: no time of a process goes there.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from hashlib import sha256
from importlib.resources import files
from os import dup
from socket import SHUT_RDWR, socket
from time import monotonic
from typing import Final
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from pipeline.database import address, connect_as_writer, translate
from pipeline.errors import DatabaseError, DatabaseUnavailableError
from pipeline.limits.lease import HOLDS_S, Lease, LimitKey, SharedLimiter
from pipeline.limits.shares import Share

__all__ = ["HOLDS_S", "LimitKey", "SharedLimiter", "account_of", "open_shared_limits", "open_shared_limits_of_all"]

_SHORTEST_INTERVAL_S: Final = 1.0
_LONGEST_INTERVAL_S: Final = 1.2
_STUCK_S: Final = 2.0  # a renewal takes milliseconds
_LAST_WORDS_S: Final = 1.0

_log = logging.getLogger(__name__)


def account_of(api_key: str) -> str:
    """What tells keys apart and gives none away: the first digits of the key's digest."""
    return sha256(api_key.encode()).hexdigest()[:12]


@asynccontextmanager
async def open_shared_limits(
    url: str, key: LimitKey, limiter: SharedLimiter, *, precedence: bool = False
) -> AsyncIterator[None]:
    """Have the limiter keep to its share of what all processes may use of this endpoint.

    With `precedence` it goes before those without, up to half of the whole.
    The first share is allotted before the body begins. Where the database cannot be reached nothing is raised: the
    limiter is on its own, and a warning says so.
    """
    async with open_shared_limits_of_all(url, {key: limiter}, precedence=precedence):
        yield


@asynccontextmanager
async def open_shared_limits_of_all(
    url: str, limiters: Mapping[LimitKey, SharedLimiter], *, precedence: bool = False
) -> AsyncIterator[None]:
    """The same for several limits: one statement renews the leases of all of them."""
    leases = _Leases(url, limiters, precedence=precedence)
    await leases.renew()
    renewing = asyncio.create_task(leases.keep_renewing(), name="shared limits")
    try:
        yield
    finally:
        leases.hang_up()
        renewing.cancel()
        (ended_by,) = await asyncio.gather(renewing, return_exceptions=True)
        await leases.give_back()
        if isinstance(ended_by, Exception):
            raise ended_by


class _Leases:
    """The leases of one process, renewed over a connection of their own that is replaced when it is lost."""

    def __init__(self, url: str, limiters: Mapping[LimitKey, SharedLimiter], *, precedence: bool) -> None:
        self._url = url
        self._precedence = precedence
        self._process = uuid4()
        # In one order for all processes, so that no two ever wait for each other.
        self._leases = [Lease(key, limiter) for key, limiter in sorted(limiters.items(), key=lambda entry: entry[0])]
        self._connection: AsyncConnection | None = None
        self._asking = False
        self._renewal = 0
        self._heard = 0
        self._warned = False

    async def keep_renewing(self) -> None:
        """Renew about once a second, and never more often."""
        while True:
            await asyncio.sleep(random.uniform(_SHORTEST_INTERVAL_S, _LONGEST_INTERVAL_S))  # noqa: S311 - jitter
            await self.renew()

    async def renew(self) -> None:
        """Tell what each limiter has seen and allot it what comes back. Without an answer the last share stands."""
        asked_at = monotonic()
        try:
            answers = await self._ask()
        except DatabaseError as error:
            self._warn_once(error)
            await self._close()  # another connection may find a server that is well
            return
        if monotonic() - asked_at >= HOLDS_S:
            return  # we were frozen: what was ours then may be another's
        self._heard = self._renewal
        for answer in answers:
            self._leases[answer.pop("place")].hear(Share(**answer), asked_at)

    def hang_up(self) -> None:
        """Have a statement that waits for its answer fail at once: psycopg's cancellation may wait for ever."""
        if self._asking and self._connection is not None and not self._connection.closed:
            # Closing would give the number of the socket away while the event loop still watches it.
            with suppress(OSError), socket(fileno=dup(self._connection.fileno())) as line:
                line.shutdown(SHUT_RDWR)

    async def give_back(self) -> None:
        """End the leases, so that nobody has to wait until they expire."""
        for lease in self._leases:
            lease.stop()
        if self._connection is not None and not self._connection.closed:
            with suppress(psycopg.Error), self._hanging_up_after(_LAST_WORDS_S):
                await self._connection.execute("DELETE FROM limit_leases WHERE process = %s", (self._process,))
        await self._close()

    async def _ask(self) -> list[DictRow]:
        told = self._told()
        try:
            connection = await self._connected()
            with self._hanging_up_after(_STUCK_S):
                async with connection.cursor(row_factory=dict_row) as cursor:
                    await cursor.execute(renewing(), {"leases": Jsonb(told)})
                    return await cursor.fetchall()
        except TimeoutError as error:
            raise DatabaseUnavailableError(
                f"the database at {address(self._url)} did not answer within {_STUCK_S:g} s: look what holds it up"
            ) from error
        except psycopg.Error as error:
            raise translate(error, self._url) from error

    def _told(self) -> list[dict[str, object]]:
        self._renewal += 1
        return [self._of(place, lease) for place, lease in enumerate(self._leases)]

    def _of(self, place: int, lease: Lease) -> dict[str, object]:
        report = lease.report()
        return {
            "place": place,
            **lease.key._asdict(),
            "process": str(self._process),
            "renewal": self._renewal,
            "heard": self._heard,
            "demand": max(report.demand, 0 if self._heard else 1),  # who comes has something to ask
            "in_flight": report.in_flight,
            "accepted": report.accepted,
            "accepted_tokens": report.accepted_tokens,
            "found_requests": report.requests_per_minute,
            "found_tokens": report.tokens_per_minute,
            "known_requests": report.known_requests_per_minute,
            "known_tokens": report.known_tokens_per_minute,
            "closed_for_s": report.closed_for_s,
            "closed_because": report.closed_because,
            "precedence": self._precedence,
        }

    async def _connected(self) -> AsyncConnection:
        if self._connection is None or self._connection.closed:
            async with asyncio.timeout(_STUCK_S):
                self._connection = await connect_as_writer(self._url, "recstream limits")
                # The others wait for each renewal's commit. What a crash loses of it is renewed a second later.
                await self._connection.execute("SET synchronous_commit = off")
        return self._connection

    @contextmanager
    def _hanging_up_after(self, seconds: float) -> Iterator[None]:
        self._asking = True
        stuck = asyncio.get_running_loop().call_later(seconds, self.hang_up)
        try:
            yield
        finally:
            stuck.cancel()
            self._asking = False

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def _warn_once(self, error: DatabaseError) -> None:
        """A lease that runs out says so itself; before there was one, this does."""
        if not self._heard and not self._warned:
            self._warned = True
            _log.warning(
                "the limits of %s cannot be shared with other processes: %s; this one keeps to what it finds out alone",
                ", ".join(sorted({lease.key.endpoint for lease in self._leases})),
                error,
            )


@cache
def renewing() -> bytes:
    """The statement that renews leases."""
    return (files("pipeline") / "sql" / "renew_lease.sql").read_bytes()
