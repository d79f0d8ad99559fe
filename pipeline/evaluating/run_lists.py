"""The slates of a run as lists to be measured, beside the candidates that its model had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.comparing import Side
from pipeline.database import statement
from pipeline.domain import CustomerId, ProductId, Provenance
from pipeline.evaluating.lists import POPULARITY, ListName, Lists, popularity_beside
from pipeline.evaluating.shoppers import Shopper
from pipeline.persistence import persistent

_SHORT: Final = 8  # characters of a run's id for people, who have the whole of it beside
_OFFLINE: Final = "word overlap, no model"


@dataclass(frozen=True, slots=True)
class RunLists:
    """The committed rows of a run's complete slates, and its candidates in retrieval order."""

    engine: AsyncEngine
    side: Side
    names: Sequence[ListName]

    async def lists(self, page: Sequence[Shopper]) -> Lists:
        """See `ListSource`."""
        rows = await _slates(self.engine, self.side, [shopper.customer_id for shopper in page])
        slates = {customer: products for customer, (products, _) in rows.items()}
        retrieval = {customer: candidates for customer, (_, candidates) in rows.items()}
        both = zip(self.names, (slates, retrieval), strict=True)
        return {(name.key, scope): ranked for name, ranked in both for scope in name.scopes}


async def run_lists(
    engine: AsyncEngine, side: Side, letter: str, *, before: str | None = None, apart: bool = False
) -> RunLists:
    """What there is to measure of a run, or of a variant of it, under the names run_a and retrieval_a, say.

    It is held against the run of the letter `before` too. With `apart` only its own customers count for it.
    """
    key = f"run_{letter}"
    of, popularity = (key, popularity_beside(key)) if apart else (None, POPULARITY)
    ranked_by = await _ranked_by(engine, side)
    told = f"run {letter.upper()} {str(side.name.run_id)[:_SHORT]}"
    if side.name.variant is not None:
        told += f":{side.name.variant}"
    if Provenance.OFFLINE_RANKER in ranked_by or side.run.provenance == Provenance.OFFLINE_RANKER:
        told += f" (offline ranker: {_OFFLINE})"
    in_order = f"candidates of run {letter.upper()}, in order"
    retrieval = ListName(f"retrieval_{letter}", in_order, against=(popularity,), of=of)
    against = (popularity, retrieval.key, *([f"run_{before}"] if before else []))
    slates = ListName(key, told, against=against, run=str(side.name), of=of, ranked_by=ranked_by)
    return RunLists(engine, side, (slates, retrieval))


@persistent
async def _ranked_by(engine: AsyncEngine, side: Side) -> Mapping[str, int]:
    slots = {**_where(side), "model": side.model}
    async with engine.connect() as connection:
        rows = await connection.execute(statement("compare_ranked_by"), slots)
        return {row.ranked_by: row.rows for row in rows}


@persistent
async def _slates(
    engine: AsyncEngine, side: Side, customer_ids: list[CustomerId]
) -> dict[CustomerId, tuple[list[ProductId], list[ProductId]]]:
    run = side.run
    both = {"first_run": run.run_id, "first_day": run.day, "second_run": run.run_id, "second_day": run.day}
    async with engine.connect() as connection:
        sources = (await connection.execute(statement("compare_sources"), both)).one()
        where = {"source_runs": sources.run_ids or [], "source_days": sources.days or []}
        rows = await connection.execute(
            statement("evaluation_slates"), {**_where(side), **where, "customer_ids": customer_ids}
        )
        return {CustomerId(row.customer_id): (list(row.products or ()), list(row.candidates or ())) for row in rows}


def _where(side: Side) -> dict[str, object]:
    return {"run_id": side.run.run_id, "day": side.run.day, "variant": side.name.variant}
