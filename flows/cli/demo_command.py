"""`demo`: everything at once, on a machine that has nothing."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.customer_commands import read_slate
from flows.cli.exits import UNFINISHED
from flows.cli.night_run import run_night
from flows.cli.options import AsJson, settings_from
from flows.cli.output import console, notes, print_json, slate_document, slate_table, summary_table
from flows.parameters import NightlyParameters
from pipeline.database import address, open_connection
from pipeline.demo_shop import ARTICLE_CUSTOMER_ID, populate
from pipeline.domain import CustomerId
from pipeline.provided_database import provided_database
from pipeline.reading import ReadSlate
from pipeline.runs import RunSummary
from pipeline.schema import migrate
from pipeline.settings import Settings

DEMO_SHARD_SIZE = 100


def demo(
    as_json: AsJson = False,
    tokens_per_second: Annotated[
        float | None, typer.Option(min=0, help="Pace of the offline ranker's answers; 0 is as fast as it goes.")
    ] = None,
) -> int:
    """Load the demo shop, run the night over it through Prefect, and show it happening. No key, no database needed.

    Example: recstream demo
    """
    settings = settings_from(shard_size=DEMO_SHARD_SIZE, offline_tokens_per_second=tokens_per_second)
    customer_id = CustomerId(ARTICLE_CUSTOMER_ID)
    with provided_database(settings) as url:
        _set_up(settings, url)
        summary = run_night(settings, url, NightlyParameters(), spotlight=customer_id)
        slate = asyncio.run(read_slate(url, customer_id, live=False))
    if as_json:
        print_json({"summary": summary, "slate": slate_document(slate)})
    else:
        _tell(summary, slate)
    return UNFINISHED if summary.left else 0


def _set_up(settings: Settings, url: str) -> None:
    where = "the embedded PostgreSQL 18" if settings.database_url is None else address(url)
    migrate(url)
    with open_connection(url) as connection:
        shop = populate(connection)
    notes().print(
        f"recstream demo: {shop.customers:,} customers, {shop.products:,} products and {shop.events:,} events "
        f"in {where} ({'made now' if shop.inserted else 'there already'})",
        markup=False,
    )


def _tell(summary: RunSummary, slate: ReadSlate) -> None:
    console().print(summary_table(summary))
    console().print(slate_table(slate))
    command = _as_typed()
    console().print("Next, try:")
    for line in (
        f"{command} recommend {slate.customer_id}",
        f"{command} show {slate.customer_id} --json",
        f"{command} status",
    ):
        console().print(f"  {line}", markup=False)


def _as_typed() -> str:
    """How this very program can be called again from here."""
    program = Path(sys.argv[0])
    found = shutil.which("recstream")
    if program.name != "recstream" or (found is not None and Path(found).resolve() == program.resolve()):
        return "recstream"
    here = Path.cwd()
    return str(program.relative_to(here)) if program.is_relative_to(here) else str(program)
