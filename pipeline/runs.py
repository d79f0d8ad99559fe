"""The ledger of runs: planning one, finding one, what is left of it, and what it has come to."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from secrets import randbits
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId, RunId, RunKind, RunState, SlateState
from pipeline.errors import InputError, UnknownCustomerError
from pipeline.persistence import persistent
from pipeline.serving_build import serving_build
from pipeline.tables import customers, products, runs, slates
from pipeline.variants import Definition
from pipeline.version import code_version

LEFT = (SlateState.PENDING, SlateState.STREAMING, SlateState.SHORT, SlateState.FAILED)
"""What `resume` takes: all but the complete ones and the unchanged."""

NO_CUSTOMERS = "there are no active customers: load some with `recstream load customers FILE`"


@dataclass(frozen=True, slots=True)
class Ranker:
    """What makes the ranking: the model, where it is asked, and how.

    `variants` are what the run's parameters keep of its variants; empty where it has none.
    """

    model: str
    endpoint: str
    provenance: str
    temperature: float
    prompt_version: str
    variants: Sequence[Definition] = ()

    @property
    def columns(self) -> dict[str, object]:
        """The columns of a run that it fills in."""
        return {name: value for name, value in asdict(self).items() if name != "variants"}


@dataclass(frozen=True, slots=True)
class Run:
    """One pass with one model and prompt version, or with its variants, over the customers that its slates name.

    `day` is the partition that its rows lie in; `pruned_at` is when they were dropped. `unchanged_max_age_days` is how
    old a slate may be that is kept because nothing has changed; 0 keeps none. `shuffle_seed` orders what is to be
    shuffled, the same way whenever the run is gone on with. `interrupted` is true of one that ended with its process.
    `everybody` is false of one over some customers only: a trial, or a list; `begun` of one that was only planned.
    """

    run_id: RunId
    day: date
    kind: RunKind
    state: RunState
    slate_size: int
    as_of: datetime
    model: str
    provenance: str
    temperature: float
    prompt_version: str
    code_version: str
    pruned_at: datetime | None = None
    variants: Sequence[Definition] = ()
    unchanged_max_age_days: int = 0
    shuffle_seed: int = 0
    created_at: datetime | None = None
    interrupted: bool = False
    everybody: bool = True
    begun: bool = False


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run has come to. Times in seconds; percentiles are None where no row was committed.

    `tokens_cached` are a part of `tokens_in`; `cost` is in the currency of the price list, None where no price was
    known. `died` are attempts that ended with their process; `published` are slates that readers see where no newer
    one is; `unchanged` are customers who keep the slate of an earlier run, for nothing has changed.
    """

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
    unchanged: int
    filled_up: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    cost: Decimal | None
    currency: str | None
    first_row_p50_s: float | None
    first_row_p95_s: float | None
    rows: int
    rows_of_others: int
    refused_objects: int
    died: int
    published: int
    published_at: datetime | None
    withdrawn_at: datetime | None
    pruned_at: datetime | None

    @property
    def left(self) -> int:
        """The customers who have neither a complete slate nor an unchanged one: what `resume` would take."""
        return self.customers - self.complete - self.unchanged

    @property
    def kept_back(self) -> bool:
        """True of a night that readers have never seen: its gates did not let it pass, or it has not come so far."""
        return self.kind is RunKind.NIGHTLY and self.published_at is None and self.pruned_at is None


async def plan_run(
    engine: AsyncEngine,
    kind: RunKind,
    ranker: Ranker,
    *,
    slate_size: int,
    shard_size: int,
    only: Sequence[CustomerId] | None = None,
    most: int | None = None,
    run_id: RunId | None = None,
    unchanged_max_age_days: int = 0,
    currency: str | None = None,
) -> Run:
    """Write a run and a pending slate for each of its customers, in one transaction.

    `run_id` is for who has to know it before; otherwise it is drawn. A customer of whom nothing has changed keeps the
    slate that readers see if it is not older than `unchanged_max_age_days`. `currency` is that of the run's costs.

    Raises:
        UnknownCustomerError: `only` names a customer who is not there, or not active.
        InputError: there are no customers, or no product that may be recommended.
    """
    named = None if only is None else list(only)
    plan = _Plan(
        run_id or RunId(uuid4()), kind, ranker, slate_size, shard_size, named, most, unchanged_max_age_days, currency
    )
    return await _write_plan(engine, plan)


