"""Breaks the pipeline of this process on purpose, in seven ways: the checker has to notice. For the bench alone.

What is acknowledged wrongly has the database's own times: only the rows that are not there betray it.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection as Transaction

from pipeline import committing, publishing, recommending
from pipeline.committing import Committer, Fate, Row
from pipeline.deltas import AnswerText
from pipeline.domain import Candidates, CommittedRecommendation, Profile
from pipeline.errors import AnswerError, RowRefusedError
from pipeline.gates import Figures
from pipeline.group_commit import GroupCommit
from pipeline.publications import Publishable
from pipeline.recommending import SlateServices
from pipeline.routes import Course
from pipeline.slates import Slate

_FENCE = b"JOIN held USING (customer_id, lease)"
_NO_FENCE = b"JOIN held USING (customer_id)"
_HELD_BACK_S = 0.2  # of a transaction that was acknowledged before its COMMIT
_REJECTED_SHARE = 0.1
_GIVEN_UP_SHARE = 0.8
_GAP_S = 0.3


def _acknowledge_early() -> None:
    """Rows are acknowledged once they are written; their COMMIT follows a moment later."""
    commit = Committer._commit  # noqa: SLF001 - the sabotage of exactly this code
    going_on: WeakKeyDictionary[Committer, asyncio.Task[None]] = WeakKeyDictionary()

    async def end_later(connection: AsyncConnection) -> None:
        await asyncio.sleep(_HELD_BACK_S)
        with suppress(psycopg.Error):
            await connection.execute("COMMIT")

    async def acknowledged(committer: Committer, connection: AsyncConnection, rows: Sequence[Row]) -> list[Fate]:
        if committer in going_on:
            await going_on.pop(committer)
        await connection.execute("BEGIN")
        fates = await commit(committer, connection, rows)
        going_on[committer] = asyncio.create_task(end_later(connection))
        return fates

    Committer._commit = acknowledged  # type: ignore[assignment, method-assign] # noqa: SLF001 - is what this is for


def _drop_the_fence() -> None:
    """Rows are written for whoever hands them over, whoever holds the slate."""
    read = committing._sql  # noqa: SLF001 - the sabotage of exactly this code

    def without_fence(name: str) -> bytes:
        return read(name).replace(_FENCE, _NO_FENCE)

    if without_fence("commit_recommendations") == read("commit_recommendations"):
        raise AssertionError("the statement has no fence to drop: adapt this sabotage to it")
    committing._sql = without_fence  # type: ignore[assignment] # noqa: SLF001 - it has a cache of its own


def _swallow_errors() -> None:
    """A group whose write failed is acknowledged all the same: with the time at which Postgres is there again."""
    commit = Committer._commit  # noqa: SLF001 - the sabotage of exactly this code

    async def unfailing(committer: Committer, connection: AsyncConnection, rows: Sequence[Row]) -> list[Fate]:
        try:
            return await commit(committer, connection, rows)
        except psycopg.Error:
            await committer.close()
            again = await committer._connected()  # noqa: SLF001 - as above
            return await _looked_up(committer, again, rows)

    Committer._commit = unfailing  # type: ignore[assignment, method-assign] # noqa: SLF001 - is what this is for


async def _looked_up(committer: Committer, connection: AsyncConnection, rows: Sequence[Row]) -> list[Fate]:
    """The time of each row that is there, for it may have been committed unseen; of the others, Postgres's clock."""
    sent = committer._run | committing._columns(rows)  # noqa: SLF001 - the sabotage of exactly this code
    found = await (await connection.execute(committing._sql("recognise_recommendations"), sent)).fetchall()  # noqa: SLF001 - as above
    ((now,),) = await (await connection.execute("SELECT clock_timestamp()")).fetchall()
    return [committed_at or now for committed_at, _ in found]


def _reject_valid_rows() -> None:
    """Every tenth row becomes a rejection, as if Postgres had refused it."""
    commit = GroupCommit.commit

    async def choosy(writer: GroupCommit, row: Row) -> datetime:
        if random.random() < _REJECTED_SHARE:
            raise RowRefusedError("Postgres refuses the row: sabotage")
        return await commit(writer, row)

    GroupCommit.commit = choosy  # type: ignore[assignment, method-assign] # is what this is for


def _swap_the_order() -> None:
    """Of every two objects of an answer the later one comes first."""
    parse = recommending.parse  # type: ignore[attr-defined] # the name by which it is called there

    async def swapped(texts: AsyncGenerator[AnswerText], enough: Callable[[], bool]) -> AsyncGenerator[str]:
        held: str | None = None
        try:
            async for raw in parse(texts, enough):
                if held is None:
                    held = raw
                    continue
                yield raw
                yield held
                held = None
        except AnswerError:
            if held is not None:
                yield held
            raise
        if held is not None:
            yield held

    recommending.parse = swapped  # type: ignore[assignment, attr-defined] # is what this is for


def _give_up() -> None:
    """Most slates are closed without a question to the ranker."""
    attempts = recommending._attempts  # noqa: SLF001 - the sabotage of exactly this code

    async def lazy(
        profile: Profile, candidates: Candidates, slate: Slate, course: Course, services: SlateServices
    ) -> AsyncGenerator[CommittedRecommendation]:
        if random.random() < _GIVEN_UP_SHARE:
            await recommending._close(slate, "sabotage", services.ledger)  # noqa: SLF001 - as above
            return
        async for row in attempts(profile, candidates, slate, course, services):
            yield row

    recommending._attempts = lazy  # noqa: SLF001 - is what this is for


def _leave_a_gap() -> None:
    """Before a night is published everything is withdrawn, for a moment."""
    write = publishing.write_publication  # type: ignore[attr-defined] # the name by which it is called there

    async def gaping(connection: Transaction, run: Publishable, figures: Figures, precedence: datetime) -> None:
        async with connection.engine.connect() as other:
            await other.execute(text("UPDATE published_runs SET withdrawn_at = now() WHERE withdrawn_at IS NULL"))
            await other.commit()
            await asyncio.sleep(_GAP_S)
            await other.execute(text("UPDATE published_runs SET withdrawn_at = NULL"))
            await other.commit()
        await write(connection, run, figures, precedence)

    publishing.write_publication = gaping  # type: ignore[attr-defined] # is what this is for


SABOTAGES: Mapping[str, Callable[[], None]] = {
    "early-ack": _acknowledge_early,
    "give-up": _give_up,
    "no-fence": _drop_the_fence,
    "publish-gap": _leave_a_gap,
    "reject-valid": _reject_valid_rows,
    "swallow-error": _swallow_errors,
    "swap-order": _swap_the_order,
}
