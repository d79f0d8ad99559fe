"""What is spent and reserved, over all processes: one row for the run and one for the day, changed in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cache
from importlib.resources import files
from typing import Final
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection

from pipeline.database import connect_as_writer, translate
from pipeline.domain import RunId
from pipeline.persistence import persistent

_SMALLEST: Final = Decimal("0.00000001")  # what the columns hold


@dataclass(frozen=True, slots=True)
class Spend:
    """Money (in the currency of the price list) and tokens (input and output together)."""

    cost: Decimal = Decimal(0)
    tokens: int = 0

    def __add__(self, other: "Spend") -> "Spend":
        return Spend(self.cost + other.cost, self.tokens + other.tokens)

    def __sub__(self, other: "Spend") -> "Spend":
        return Spend(self.cost - other.cost, self.tokens - other.tokens)

    def __mul__(self, times: int) -> "Spend":
        return Spend(self.cost * times, self.tokens * times)

    def __bool__(self) -> bool:
        return bool(self.cost or self.tokens)

    def covers(self, other: "Spend") -> bool:
        """Whether it is no less, in money and in tokens."""
        return self.cost >= other.cost and self.tokens >= other.tokens

    def rounded_up(self) -> "Spend":
        """The same with as many places as the tables hold, never less than it is."""
        return Spend(self.cost.quantize(_SMALLEST, ROUND_CEILING), self.tokens)


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that a run and a day may come to; None where there is no cap."""

    run_cost: Decimal | None = None
    day_cost: Decimal | None = None
    run_tokens: int | None = None
    day_tokens: int | None = None
    currency: str = "USD"

    @property
    def on_cost(self) -> bool:
        """Whether money is capped, so that a price has to be known."""
        return self.run_cost is not None or self.day_cost is not None

    @property
    def any(self) -> bool:
        """Whether there is a cap at all."""
        return self.on_cost or self.run_tokens is not None or self.day_tokens is not None


@dataclass(frozen=True, slots=True)
class Turn:
    """What one process asks in one statement: to give `freed` back, and the `bounds` of requests that wait, in order.

    `in_flight` are its other requests. `most_ahead` is for how many that will come it would like to reserve the last of
    the bounds as well. A turn that is taken again has the number that it had.
    """

    number: int
    freed: Spend
    in_flight: int
    bounds: Sequence[Spend]
    most_ahead: int = 0

    @property
    def bound_ahead(self) -> Spend:
        """What is reserved for each that will come."""
        return self.bounds[-1] if self.bounds else Spend()


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands after a turn: how many of its bounds were admitted, and for how many more it has reserved `ahead`.

    `run` and `day` are what all processes have spent or reserved.
    """

    admitted: int
    ahead: int
    run: Spend
    day: Spend
    others_in_flight: int


class Spender:
    """One process's connection for its turns: opened for the first of them, replaced when it is lost."""

    def __init__(self, url: str, run_id: RunId, time_zone: str, caps: Caps) -> None:
        self._url = url
        self._spender: UUID = uuid4()
        self._run: dict[str, object] = {"spender": self._spender, "run_id": run_id, "time_zone": time_zone, "day": None}
        self._caps: dict[str, object] = {
            "spender": self._spender,
            "run_cost": caps.run_cost,
            "day_cost": caps.day_cost,
            "run_tokens": caps.run_tokens,
            "day_tokens": caps.day_tokens,
        }
        self._connection: AsyncConnection | None = None
        self._is_known = False

    @persistent
    async def take(self, turn: Turn) -> Standing:
        """Take this turn, however often it has to be sent: it is counted once.

        Raises:
            DatabaseUnavailableError: the server stayed away; whether the turn was counted is not known.
            DatabaseError: Postgres refuses it, as when the tables are not there.
        """
        try:
            connection = await self._connected()
            if not self._is_known:
                await self._introduce(connection)
            return await self._take(connection, turn)
        except psycopg.Error as error:
            await self.close()
            raise translate(error, self._url) from error

    async def leave(self) -> None:
        """Take the process's row away: nothing of it is in flight, and it takes no further turn."""
        if self._is_known:
            try:
                connection = await self._connected()
                await connection.execute("DELETE FROM spenders WHERE spender = %s", (self._spender,))
            except psycopg.Error as error:
                raise translate(error, self._url) from error
            finally:
                await self.close()

    async def close(self) -> None:
        """Close the connection; another turn would open a new one."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connected(self) -> AsyncConnection:
        if self._connection is None or self._connection.closed:
            self._connection = await connect_as_writer(self._url, "recstream budget")
            # What is reserved must outlive a crash of the server, whatever its default is.
            await self._connection.execute("SET synchronous_commit = on")
        return self._connection

    async def _introduce(self, connection: AsyncConnection) -> None:
        """Make the rows that turns change, where they are not there yet. Doing it twice is harmless.

        Once it has a day it stays with it: what it gives back later was reserved of that day.
        """
        found = await (await connection.execute(_sql("open_spending"), self._run)).fetchone()
        self._run["day"] = found and found[0]
        self._is_known = True

    async def _take(self, connection: AsyncConnection, turn: Turn) -> Standing:
        if (standing := await self._send(connection, turn)) is None:  # others forget who takes no turn for days
            await self._introduce(connection)
            standing = await self._send(connection, turn)
        assert standing is not None  # noqa: S101 - the process's row, the run's and the day's are there
        return standing

    async def _send(self, connection: AsyncConnection, turn: Turn) -> Standing | None:
        """How it stands then; None if the process's row is not there, and nothing was counted."""
        sent = self._caps | {
            "turn": turn.number,
            "freed_cost": turn.freed.cost,
            "freed_tokens": turn.freed.tokens,
            "in_flight": turn.in_flight,
            "most_ahead": turn.most_ahead if turn.bounds else 0,
            "ahead_cost": turn.bound_ahead.cost,
            "ahead_tokens": turn.bound_ahead.tokens,
            "costs": [bound.cost for bound in turn.bounds],
            "tokens": [bound.tokens for bound in turn.bounds],
        }
        row = await (await connection.execute(_sql("spend"), sent)).fetchone()
        if row is None:
            return None
        admitted, ahead, run_cost, run_tokens, day_cost, day_tokens, others_in_flight = row
        return Standing(admitted, ahead, Spend(run_cost, run_tokens), Spend(day_cost, day_tokens), others_in_flight)


@cache
def _sql(name: str) -> bytes:
    return (files("pipeline") / "sql" / f"{name}.sql").read_bytes()
