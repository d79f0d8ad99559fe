"""Writes outcomes to the database and yields each recommendation only after its transaction has committed."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from pipeline.domain import (
    CommittedRecommendation,
    Origin,
    Outcome,
    Rank,
    Recommendation,
    Rejection,
    RejectionReason,
)
from pipeline.errors import RowRefusedError
from pipeline.group_commit import GroupCommit, Row
from pipeline.slates import Slate, SlateLedger


async def write(
    outcomes: AsyncGenerator[Outcome],
    slate: Slate,
    writer: GroupCommit,
    ledger: SlateLedger,
    origin: Origin | None = None,
) -> AsyncGenerator[CommittedRecommendation]:
    """Yield each recommendation once it is durable, at the next free rank of the slate; record each rejection.

    `origin` is what ranks them, where that is not the run's own model.

    Raises:
        SlateTakenOverError: another attempt has opened the slate since. What was yielded before is durable.
        DatabaseUnavailableError: the server stayed away. What was yielded before is durable.
    """
    async with aclosing(outcomes):
        async for outcome in outcomes:
            if isinstance(outcome, Rejection):
                await ledger.reject(slate, outcome)
                continue
            committed = await _commit(outcome, slate, writer, ledger, origin)
            if committed is not None:
                yield committed


async def _commit(
    judged: Recommendation, slate: Slate, writer: GroupCommit, ledger: SlateLedger, origin: Origin | None
) -> CommittedRecommendation | None:
    # A row that Postgres refused left its rank free, so the next one takes it: ranks have no holes.
    recommendation = replace(judged, rank=Rank(slate.next_rank))
    row = Row(slate.customer_id, slate.lease, slate.attempt, recommendation, origin)
    try:
        committed_at = await writer.commit(row)
    except RowRefusedError as error:
        raw = f"{recommendation.product_id} {recommendation.product_name}"[:2000]
        await ledger.reject(slate, Rejection(RejectionReason.REFUSED_BY_DATABASE, str(error), raw))
        return None
    slate.placed[recommendation.product_id] = recommendation
    return CommittedRecommendation(recommendation, committed_at)
