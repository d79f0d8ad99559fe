"""The last runs, a line each: read from their own rows alone, however many customers they have."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import RunKind, RunState
from pipeline.tables import runs


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run. `customers` is how many were planned, None for a run of a version that did not keep it.

    `cost` is what it came to when it ended, in the currency of the price list; None before, or without a price.
    `unchanged` is how many customers kept an earlier slate in it; None before its end.
    """

    run_id: UUID
    kind: RunKind
    state: RunState
    created_at: datetime
    customers: int | None
    model: str
    pruned_at: datetime | None
    reason: str | None
    cost: Decimal | None
    unchanged: int | None


async def last_runs(engine: AsyncEngine, limit: int) -> list[RunLine]:
    """The newest runs of every kind, at most `limit`, the newest first."""
    newest = select(
        runs.c.run_id,
        runs.c.kind,
        runs.c.state,
        runs.c.created_at,
        runs.c.parameters["planned"].as_integer().label("customers"),
        runs.c.model,
        runs.c.pruned_at,
        runs.c.reason,
        runs.c.cost,
        runs.c.unchanged,
    )
    async with engine.connect() as connection:
        found = await connection.execute(newest.order_by(runs.c.created_at.desc()).limit(limit))
        return [
            RunLine(**{**row, "kind": RunKind(row["kind"]), "state": RunState(row["state"])})
            for row in found.mappings()
        ]
