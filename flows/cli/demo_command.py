"""`demo`: everything at once, on a machine that has nothing."""

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.exits import UNFINISHED
from flows.cli.night_run import run_night
from flows.cli.options import AsJson, settings_from
from flows.cli.output import console, notes, print_json, slate_document, slate_table, summary_table
from flows.parameters import NightlyParameters
from pipeline.database import open_connection, open_engine
from pipeline.demo_shop import ARTICLE_CUSTOMER_ID, populate
from pipeline.domain import CustomerId
from pipeline.errors import ConfigurationError
from pipeline.provided_database import provided_database
from pipeline.reading import ReadSlate, read_current_slate
from pipeline.runs import RunSummary
from pipeline.schema import migrate
from pipeline.settings import SETTINGS_FILE

DEMO_SHARD_SIZE = 100


def demo(
    as_json: AsJson = False,
    tokens_per_second: Annotated[
        float | None, typer.Option(min=0, help="Pace of the offline ranker's answers; 0 is as fast as it goes.")
    ] = None,
) -> int:
    """Run a night over a demo shop.

    Through Prefect, with everything it needs: no key, no database of yours is used.

    Example: recstream demo
    """
    _leave_the_real_things_alone()
    settings = settings_from(shard_size=DEMO_SHARD_SIZE, offline_tokens_per_second=tokens_per_second)
    if settings.database_url is not None or not settings.offline:
        raise ConfigurationError(
            f"{SETTINGS_FILE} here names a real database or endpoint, which the demo must not use: "
            "run it in an empty folder"
        )
    customer_id = CustomerId(ARTICLE_CUSTOMER_ID)
    with provided_database(settings) as url:
        _set_up(url)
        summary = run_night(settings, url, NightlyParameters(refresh=True), spotlight=customer_id)
        slate = asyncio.run(_published_slate(url, customer_id))
    if as_json:
        print_json({"summary": summary, "slate": None if slate is None else slate_document(slate)})
    else:
        _tell(summary, slate)
    return UNFINISHED if summary.left or summary.kept_back else 0


def _leave_the_real_things_alone() -> None:
    """A key or database that happens to be set is not for invented customers."""
    for name in ("DATABASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "RECSTREAM_MODEL"):
        if os.environ.pop(name, None):
            notes().print(f"recstream demo: {name} is set, but not used here")


def _set_up(url: str) -> None:
    migrate(url)
    with open_connection(url) as connection:
        shop = populate(connection)
    notes().print(
        f"recstream demo: {shop.customers:,} customers, {shop.products:,} products and {shop.events:,} events "
        f"in the embedded PostgreSQL 18 ({'made now' if shop.inserted else 'there already'})",
        markup=False,
    )


async def _published_slate(url: str, customer_id: CustomerId) -> ReadSlate | None:
    """None where his slate did not become complete: the summary has to be shown all the more then."""
    async with open_engine(url, connections=1) as engine:
        return await read_current_slate(engine, customer_id)


def _tell(summary: RunSummary, slate: ReadSlate | None) -> None:
    console().print(summary_table(summary))
    if slate is not None:
        console().print(slate_table(slate))
    command = _as_typed()
    console().print("Next, try:")
    for line in (
        f"{command} recommend {ARTICLE_CUSTOMER_ID}",
        f"{command} show {ARTICLE_CUSTOMER_ID} --json",
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