@dataclass(frozen=True, slots=True)
class _Plan:
    run_id: RunId
    kind: RunKind
    ranker: Ranker
    slate_size: int
    shard_size: int
    only: list[CustomerId] | None
    most: int | None
    unchanged_max_age_days: int
    currency: str | None

    def values(self, planned: int) -> dict[str, object]:
        """The columns of the run that do not depend on when it is planned."""
        return {
            "run_id": self.run_id,
            "kind": self.kind,
            "state": RunState.PLANNED,
            **self.ranker.columns,
            "slate_size": self.slate_size,
            "code_version": code_version(),
            "shuffle_seed": randbits(63),
            "parameters": {
                "shard_size": self.shard_size,
                "most": self.most,
                "only": None if self.only is None else self.only[:1000],
                "planned": planned,
                "unchanged_max_age_days": self.unchanged_max_age_days,
                "currency": self.currency,
                "variants": list(self.ranker.variants),
            },
        }


@persistent
async def _write_plan(engine: AsyncEngine, plan: _Plan) -> Run:
    async with engine.begin() as connection:
        known = await _find(connection, runs.c.run_id == plan.run_id)
        if known is not None:
            return known  # a former try of this transaction was committed unseen
        # Before a customer is looked at: who erases one waits for this lock, and then finds his slate.
        await connection.execute(text("LOCK TABLE runs IN ROW EXCLUSIVE MODE"))
        await require_catalog(connection)
        if plan.only is not None:
            await _require_customers(connection, plan.only)
        as_of = await connection.scalar(statement("as_of"))
        day = datetime.now(UTC).date()
        await connection.execute(select(func.recstream_prepare_day(day)))
        slots = {"run_id": plan.run_id, "day": day, "shard_size": plan.shard_size, "only": plan.only, "most": plan.most}
        planned = (await connection.execute(statement("plan_slates"), slots)).scalar_one()
        if planned == 0:
            raise InputError(NO_CUSTOMERS)
        serving = serving_build().scalar_subquery()  # looked up by the statement that writes it down
        values = plan.values(planned)
        await connection.execute(insert(runs).values(**values, as_of=as_of, day=day, candidate_build=serving))
        written = await _find(connection, runs.c.run_id == plan.run_id)
    assert written is not None  # noqa: S101 - it was inserted one statement before
    return written


@persistent
async def shards_of(engine: AsyncEngine, run: Run, left: Collection[SlateState] = LEFT) -> dict[int, int]:
    """The shards with customers whose slates are in one of these states, and how many they are."""
    async with engine.connect() as connection:
        found = await connection.execute(
            select(slates.c.shard, func.count())
            .where(slates.c.run_id == run.run_id, slates.c.day == run.day, slates.c.state.in_(left))
            .group_by(slates.c.shard)
            .order_by(slates.c.shard)
        )
        return {shard: number for shard, number in found}  # noqa: C416 - dict() of rows is untyped


@persistent
async def find_run(engine: AsyncEngine, run_id: RunId | None) -> Run | None:
    """This run, or the newest nightly one; None if there is none."""
    wanted = runs.c.kind == RunKind.NIGHTLY if run_id is None else runs.c.run_id == run_id
    async with engine.connect() as connection:
        return await _find(connection, wanted)


async def _find(connection: AsyncConnection, wanted: ColumnElement[bool]) -> Run | None:
    found = await connection.execute(select(runs).where(wanted).order_by(runs.c.created_at.desc()).limit(1))
    row = found.one_or_none()
    if row is None:
        return None
    return Run(
        RunId(row.run_id),
        row.day,
        RunKind(row.kind),
        RunState(row.state),
        row.slate_size,
        row.as_of,
        row.model,
        row.provenance,
        row.temperature,
        row.prompt_version,
        row.code_version,
        row.pruned_at,
        row.parameters.get("variants", []),
        row.parameters.get("unchanged_max_age_days", 0),
        row.shuffle_seed,
        row.created_at,
        row.interrupted,
        row.parameters.get("most") is None and row.parameters.get("only") is None,
        row.started_at is not None,
    )


@persistent
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


async def require_catalog(connection: AsyncConnection) -> None:
    """Refuse a shop that has nothing to recommend.

    Raises:
        InputError: no product is available and not hidden.
    """
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
