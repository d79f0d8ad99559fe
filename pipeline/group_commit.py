"""Commits the recommendation rows of a run in groups without making any row wait for a timer.

Callers hand over a row and wait until it is durable. A committer takes everything that arrived while the last
transaction was committing, writes it in one statement, commits, and releases each caller. An idle system commits a row
at once; a busy one commits many together. Where many arrive while a transaction is committing, a second committer takes
them: rows are made ready while the server works.

One row that Postgres refuses is found and refused alone, and a row of an attempt whose slate has been opened by another
is not written.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Final

from pipeline.committing import Committer, Fate, Row
from pipeline.domain import RunId
from pipeline.errors import DatabaseError, DatabaseUnavailableError, RowRefusedError

__all__ = ["MAX_WAITING", "GroupCommit", "Row", "Tell", "open_group_commit", "tell_nobody"]

MAX_WAITING: Final = 1_000  # one transaction takes them all; of 64 rows on, more of them make no row much cheaper
COMMITTERS: Final = 2
WORTH_SHARING: Final = 64  # rows; a second transaction is no gain for fewer

Tell = Callable[[Sequence[Row]], None]
"""Is called with rows that are committed, after their callers were released. It may neither wait nor raise."""

_Durable = asyncio.Future[datetime]
_Group = Sequence[tuple[_Durable, Row]]


class GroupCommit:
    """The writer of one run in one event loop. Open it with `open_group_commit`."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._arrived = asyncio.Event()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._waiting: dict[_Durable, Row] = {}
        self._committing = 0
        self._ended = False

    async def commit(self, row: Row) -> datetime:
        """Return the row's `committed_at` once it is durable. Handing over a row that is there already is harmless.

        Raises:
            RowRefusedError: Postgres refuses this row, or another row holds its rank or its product.
            SlateTakenOverError: another has opened the slate since, or it is there no more.
            DatabaseUnavailableError: the server stayed away, or the writer has ended; the row may be handed over again.
            DatabaseError: Postgres takes no row at all, as when the table is not there.
        """
        await self._room.acquire()
        durable: _Durable = asyncio.get_running_loop().create_future()
        self._waiting[durable] = row
        self._offer()
        try:
            if self._ended:
                raise _writer_has_ended()
            return await durable
        finally:
            if self._waiting.pop(durable, None) is not None:  # nobody has taken the row, and nobody will
                self._room.release()

    async def run(self, committer: Committer) -> None:
        """Commit what arrives over this connection, until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                group = self._take()
                try:
                    await self._commit_group(committer, group)
                finally:
                    _abandon(durable for durable, _ in group)
                    self._committing -= 1
                    self._offer()
        finally:
            self._ended = True
            _abandon(self._waiting)
            await committer.close()

    def _offer(self) -> None:
        """Wake a committer, if there is something for one to do."""
        if self._takable():
            self._arrived.set()

    def _takable(self) -> int:
        """How many rows the next committer takes. A second one takes none before they are many.

        Of many, the first takes half: callers that are released together come back together, so the second would find
        none of them for ever.
        """
        waiting = len(self._waiting)
        if self._committing:
            return waiting if waiting >= WORTH_SHARING else 0
        return waiting // 2 if waiting >= WORTH_SHARING else waiting

    def _take(self) -> _Group:
        waiting, takable = list(self._waiting.items()), self._takable()
        group, self._waiting = waiting[:takable], dict(waiting[takable:])
        for _ in group:
            self._room.release()
        self._committing += 1
        self._arrived.clear()
        self._offer()
        return group

    async def _commit_group(self, committer: Committer, group: _Group) -> None:
        """Release every caller of the group. What Postgres refuses is cut in halves until the poisoned row is alone."""
        parts = [group] if group else []
        while parts:
            part = parts.pop()
            try:
                fates = await committer.commit([row for _, row in part])
            except RowRefusedError as error:
                if len(part) == 1:
                    _release(part, [error])
                else:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
            except DatabaseError as error:
                for rest in (part, *parts):
                    _release(rest, [error] * len(rest))
                return
            else:
                _release(part, fates)
                self._tell([row for (_, row), fate in zip(part, fates, strict=True) if isinstance(fate, datetime)])


def tell_nobody(_: Sequence[Row]) -> None:
    """For a writer whose rows nobody listens for."""


@asynccontextmanager
async def open_group_commit(
    url: str, run_id: RunId, day: date, provenance: str, *, tell: Tell = tell_nobody
) -> AsyncIterator[GroupCommit]:
    """A running writer of this run; at the end it stops, and callers that still wait get an error."""
    writer = GroupCommit(tell)
    committers = [Committer(url, run_id, day, provenance) for _ in range(COMMITTERS)]
    committing = [asyncio.create_task(writer.run(committer), name="group commit") for committer in committers]
    try:
        yield writer
    finally:
        for task in committing:
            task.cancel()
        for ended_by in await asyncio.gather(*committing, return_exceptions=True):
            if isinstance(ended_by, Exception):
                raise ended_by


def _writer_has_ended() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the writer has ended and the row is not known to be durable: hand it over again")


def _abandon(callers: Iterable[_Durable]) -> None:
    """Release those whom nobody else will release, however the writer came to its end."""
    for durable in callers:
        if not durable.done():
            durable.set_exception(_writer_has_ended())


def _release(group: _Group, fates: Sequence[Fate | DatabaseError]) -> None:
    for (durable, _), fate in zip(group, fates, strict=True):
        if durable.done():
            continue  # its caller was cancelled; the row stands all the same
        if isinstance(fate, datetime):
            durable.set_result(fate)
        else:
            durable.set_exception(fate)
