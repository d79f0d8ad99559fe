"""Who writes rows: recstream's writer, and three plain ways that commit a transaction for each row.

All write into the same partition, with fsync. The plain ways have no fence: they do not look whether the slate is still
theirs, and they do not tell when a row was committed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import create_engine, insert
from sqlalchemy.ext.asyncio import create_async_engine

from bench.write.database import connected
from bench.write.rows import PROVENANCE, OpenedRun
from pipeline.database import sqlalchemy_url
from pipeline.group_commit import Row, open_group_commit
from pipeline.tables import recommendations

PRODUCERS = 256
CONNECTIONS = 16

Commit = Callable[[Row], Awaitable[object]]
"""Returns once the row is durable."""

_INSERT = """
INSERT INTO recommendations
    (run_id, day, provenance, customer_id, attempt, rank, product_id, product_name, relevance_score)
VALUES (%(run_id)s, %(day)s, %(provenance)s, %(customer_id)s, %(attempt)s, %(rank)s, %(product_id)s, %(product_name)s,
        %(relevance_score)s)
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to write, and how many producers hand rows over to it at a time."""

    name: str
    opened: Callable[[str, OpenedRun], AbstractAsyncContextManager[Commit]]
    producers: int = PRODUCERS


@asynccontextmanager
async def group_commit(url: str, run: OpenedRun) -> AsyncIterator[Commit]:
    """recstream's own writer."""
    async with open_group_commit(url, run.run_id, run.day, PROVENANCE) as writer:
        yield writer.commit


@asynccontextmanager
async def psycopg_connections(url: str, run: OpenedRun) -> AsyncIterator[Commit]:
    """16 connections of psycopg and a prepared INSERT; with a producer for each, none ever waits for one."""
    places = asyncio.Semaphore(CONNECTIONS)
    async with AsyncExitStack() as stack:
        free = [await stack.enter_async_context(connected(url)) for _ in range(CONNECTIONS)]

        async def commit(row: Row) -> None:
            async with places:
                connection = free.pop()
                await connection.execute(_INSERT, _values(run, row), prepare=True)
                free.append(connection)

        yield commit


@asynccontextmanager
async def sqlalchemy_tasks(url: str, run: OpenedRun) -> AsyncIterator[Commit]:
    """SQLAlchemy's asynchronous engine with a pool of 16 connections."""
    engine = create_async_engine(sqlalchemy_url(url), pool_size=CONNECTIONS, max_overflow=0)
    statement = insert(recommendations)

    async def commit(row: Row) -> None:
        async with engine.begin() as connection:
            await connection.execute(statement, _values(run, row))

    try:
        yield commit
    finally:
        await engine.dispose()


@asynccontextmanager
async def sqlalchemy_threads(url: str, run: OpenedRun) -> AsyncIterator[Commit]:
    """SQLAlchemy's synchronous engine in 16 threads, with a connection for each."""
    engine = create_engine(sqlalchemy_url(url), pool_size=CONNECTIONS, max_overflow=0)
    statement = insert(recommendations)
    loop = asyncio.get_running_loop()

    def commit_now(row: Row) -> None:
        with engine.begin() as connection:
            connection.execute(statement, _values(run, row))

    try:
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            yield lambda row: loop.run_in_executor(threads, commit_now, row)
    finally:
        engine.dispose()


def _values(run: OpenedRun, row: Row) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "day": run.day,
        "provenance": PROVENANCE,
        "customer_id": row.customer_id,
        "attempt": row.attempt,
        "rank": row.recommendation.rank,
        "product_id": row.recommendation.product_id,
        "product_name": row.recommendation.product_name,
        "relevance_score": row.recommendation.relevance_score,
    }


OURS = Contender("recstream", group_commit)
PSYCOPG = Contender("psycopg, 16 connections", psycopg_connections, CONNECTIONS)
SQLALCHEMY = (
    Contender("SQLAlchemy, tasks", sqlalchemy_tasks),
    Contender("SQLAlchemy, threads", sqlalchemy_threads),
)
CONTENDERS = (OURS, PSYCOPG, *SQLALCHEMY)
