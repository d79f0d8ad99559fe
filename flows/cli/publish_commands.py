"""`publish` and `rollback`: which night readers see, switched by hand."""

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from flows.cli.exits import UNFINISHED
from flows.cli.options import AsJson, DatabaseUrl, settings_from
from flows.cli.output import console, notes, print_json
from pipeline.database import open_engine
from pipeline.domain import RunId
from pipeline.gates import Figures, Gates
from pipeline.provided_database import provided_database
from pipeline.publications import Shown
from pipeline.publishing import Publication, Rollback, publish_by_hand, roll_back
from pipeline.schema_version import require_current


def publish(
    run_id: Annotated[UUID, typer.Argument(help="The nightly run's id; `recstream runs` shows the last ones.")],
    force: Annotated[
        bool, typer.Option("--force", help="Whatever its gates say, and also if the run is still going on.")
    ] = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Let readers see a night before all others.

    Its figures are counted, which takes some seconds for a million customers; the switch is one row. A customer
    without a complete slate in it keeps the one he had.

    Example: recstream publish 6f1c2f9e-0d0a-4c3e-9a53-0f6f6a1d2b11
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        publication = asyncio.run(_publish(url, RunId(run_id), settings.gates, force=force))
    if as_json:
        print_json(publication)
    elif publication.refusal is None:
        console().print(_published(publication), markup=False)
    if publication.refusal is None:
        return 0
    notes().print(f"recstream: run {publication.run_id} {publication.refusal}", markup=False)
    return UNFINISHED


def rollback(
    run_id: Annotated[UUID | None, typer.Argument(help="The run's id; the night that readers see by default.")] = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Take a published night away from its readers.

    They see what they saw before it. Nothing is deleted: `recstream publish` brings it back.

    Example: recstream rollback
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        done = asyncio.run(_roll_back(url, None if run_id is None else RunId(run_id)))
    if as_json:
        print_json(done)
    else:
        console().print(_rolled_back(done), markup=False)
    return 0


async def _publish(url: str, run_id: RunId, gates: Gates, *, force: bool) -> Publication:
    async with open_engine(url, connections=1) as engine:
        return await publish_by_hand(engine, run_id, gates, force=force)


async def _roll_back(url: str, run_id: RunId | None) -> Rollback:
    async with open_engine(url, connections=1) as engine:
        return await roll_back(engine, run_id)


def _published(publication: Publication) -> str:
    figures = publication.figures
    slates = "1 slate" if figures.complete == 1 else f"{figures.complete:,} slates"
    done = "is published" if publication.changed else "was published already, before all others"
    return (
        f"Run {publication.run_id} {done}: readers see {slates} of {figures.planned:,} customers, "
        f"{figures.rows_per_slate:.1f} rows each.{_kept(figures)}"
    )


def _kept(figures: Figures) -> str:
    """Whose slates of it are another run's: those customers see the last one that was made for them."""
    if not figures.unchanged:
        return ""
    return f" {figures.unchanged:,} were skipped (unchanged): they see the last slate that is published of each."


def _rolled_back(done: Rollback) -> str:
    what = "is rolled back" if done.changed else "was rolled back already"
    return f"Run {done.run_id} {what}. {_seen_now(done.shown)}"


def _seen_now(shown: Shown | None) -> str:
    if shown is None:
        return "Readers see no night now: only slates that were made for one customer."
    seen = f"Readers see run {shown.run_id} now, which served {shown.served_share:.1%} of its customers"
    if shown.pruned_at is None:
        return f"{seen}."
    return f"{seen}; of its rows, those that readers did not see were pruned on {shown.pruned_at:%Y-%m-%d}."
