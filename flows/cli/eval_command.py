"""`eval`: what was recommended, or would have been, held against what was purchased afterwards."""

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from flows.cli.evaluation_table import print_evaluation
from flows.cli.live_table import print_live
from flows.cli.options import AsJson, DatabaseUrl, Quiet, settings_from
from flows.cli.output import console, notes, print_json
from flows.evaluating import evaluated
from flows.parameters import EvaluationParameters
from pipeline.database import open_engine
from pipeline.domain import RunId
from pipeline.errors import InputError
from pipeline.evaluating.live import LIVE_DAYS, evaluate_live
from pipeline.evaluating.live_report import LiveReport
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current
from pipeline.settings import Settings

_DAYS = 30


def evaluate(
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="T", help="Where the targets begin. Default: as late as can be.")
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            min=1, max=366, help=f"For how many days purchases are targets. Default: {_DAYS}; live {LIVE_DAYS}."
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="What was bought of the slates that customers saw; needs no extra.")
    ] = False,
    candidates_only: Annotated[
        bool, typer.Option("--candidates-only", help="Only what is among the candidates: no measures of slates.")
    ] = False,
    runs: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--runs", metavar="RUN RUN", help="Hold the slates of two runs, or RUN:VARIANT, against one another."
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Measure the slates of this run, or of RUN:VARIANT.")
    ] = None,
    segments: Annotated[
        bool, typer.Option("--segments", help="Also cold, light and heavy customers, each apart.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples that give the intervals.")] = 1,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Measure candidates, or the slates of runs, by later purchases.

    Candidates are built anew as of a moment in the past, from what was known then, held against what was purchased
    afterwards, and dropped. Beside them stand the most popular products of the 14 days before.
    Needs: pip install 'recstream[eval]'

    Example: recstream eval --as-of 2026-03-01 --days 30 --segments
    """
    settings = settings_from(database_url=database_url)
    if live:
        if as_of is not None or runs is not None or candidates_only or segments:
            raise InputError("--live goes with --days, --run and --seed alone: leave the other flags out")
        return _print_live(settings, days or LIVE_DAYS, run, seed, as_json=as_json)
    if candidates_only and (run or runs):
        raise InputError("--candidates-only is not for the slates of runs: leave it out, or --run and --runs")
    wanted = EvaluationParameters(
        as_of=as_of, days=days or _DAYS, candidates_only=candidates_only, runs=_named(run, runs), seed=seed
    )
    with provided_database(settings) as url:
        require_current(url)
        done = evaluated(settings, url, wanted, (lambda _: None) if quiet else notes().print)
    if as_json:
        print_json(done)
    else:
        print_evaluation(done, console(), segments=segments)
    return 0


def _print_live(settings: Settings, days: int, run: str | None, seed: int, *, as_json: bool) -> int:
    run_id = None if run is None else _run_id(run)
    with provided_database(settings) as url:
        require_current(url)
        report = asyncio.run(_live(url, days, run_id, seed))
    if as_json:
        print_json(report)
    else:
        print_live(report, console())
    return 0


async def _live(url: str, days: int, run_id: RunId | None, seed: int) -> LiveReport:
    async with open_engine(url, connections=1) as engine:
        return await evaluate_live(engine, days=days, run_id=run_id, seed=seed)


def _run_id(run: str) -> RunId:
    try:
        return RunId(UUID(run))
    except ValueError:
        raise InputError(
            f"{run!r} is not the id of a run, which `recstream runs` shows: --live tells its variants by itself"
        ) from None


def _named(run: str | None, runs: tuple[str, str] | None) -> tuple[str, ...]:
    if run is not None and runs is not None:
        raise InputError("--run measures one run, --runs two: give either")
    return runs or (() if run is None else (run,))
