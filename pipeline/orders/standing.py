"""The orders of a run that are in force now, with who gave them and when."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import RunId
from pipeline.errors import RunHaltedError


@dataclass(frozen=True, slots=True)
class Order:
    """One order. `concurrency` is a limit's: requests at a time over all processes of the run."""

    ordered_by: str
    ordered_at: datetime
    concurrency: int | None = None

    def given(self) -> str:
        """Who gave it and when, for people."""
        return f"by {self.ordered_by} at {self.ordered_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class StandingOrders:
    """What is in force; None for what nobody has ordered, or what a later order has ended."""

    pause: Order | None = None
    drain: Order | None = None
    cancel: Order | None = None
    limit: Order | None = None

    @classmethod
    def of(cls, rows: Iterable[Row[Any]]) -> Self:
        """From rows of `standing_orders`, of one run; a row without a kind is none."""
        known = {row.kind: Order(row.ordered_by, row.ordered_at, row.concurrency) for row in rows if row.kind}
        return cls(**known)

    def require_not_cancelled(self) -> None:
        """Raise where the run is to end at once.

        Raises:
            RunHaltedError: it is cancelled.
        """
        halt = self.halt()
        if halt is not None:
            raise halt

    def halt(self) -> RunHaltedError | None:
        """The error that ends the run at once; None where it is not cancelled."""
        return None if self.cancel is None else RunHaltedError(f"cancelled {self.cancel.given()}")

    def outliving(self) -> "StandingOrders":
        """What is in force still when a run that has ended is resumed."""
        return replace(self, drain=None, cancel=None)

    def lines(self) -> list[str]:
        """Each order for people, with the command that ends it."""
        told = []
        if self.cancel is not None:
            told.append(f"cancelled {self.cancel.given()}")
        if self.drain is not None:
            told.append(f"draining, as ordered {self.drain.given()}: `recstream continue` takes it back")
        if self.pause is not None:
            told.append(f"paused {self.pause.given()}: `recstream continue` ends it")
        if self.limit is not None:
            most = "1 request" if self.limit.concurrency == 1 else f"{self.limit.concurrency} requests"
            told.append(f"at most {most} at a time, as ordered {self.limit.given()}: `recstream limit --off` ends it")
        return told


async def read_standing(engine: AsyncEngine, run_id: RunId) -> StandingOrders:
    """What is in force of this run; nothing where there is no such run."""
    async with engine.connect() as connection:
        return StandingOrders.of((await connection.execute(statement("standing_orders"), {"run_id": run_id})).all())
