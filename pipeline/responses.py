"""Writes down what became of a recommendation: that it was shown, clicked, bought or refused.

A response is an event like any other, with the run and the rank that it answers. Docs: docs/decisions/0031.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId, ProductId, RunId
from pipeline.errors import InputError
from pipeline.loading.event_records import EventRecord, ResponseKind
from pipeline.persistence import persistent

_SAME: Final = timedelta(minutes=1)  # who says the same again so soon has said it once
_CLOCKS_DIFFER: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a response. `is_new` is false where it was there already; `unknown` is what no table knows.

    `stood_at` is the rank at which the run recommended the product to the customer; None where no row here says so.
    `is_early` is true of a response from before the run was there.
    """

    is_new: bool
    unknown: tuple[str, ...]
    stood_at: int | None
    is_early: bool = False


async def record_response(
    engine: AsyncEngine,
    customer_id: CustomerId,
    product_id: ProductId,
    response: ResponseKind,
    *,
    run_id: RunId | None = None,
    rank: int | None = None,
    occurred_at: datetime | None = None,
    event_id: str | None = None,
) -> Recorded:
    """Write one response; returns once it is committed. The same one sent again is there once.

    Args:
        engine: to the shop's database.
        customer_id: who responded.
        product_id: to which product.
        response: shown, clicked, bought or refused.
        run_id: the run whose recommendation it was, as `current_recommendations` names it.
        rank: at which it stood, from 1.
        occurred_at: when; without a time zone it is UTC. By default this moment: sent again within a minute, it is the
            same.
        event_id: the shop's own name of this event. Without it the same is what is alike in everything, the moment too.

    Raises:
        InputError: an id, the rank, the response or the moment cannot be used, as one in the future.
        DatabaseError: the database refused it, as where `events` is a view of the shop's that takes no rows.
    """
    now = datetime.now(UTC)
    event = _event(
        customer_id=customer_id,
        product_id=product_id,
        response=response,
        run_id=None if run_id is None else str(run_id),
        rank=rank,
        occurred_at=occurred_at or now,
        event_id=event_id,
    )
    if event.occurred_at > now + _CLOCKS_DIFFER:
        raise InputError(f"the response cannot be recorded: {event.occurred_at:%Y-%m-%d %H:%M:%S} UTC is in the future")
    return await _write(engine, event, now - _SAME if occurred_at is None and event_id is None else None)


def _event(**cells: str | int | datetime | None) -> EventRecord:
    try:
        return EventRecord.from_cells({"kind": "response", **cells}, UTC)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise InputError(f"the response cannot be recorded: {problem['loc'][0]} {problem['msg']}") from None


@persistent
async def _write(engine: AsyncEngine, event: EventRecord, alike_since: datetime | None) -> Recorded:
    values = event.model_dump(
        include={"customer_id", "product_id", "value", "occurred_at", "run_id", "rank", "response"}
    )
    slots = {"event_key": event.event_key(), "alike_since": alike_since, **values}
    async with engine.begin() as connection:
        if alike_since is not None:  # what is sent twice at once waits, and sees the first
            await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(event.customer_id, 0))))
        row = (await connection.execute(statement("record_response"), slots)).one()
    known = {"customer": row.customer_known, "product": row.product_known, "run": row.run_known}
    unknown = tuple(name for name, is_known in known.items() if not is_known)
    return Recorded(row.is_new, unknown, row.stood_at, row.is_early)
