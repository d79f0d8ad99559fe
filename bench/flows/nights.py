"""Nights in processes of their own, begun once all is imported there."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from bench.limits.workers import Worker, started
from pipeline.errors import UnfinishedRunError

Kind = Literal["flow", "alone"]


@asynccontextmanager
async def night(
    kind: Kind, customers: int | None, folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[Worker]:
    """A process that has been told to begin a night; all customers where no number is given.

    Raises:
        UnfinishedRunError: it ended before it was ready.
    """
    arguments = (kind, "all" if customers is None else str(customers))
    async with started("bench.flows.night", arguments, folder, environment) as process:
        await process.told()
        process.say("go")
        yield process


async def seconds_of(process: Worker) -> float:
    """How long its night took.

    Raises:
        UnfinishedRunError: the night did not come to its end.
    """
    told = await process.told()
    if told["failed"] is not None:
        raise UnfinishedRunError(told["failed"])
    return told["seconds"]


async def night_s(kind: Kind, customers: int, folder: Path, environment: Mapping[str, str]) -> float:
    """The seconds of one night, from its beginning to its end.

    Raises:
        UnfinishedRunError: it did not come to its end.
    """
    async with night(kind, customers, folder, environment) as process:
        return await seconds_of(process)
