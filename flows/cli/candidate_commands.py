"""`candidates build`, `list` and `use`: what candidates are looked up in."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import typer
from rich.table import Table

from flows.cli.options import AsJson, DatabaseUrl, Quiet, settings_from
from flows.cli.output import console, notes, print_json
from flows.moments import read_moment
from pipeline.candidates.building import build_candidates
from pipeline.candidates.builds import Build, current_build, list_builds, take_into_service
from pipeline.candidates.recipe import load_recipe
from pipeline.database import open_engine
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current


def build(
    as_of: Annotated[
        str | None, typer.Option(metavar="TIME", help="From what happened up to this moment; now by default.")
    ] = None,
    method: Annotated[
        Literal["auto", "sql", "scipy"] | None,
        typer.Option(help="In Postgres alone, or with the extra recstream[scale]; by the number of events by default."),
    ] = None,
    database_url: DatabaseUrl = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Build candidates anew, and put them into service.

    Those of before serve until then, and stay if it fails. Every night begins with this. Only the last two builds that
    were in service are kept, and those that a run needs which goes on or can be resumed.

    Example: recstream candidates build
    """
    settings = settings_from(database_url=database_url, candidate_method=method)
    moment = None if as_of is None else read_moment(as_of, ZoneInfo(settings.time_zone), "--as-of")
    recipe = load_recipe(settings.candidate_recipe)
    tell = (lambda _: None) if quiet else partial(notes().print, markup=False)
    with provided_database(settings) as url:
        require_current(url)
        built = build_candidates(url, recipe, as_of=moment, method=settings.candidate_method, tell=tell)
    if as_json:
        print_json(built)
    else:
        console().print(f"build {built.build_id} is in service: {_content(built)}", markup=False)
    return 0


def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 10,
    trials: Annotated[bool, typer.Option("--trials", help="Also those that were made to be measured.")] = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Show the builds of candidates, and which is in service.

    With --json also how and for how long they were built.

    Example: recstream candidates list
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        builds, current = asyncio.run(_listed(url, limit, trials=trials))
    if as_json:
        print_json({"in_service": None if current is None else current.build_id, "builds": builds})
    elif builds:
        console().print(_table(builds, current))
        for built in builds:
            for remark in _remarks(built):
                console().print(f"build {built.build_id}: {remark}", markup=False)
    else:
        console().print("no candidates have been built yet: popularity serves", markup=False)
    return 0


def use(
    build_id: Annotated[int, typer.Argument(metavar="build", help="Its number.")],
    database_url: DatabaseUrl = None,
) -> int:
    """Go back to a former build, or forth again.

    It serves until candidates are built again: the next night does that, unless candidates_every_days lets this one
    serve for longer. Only the last two builds that were in service are kept, and those that a run needs:
    `recstream candidates list` shows which.

    Example: recstream candidates use 12
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        taken = asyncio.run(_taken(url, build_id))
    console().print(f"build {taken.build_id} is in service: {_content(taken)}", markup=False)
    return 0


async def _listed(url: str, limit: int, *, trials: bool) -> tuple[list[Build], Build | None]:
    async with open_engine(url, connections=1) as engine:
        return await list_builds(engine, limit, trials=trials), await current_build(engine)


async def _taken(url: str, build_id: int) -> Build:
    async with open_engine(url, connections=1) as engine:
        return await take_into_service(engine, build_id)


def _content(built: Build) -> str:
    return (
        f"{built.customers:,} customers, {built.products:,} products, {built.pairs:,} pairs, "
        f"up to {built.as_of:%Y-%m-%d %H:%M} UTC"
    )


def _table(builds: list[Build], current: Build | None) -> Table:
    table = Table(title="Builds of candidates", title_justify="left")
    for heading in ("build", "state", "looks up to", "customers", "products", "pairs"):
        table.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
    for built in builds:
        in_service = current is not None and built.build_id == current.build_id
        table.add_row(
            str(built.build_id),
            "in service" if in_service else str(built.state),
            f"{built.as_of:%Y-%m-%d %H:%M}",
            *(f"{number:,}" for number in (built.customers, built.products, built.pairs)),
        )
    return table


def _remarks(built: Build) -> Iterator[str]:
    """What is to be said of a build that no number says."""
    if built.trial:
        yield "made on trial, to be measured"
    if built.reason:
        yield built.reason
