"""`compare`: two runs, or two variants of one, side by side."""

import asyncio
from typing import Annotated

import typer

from flows.cli.comparison_table import print_comparison
from flows.cli.options import AsJson, DatabaseUrl, settings_from
from flows.cli.output import console, print_json
from pipeline.comparing import Comparison, SideName, compare_sides, find_sides, read_name
from pipeline.database import open_engine
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current


def compare(
    run_a: Annotated[str, typer.Argument(help="A run's id, or RUN:VARIANT for a variant of it.")],
    run_b: Annotated[str, typer.Argument(help="What it is held against, named alike.")],
    days: Annotated[
        int, typer.Option(min=1, max=366, help="Hits are purchases within so many days after both runs.")
    ] = 30,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Hold two runs against each other.

    How alike they rank, what they cost, how long they took, and what was bought of what they recommended. Only
    complete slates are compared. `recstream runs` shows the ids.

    Example: recstream compare 6f1c2f9e-0d0a-4c3e-9a53-0f6f6a1d2b11:control 6f1c2f9e-0d0a-4c3e-9a53-0f6f6a1d2b11:brief
    """
    first, second = read_name(run_a), read_name(run_b)
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        comparison = asyncio.run(_compare(url, first, second, days))
    if as_json:
        print_json(comparison)
    else:
        print_comparison(comparison, console())
    return 0


async def _compare(url: str, first: SideName, second: SideName, days: int) -> Comparison:
    async with open_engine(url, connections=1) as engine:
        return await compare_sides(engine, *(await find_sides(engine, first, second)), days=days)
