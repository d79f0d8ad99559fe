"""Measures published runs: what their slates foretold of the purchases made after the runs had looked at the shop."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.comparing import Side, SideName, find_side, find_sides
from pipeline.database import open_engine
from pipeline.evaluating.evaluation import Wanted, measure
from pipeline.evaluating.report import Evaluation
from pipeline.evaluating.run_lists import run_lists
from pipeline.evaluating.splits import read_span, split_after


def evaluate_runs(
    url: str,
    names: Sequence[SideName],
    *,
    begins: datetime | None,
    days: int,
    zone: ZoneInfo,
    places: int,
    seed: int,
) -> Evaluation:
    """Measure one run, or two against each other. Unless told, targets begin when the later had looked at the shop.

    Raises:
        InputError: a run is not there, or it, or the split, has seen a part of the targets.
        RunConflictError: the rows of a run were pruned.
        DatabaseError: a statement was refused, or the connection was lost.
    """
    return asyncio.run(_evaluate_runs(url, names, begins=begins, days=days, zone=zone, places=places, seed=seed))


async def _evaluate_runs(
    url: str,
    names: Sequence[SideName],
    *,
    begins: datetime | None,
    days: int,
    zone: ZoneInfo,
    places: int,
    seed: int,
) -> Evaluation:
    async with open_engine(url, connections=1) as engine:
        return await measure_runs(engine, names, begins=begins, days=days, zone=zone, places=places, seed=seed)


async def measure_runs(
    engine: AsyncEngine,
    names: Sequence[SideName],
    *,
    begins: datetime | None,
    days: int,
    zone: ZoneInfo,
    places: int,
    seed: int,
) -> Evaluation:
    """As `evaluate_runs`, on an engine that is open."""
    sides = await _sides(engine, names)
    span = await read_span(engine)
    split = split_after(span, [side.run for side in sides], begins=begins, days=days, zone=zone)
    apart = _are_apart(sides)
    sources = [await run_lists(engine, sides[0], "a", apart=apart)]
    sources += [await run_lists(engine, side, "b", before="a", apart=apart) for side in sides[1:]]
    return await measure(engine, Wanted(split, zone, places, seed), sources, notes=[*_notes(sides)])


def _are_apart(sides: Sequence[Side]) -> bool:
    """Whether they are variants of one run: no customer has both."""
    return len({side.run.run_id for side in sides}) < len(sides)


async def _sides(engine: AsyncEngine, names: Sequence[SideName]) -> Sequence[Side]:
    if len(names) == 1:
        return [await find_side(engine, names[0])]
    first, second = names
    return await find_sides(engine, first, second)


def _notes(sides: Sequence[Side]) -> Iterator[str]:
    for side in sides:
        if side.run.state.goes_on:
            yield f"run {side.run.run_id} is still going on: its figures are those of this moment"
        if side.run.variants and side.name.variant is None:
            yield f"run {side.run.run_id} tries variants: here they are together"
    if len(sides) == 2 and sides[0].run.as_of != sides[1].run.as_of:
        yield "the runs looked at the shop at different times: targets begin when the later one had"
    if _are_apart(sides):
        yield "no customer is in both variants: each is measured by its own, and held against the other as a group"
    else:
        yield "customers without a complete slate in each run do not count"
