"""The ledger of runs: planning one, finding one, ending it, and what it has come to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId, RunId, RunKind, RunState, SlateState
from pipeline.errors import InputError, UnknownCustomerError
from pipeline.prompts import prompt_version
from pipeline.tables import customers, products, runs, slates
from pipeline.version import code_version


@dataclass(frozen=True, slots=True)
class Ranker:
    """What makes the ranking: the model, where it is asked, and how."""

    model: str
    endpoint: str
    provenance: str
    temperature: float


@dataclass(frozen=True, slots=True)
class Run:
    """One pass with one model and prompt version, over the customers that its slates name."""

    run_id: RunId
    kind: RunKind
    state: RunState
    slate_size: int
    as_of: datetime
    model: str
    provenance: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run has come to. Times in seconds; percentiles are None where no row was committed."""

    run_id: UUID
    kind: RunKind
    state: RunState
    reason: str | None
    model: str
    endpoint: str
    provenance: str
    slate_size: int
    prompt_version: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    customers: int
    complete: int
    short: int
    failed: int
    unfinished: int
    tokens_in: int
    tokens_out: int
    first_row_p50_s: float | None
    first_row_p95_s: float | None
    rows: int
    refused_objects: int
    published: int

    @property
    def left(self) -> int:
        """The customers whose slates are not complete: what `resume` would take."""
        return self.customers - self.complete


async def plan_run(
    engine: AsyncEngine,
    kind: RunKind,
    ranker: Ranker,
    *,
    slate_size: int,
    shard_size: int,
    only: Sequence[CustomerId] | None = None,
    most: int | None = None,
) -> Run:
    """Write a run and a pending slate for each of its customers, in one transaction.

    Raises:
        UnknownCustomerError: `only` names a customer who is not there, or not active.
        InputError: there are no customers, or no product that may be recommended.
    """
    run_id = RunId(uuid4())
    async with engine.begin() as connection:
        await _require_catalog(connection)
        if only is not None:
            await _require_customers(connection, only)
        as_of = await connection.scalar(statement("as_of"))
        assert isinstance(as_of, datetime)  # noqa: S101 - the statement falls back to now()
        await connection.execute(
            insert(runs).values(
                run_id=run_id,
                kind=kind,
                state=RunState.PLANNED,
                model=ranker.model,
                endpoint=ranker.endpoint,
                provenance=ranker.provenance,
                temperature=ranker.temperature,
                slate_size=slate_size,
                prompt_version=prompt_version(),
                code_version=code_version(),
                as_of=as_of,
                parameters={
                    "shard_size": shard_size,
                    "most": most,
                    "only": None if only is None else list(only)[:1000],
                },
            )
        )
        planned = await connection.execute(
            statement("plan_slates"),
            {
                "run_id": run_id,
                "shard_size": shard_size,
                "only": None if only is None else list(only),
                "most": most,
            },
        )
        if planned.rowcount == 0:
            raise InputError("there are no active customers: load some with `recstream load customers FILE`")
    return Run(run_id, kind, RunState.PLANNED, slate_size, as_of, ranker.model, ranker.provenance)


async def begin_run(engine: AsyncEngine, run_id: RunId) -> None:
    """The run is being worked on from now on."""
    async with engine.begin() as connection:
        await connection.execute(
            update(runs)
            .where(runs.c.run_id == run_id)
            .values(
                state=RunState.RUNNING,
                started_at=func.coalesce(runs.c.started_at, func.now()),
                ended_at=None,
                reason=None,
            )
        )


async def end_run(engine: AsyncEngine, run_id: RunId, state: RunState, reason: str | None = None) -> None:
    """Nobody works on the run any more; what was not served is pending, and says so."""
    async with engine.begin() as connection:
        await connection.execute(
            update(runs).where(runs.c.run_id == run_id).values(state=state, reason=reason, ended_at=func.now())
        )
        await connection.execute(
            update(slates)
            .where(slates.c.run_id == run_id, slates.c.state.in_([SlateState.PENDING, SlateState.STREAMING]))
            .values(state=SlateState.PENDING, reason="not served: the run ended before")
        )


async def end_dead_runs(engine: AsyncEngine) -> None:
    """Mark the nightly runs whose process died. The caller holds the night, so none of them can be alive."""
    async with engine.begin() as connection:
        await connection.execute(
            update(runs)
            .where(runs.c.kind == RunKind.NIGHTLY, runs.c.state.in_([RunState.PLANNED, RunState.RUNNING]))
            .values(
                state=RunState.FAILED,
                reason="its process died; `recstream resume` goes on with it",
                ended_at=func.now(),
            )
        )


async def shards_of(engine: AsyncEngine, run_id: RunId) -> dict[int, int]:
    """The shards that have customers left, with their number."""
    async with engine.connect() as connection:
        found = await connection.execute(
            select(slates.c.shard, func.count())
            .where(slates.c.run_id == run_id, slates.c.state != SlateState.COMPLETE)
            .group_by(slates.c.shard)
            .order_by(slates.c.shard)
        )
        return {shard: number for shard, number in found}  # noqa: C416 - dict() of rows is untyped


async def find_run(engine: AsyncEngine, run_id: RunId | None) -> Run | None:
    """This run, or the newest nightly one; None if there is none."""
    wanted = runs.c.kind == RunKind.NIGHTLY if run_id is None else runs.c.run_id == run_id
    async with engine.connect() as connection:
        found = await connection.execute(select(runs).where(wanted).order_by(runs.c.created_at.desc()).limit(1))
        row = found.one_or_none()
    if row is None:
        return None
    return Run(
        RunId(row.run_id),
        RunKind(row.kind),
        RunState(row.state),
        row.slate_size,
        row.as_of,
        row.model,
        row.provenance,
    )


async def summarise(engine: AsyncEngine, run_id: RunId) -> RunSummary:
    """What the run has come to, now.

    Raises:
        InputError: there is no such run.
    """
    async with engine.connect() as connection:
        found = await connection.execute(statement("run_summary"), {"run_id": run_id})
        row = found.mappings().one_or_none()
    if row is None:
        raise InputError(f"there is no run {run_id}: `recstream status` shows the last one")
    return RunSummary(**{**row, "kind": RunKind(row["kind"]), "state": RunState(row["state"])})


async def _require_catalog(connection: AsyncConnection) -> None:
    offered = select(products.c.product_id).where(products.c.available, ~products.c.hidden).limit(1)
    if await connection.scalar(offered) is None:
        raise InputError(
            "the catalog has no product that is available and not hidden: load some with `recstream load products FILE`"
        )


async def _require_customers(connection: AsyncConnection, only: Sequence[CustomerId]) -> None:
    found = await connection.execute(
        select(customers.c.customer_id, customers.c.active).where(customers.c.customer_id == func.any(list(only)))
    )
    active = {row.customer_id: row.active for row in found}
    for customer_id in only:
        if customer_id not in active:
            raise UnknownCustomerError(
                f"customer {customer_id!r} is not in the customers table: check the id, or load him"
            )
        if not active[customer_id]:
            raise UnknownCustomerError(f"customer {customer_id!r} is not active: set customers.active to serve him")
