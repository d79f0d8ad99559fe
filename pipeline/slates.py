"""The ledger of slates: what is known of one customer in one run, read when it opens and written as it goes on."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import statement
from pipeline.domain import (
    AnswerRecord,
    Candidates,
    CustomerId,
    Ending,
    FoundBy,
    ProductId,
    Rank,
    Recommendation,
    Rejection,
    RunId,
    ShardLease,
    SlateState,
)
from pipeline.errors import DatabaseError, SlateTakenOverError, taken_over
from pipeline.persistence import persistent
from pipeline.shard_ledger import of_shard, require_newest
from pipeline.tables import llm_calls, slates

_LETTERS: Final = {
    FoundBy.NEIGHBOURS: "n",
    FoundBy.REPEAT: "r",
    FoundBy.POPULAR: "p",
    FoundBy.NEWCOMER: "c",
    FoundBy.PINNED: "i",
    FoundBy.CATALOG: "a",
}


@dataclass(slots=True)
class Slate:
    """One customer's slate while it is being made. `placed` holds the rows that are durable, by product."""

    run_id: RunId
    day: date
    customer_id: CustomerId
    wanted: int
    state: SlateState = SlateState.STREAMING
    lease: int = 0
    attempt: int = 0
    placed: dict[ProductId, Recommendation] = field(default_factory=dict)
    opened_at: float = field(default_factory=time.monotonic)
    first_row_s: float | None = None
    last_row_s: float | None = None
    refused: int = 0  # objects, in this attempt

    @property
    def next_rank(self) -> Rank:
        """The rank after the last durable row."""
        return Rank(len(self.placed) + 1)

    @property
    def missing(self) -> int:
        """How many rows are still wanted."""
        return max(self.wanted - len(self.placed), 0)

    @property
    def age_s(self) -> float:
        """Seconds since the slate was opened."""
        return time.monotonic() - self.opened_at

    def note_row(self) -> None:
        """Remember when the first row and the last of this opening were durable."""
        self.last_row_s = self.age_s
        if self.first_row_s is None:
            self.first_row_s = self.age_s

    @property
    def key(self) -> dict[str, object]:
        """Which row of the ledger it is, and who it was opened by."""
        return {"run_id": self.run_id, "day": self.day, "customer_id": self.customer_id, "lease": self.lease}


class SlateLedger:
    """Reads and writes the ledger of one run. Every method is one short transaction.

    Who opens a slate takes its lease: whatever an earlier opener still tries to write to it is refused. A transaction
    outlives a restart of Postgres: it is done again, and one that was committed unseen is not the worse for it.
    `lease` is for who serves a shard: he opens slates for as long as it is the newest.
    """

    def __init__(self, engine: AsyncEngine, run_id: RunId, day: date, lease: ShardLease | None = None) -> None:
        self._engine = engine
        self._lease = lease
        # One statement is one transaction there: no BEGIN and no COMMIT travel.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._run_id = run_id
        self._day = day

    @persistent
    async def open(
        self, customer_id: CustomerId, candidates: Candidates | None, wanted: int, variant: str | None = None
    ) -> Slate:
        """The slate with the rows that an earlier try committed; from now on it is streaming.

        `candidates` are written down with where each was found, None where none were looked for. `variant` is which of
        the run's variants makes it, None where it has none.

        A complete slate stays complete, and so does an unchanged one: it comes back with nothing missing, and can be
        written to by nobody.

        Raises:
            SlateTakenOverError: the run has no slate for this customer: he was erased, or never planned.
            ShardTakenOverError: his shard was offered to another.
        """
        slate = Slate(self._run_id, self._day, customer_id, wanted)
        async with self._engine.begin() as connection:
            opened = slate.key | _columns(candidates) | {"variant": variant} | of_shard(self._lease)
            found = await connection.execute(statement("open_slate"), opened)
            row = found.one_or_none()
            if row is None:
                await require_newest(connection, self._lease)
                await _require_complete(connection, slate)
                slate.state = SlateState.COMPLETE
            else:
                slate.lease, slate.attempt, slate.first_row_s = row.lease, row.attempts, row.first_row_s
            slate.placed = await _rows_of(connection, slate)
        offered = _ids(candidates) if slate.state is SlateState.STREAMING else set()
        slate.wanted = min(wanted, len(offered | slate.placed.keys()))
        return slate

    async def begin_attempt(self, slate: Slate, input_hash: str, endpoint: str | None = None) -> None:
        """Record that the next request for this slate is about to be sent: where, if not to the run's own endpoint.

        Raises:
            SlateTakenOverError: another has opened the slate since.
        """
        slate.attempt += 1
        slate.refused = 0
        begun = {"attempt": slate.attempt, "input_hash": input_hash, "endpoint": endpoint}
        await self._hold("begin_attempt", slate, begun)

    async def reject(self, slate: Slate, rejection: Rejection) -> None:
        """Record one refused object.

        Raises:
            SlateTakenOverError: another has opened the slate since.
        """
        slate.refused += 1
        refused = {
            "attempt": slate.attempt,
            "number": slate.refused,
            "reason": rejection.reason,
            "detail": _storable(rejection.detail),
            "raw": _storable(rejection.raw),
        }
        await self._hold("reject_object", slate, refused)

    @persistent
    async def end_attempt(self, slate: Slate, record: AnswerRecord, ending: Ending, error: str | None) -> None:
        """Record how the request ended, what it cost and what its answer was worth; its tokens are added once.

        What the attempt of a former opener cost is recorded all the same: it was paid.
        """
        await self._end_attempt(slate, record, ending, error)

    async def abandon_attempt(self, slate: Slate, record: AnswerRecord) -> None:
        """Record a request that was left before its end, if the database is there: nobody waits for it who leaves."""
        with suppress(DatabaseError):  # else the attempt stays in flight, and the next opener says that it died
            await self._end_attempt(slate, record, Ending.ABANDONED, None)

    async def _end_attempt(self, slate: Slate, record: AnswerRecord, ending: Ending, error: str | None) -> None:
        async with self._single.connect() as connection:
            await connection.execute(statement("end_attempt"), slate.key | _outcome(slate, record, ending, error))

    async def give_back(self, slate: Slate, reason: str) -> None:
        """Leave a slate that is not done to whoever opens it next, if the database is there."""
        values: dict[str, object] = {
            "state": SlateState.PENDING,
            "reason": _storable(reason),
            "slate_s": slate.age_s,
        }
        with suppress(DatabaseError):  # else it stays streaming, which is as good for the next opener
            await self._hold_once("close_slate", slate, values)

    async def close(self, slate: Slate, state: SlateState, reason: str | None) -> None:
        """Give the slate its last state of this run, with the reason if it is not complete.

        Raises:
            SlateTakenOverError: another has opened the slate since.
        """
        await self._hold("close_slate", slate, {"state": state, "reason": _storable(reason), "slate_s": slate.age_s})
        slate.state = state

    @persistent
    async def _hold(self, name: str, slate: Slate, values: dict[str, object]) -> None:
        await self._hold_once(name, slate, values)

    async def _hold_once(self, name: str, slate: Slate, values: dict[str, object]) -> None:
        """Execute a statement that returns a row only to whoever holds the slate."""
        async with self._single.connect() as connection:
            if await connection.scalar(statement(name), slate.key | values) is None:
                raise taken_over(slate.customer_id)


