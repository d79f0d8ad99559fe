"""What one side has come to: its slates, its cost, its refusals and its times, read from the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.comparing.sides import Side
from pipeline.database import statement
from pipeline.domain import RunKind, RunState


@dataclass(frozen=True, slots=True)
class Figures:
    """One side. Costs are in the currency of the price list, times in seconds; None where nothing can be said.

    `asked` are the slates for which a model was asked at least once: costs and tokens are means over them, costs over
    those of them that have a price (`priced`). `endings` counts attempts by how they ended. `ranked_by` counts rows by
    who ranked them: the run's model, another one's name, or where no language model did, the provenance.
    """

    side: str
    kind: RunKind
    state: RunState
    as_of: datetime
    model: str
    provenance: str
    temperature: float
    prompt_version: str
    customers: int
    complete: int
    unchanged: int
    short: int
    failed: int
    unfinished: int
    asked: int
    attempts: int
    priced: int
    cost: Decimal | None
    cost_per_slate: Decimal | None
    tokens_in_per_slate: float | None
    tokens_out_per_slate: float | None
    tokens_cached_per_slate: float | None
    rows: int
    refused_objects: int
    endings: Mapping[str, int]
    ranked_by: Mapping[str, int]
    first_row_p50_s: float | None
    first_row_p95_s: float | None
    whole_p50_s: float | None
    whole_p95_s: float | None


async def read_figures(connection: AsyncConnection, side: Side) -> Figures:
    """The figures of one side, in three statements, each over the day of its run alone."""
    which = {"run_id": side.run.run_id, "day": side.run.day, "variant": side.name.variant}
    slates = (await connection.execute(statement("compare_slates"), which)).mappings().one()
    ended = await connection.execute(statement("compare_attempts"), which)
    endings = {str(row.ending): int(row.attempts) for row in ended}
    ranked = await connection.execute(statement("compare_ranked_by"), {**which, "model": side.run.model})
    ranked_by = {str(row.ranked_by): int(row.rows) for row in ranked}
    return Figures(
        side=str(side.name),
        kind=side.run.kind,
        state=side.run.state,
        as_of=side.run.as_of,
        model=side.model,
        provenance=side.run.provenance,
        temperature=side.temperature,
        prompt_version=side.prompt_version,
        **slates,
        attempts=sum(endings.values()),
        rows=sum(ranked_by.values()),
        endings=endings,
        ranked_by=ranked_by,
    )
