"""Writing to a real database: durable before it is yielded, refused objects recorded, no holes in the ranks."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import (
    CommittedRecommendation,
    CustomerId,
    Outcome,
    ProductId,
    Rank,
    Recommendation,
    Rejection,
    RejectionReason,
)
from pipeline.errors import AnswerCutError
from pipeline.group_commit import GroupCommit, open_group_commit
from pipeline.runs import Run
from pipeline.slates import Slate, SlateLedger
from pipeline.writing import write
from tests.fixtures.shop import RANKER, add_run, read, some_candidates

REJECTION = Rejection(RejectionReason.MISSING_SCORE, "it has no score", '{"i": 3}')


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    return await add_run(engine, "c")


@pytest.fixture
async def ledger(engine: AsyncEngine, run: Run) -> SlateLedger:
    return SlateLedger(engine, run.run_id, run.day)


@pytest.fixture
async def slate(ledger: SlateLedger) -> Slate:
    opened = await ledger.open(CustomerId("c"), some_candidates(10), 10)
    opened.attempt = 1
    return opened


@pytest.fixture
async def writer(database_url: str, run: Run) -> AsyncIterator[GroupCommit]:
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as opened:
        yield opened


def judged(rank: int, name: str = "A product", score: float = 0.5) -> Recommendation:
    return Recommendation(Rank(rank), ProductId(f"p{rank}"), name, score)


class Outcomes:
    """A stage above: yields what it was given, then waits at its gate, and knows whether it was closed."""

    def __init__(self, *outcomes: Outcome, after: tuple[Outcome, ...] = (), error: Exception | None = None) -> None:
        self._outcomes, self._after, self._error = outcomes, after, error
        self.waiting, self.gate, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self) -> AsyncGenerator[Outcome]:
        try:
            for outcome in self._outcomes:
                yield outcome
            if self._error is not None:
                raise self._error
            self.waiting.set()
            await self.gate.wait()
            for outcome in self._after:
                yield outcome
        finally:
            self.closed.set()


async def all_of(rows: AsyncGenerator[CommittedRecommendation]) -> list[CommittedRecommendation]:
    async with aclosing(rows):
        return [row async for row in rows]


async def stands(engine: AsyncEngine) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await read(engine, "SELECT rank, product_id FROM recommendations ORDER BY rank")]


async def test_rank_one_is_visible_to_others_while_the_rest_is_held_back(
    engine: AsyncEngine, slate: Slate, writer: GroupCommit, ledger: SlateLedger
) -> None:
    outcomes = Outcomes(judged(1), after=(judged(2),))
    async with aclosing(write(outcomes.run(), slate, writer, ledger)) as rows:
        first = await anext(rows)
        assert not outcomes.gate.is_set()
        assert await read(engine, "SELECT rank, product_id, committed_at FROM recommendations") == [
            (1, "p1", first.committed_at)
        ]
        outcomes.gate.set()
        second = await anext(rows)
        assert await stands(engine) == [(1, "p1"), (2, "p2")]
        assert [row async for row in rows] == []

    assert (first.recommendation, second.recommendation) == (judged(1), judged(2))
    assert slate.next_rank == 3


async def test_a_rejection_is_recorded_and_the_stream_goes_on(
    engine: AsyncEngine, slate: Slate, writer: GroupCommit, ledger: SlateLedger
) -> None:
    outcomes = Outcomes(judged(1), REJECTION, judged(2))
    outcomes.gate.set()

    rows = await all_of(write(outcomes.run(), slate, writer, ledger))

    assert [row.recommendation.rank for row in rows] == [1, 2]
    assert await read(engine, "SELECT customer_id, attempt, reason, detail, raw FROM rejections") == [
        ("c", 1, "missing_score", "it has no score", '{"i": 3}')
    ]


async def test_a_row_that_the_database_refuses_is_recorded_and_leaves_no_hole(
    engine: AsyncEngine, slate: Slate, writer: GroupCommit, ledger: SlateLedger
) -> None:
    outcomes = Outcomes(judged(1), judged(2, name="Nul \x00"), judged(3, score=2.0), judged(4))
    outcomes.gate.set()

    rows = await all_of(write(outcomes.run(), slate, writer, ledger))

    assert [(row.recommendation.rank, row.recommendation.product_id) for row in rows] == [(1, "p1"), (2, "p4")]
    assert await stands(engine) == [(1, "p1"), (2, "p4")]
    refused = await read(engine, "SELECT reason, raw FROM rejections ORDER BY number")
    assert refused == [("refused_by_database", "p2 Nul \\u0000"), ("refused_by_database", "p3 A product")]


async def test_rows_go_on_after_those_of_an_earlier_attempt(
    engine: AsyncEngine, slate: Slate, writer: GroupCommit, ledger: SlateLedger
) -> None:
    for outcomes in (Outcomes(judged(1), judged(2)), Outcomes(judged(3), judged(4))):
        outcomes.gate.set()
        await all_of(write(outcomes.run(), slate, writer, ledger))

    assert await stands(engine) == [(1, "p1"), (2, "p2"), (3, "p3"), (4, "p4")]


async def test_leaving_the_loop_closes_the_stage_above(slate: Slate, writer: GroupCommit, ledger: SlateLedger) -> None:
    outcomes = Outcomes(judged(1))
    async with aclosing(write(outcomes.run(), slate, writer, ledger)) as rows:
        async for _ in rows:
            break
    assert outcomes.closed.is_set()


async def test_an_error_from_above_comes_after_every_row_before_it(
    engine: AsyncEngine, slate: Slate, writer: GroupCommit, ledger: SlateLedger
) -> None:
    outcomes = Outcomes(judged(1), judged(2), error=AnswerCutError("cut"))
    async with aclosing(write(outcomes.run(), slate, writer, ledger)) as rows:
        assert [(await anext(rows)).recommendation.rank for _ in range(2)] == [1, 2]
        with pytest.raises(AnswerCutError):
            await anext(rows)

    assert outcomes.closed.is_set()
    assert await stands(engine) == [(1, "p1"), (2, "p2")]


async def test_cancellation_closes_the_stage_above_and_keeps_the_rows(
    engine: AsyncEngine, slate: Slate, writer: GroupCommit, ledger: SlateLedger
) -> None:
    outcomes = Outcomes(judged(1))
    reading = asyncio.create_task(all_of(write(outcomes.run(), slate, writer, ledger)))
    await asyncio.wait_for(outcomes.waiting.wait(), 30)

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert outcomes.closed.is_set()
    assert await stands(engine) == [(1, "p1")]