@persistent
async def note_not_attempted(engine: AsyncEngine, run_id: RunId, day: date, why: str) -> None:
    """Write to every customer of the run who is left why he was not served."""
    waiting = (slates.c.run_id == run_id) & (slates.c.day == day) & (slates.c.state == SlateState.PENDING)
    async with engine.begin() as connection:
        await connection.execute(update(slates).where(waiting).values(reason=_storable(f"not attempted: {why}")))


@persistent
async def has_answers(engine: AsyncEngine, run_id: RunId, day: date) -> bool:
    """Whether an answer to a request of this run ever ended well."""
    good = llm_calls.c.ending.in_([Ending.COMPLETE, Ending.ENOUGH])
    its = (llm_calls.c.run_id == run_id) & (llm_calls.c.day == day)
    async with engine.connect() as connection:
        return bool(await connection.scalar(select(select(llm_calls).where(its, good).exists())))


def _ids(candidates: Candidates | None) -> set[ProductId]:
    return set() if candidates is None else {it.product.product_id for it in candidates.found}


def _columns(candidates: Candidates | None) -> dict[str, object]:
    """What `open_slate.sql` writes of the candidates: null where none were looked for."""
    if candidates is None:
        nothing = ("candidate_ids", "candidate_scores", "candidate_sources", "as_of", "build", "removed")
        return dict.fromkeys(nothing)
    removed: dict[str, list[ProductId]] = {}
    for rule, product_id in candidates.removed:
        removed.setdefault(rule, []).append(product_id)
    return {
        "candidate_ids": [it.product.product_id for it in candidates.found],
        "candidate_scores": [it.score for it in candidates.found],
        "candidate_sources": "".join(_LETTERS[it.found_by] for it in candidates.found),
        "as_of": candidates.as_of,
        "build": candidates.build_id,
        "removed": json.dumps(removed) if removed else None,
    }


async def _require_complete(connection: AsyncConnection, slate: Slate) -> None:
    """A slate that cannot be opened is complete or unchanged, or not there."""
    its_state = select(slates.c.state).where(
        slates.c.run_id == slate.run_id, slates.c.day == slate.day, slates.c.customer_id == slate.customer_id
    )
    if await connection.scalar(its_state) not in {SlateState.COMPLETE, SlateState.UNCHANGED}:
        raise SlateTakenOverError(
            f"run {slate.run_id} has no slate for customer {slate.customer_id!r}: he was erased, or never planned"
        )


async def _rows_of(connection: AsyncConnection, slate: Slate) -> dict[ProductId, Recommendation]:
    rows = await connection.execute(statement("rows_of_slate"), slate.key)
    return {
        ProductId(row.product_id): Recommendation(
            Rank(row.rank), ProductId(row.product_id), row.product_name, row.relevance_score
        )
        for row in rows
    }


def _outcome(slate: Slate, record: AnswerRecord, ending: Ending, error: str | None) -> dict[str, object]:
    """What `end_attempt.sql` writes of an attempt."""
    return {
        "attempt": slate.attempt,
        "ending": ending,
        "error": _storable(error),
        "request_id": _storable(record.request_id),
        "model": _storable(record.model),
        "status": record.status,
        "tokens_in": record.usage.tokens_in,
        "tokens_out": record.usage.tokens_out,
        "tokens_cached": record.usage.tokens_cached,
        "tokens_estimated": record.usage.estimated,
        "cost": record.cost,
        "first_byte_s": record.first_byte_s,
        "answer_s": record.whole_s,
        "refused_objects": record.refused_objects,
        "score_rises": record.score_rises,
        "first_row_s": slate.first_row_s,
        "last_row_s": slate.last_row_s,
        "slate_s": slate.age_s,
    }


def _storable(text: str | None) -> str | None:
    """Text that Postgres can hold: no U+0000, no lone surrogate, bounded."""
    if text is None:
        return None
    return text[:2000].replace("\x00", "\\u0000").encode("utf-8", "backslashreplace").decode("utf-8")
