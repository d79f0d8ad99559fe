"""`python -m bench.chaos [--seed N] [--short] [--sabotage WAY]`: a storm, and what the checker finds after it.

The last line is one JSON object. The exit status is 1 where a promise was broken or the storm could not be carried out.
"""

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from bench.chaos.checker import table
from bench.chaos.evidence import gather, write_tables
from bench.chaos.judging import Verdict, judge
from bench.chaos.plan import Blow, Plan, short_plan, thorough_plan
from bench.chaos.postgres import running_postgres
from bench.chaos.sabotage import SABOTAGES
from bench.chaos.shop import Shop
from bench.chaos.storm import Report, storm
from bench.chaos.workers import Scene
from pipeline.errors import RecstreamError
from pipeline.offline_ranker.faults import Fault, FaultPlan
from pipeline.offline_ranker.process import offline_ranker
from pipeline.schema import migrate

_FAILING_SHARE = 0.3  # of all requests
_HARMLESS = frozenset({Fault.DELAYED, Fault.WRAPPED, Fault.TEXT_SCORE})  # an answer that suffers only these is whole


def ranker_faults(seed: int) -> FaultPlan:
    """Every fault there is, each as often as any other, so that three requests of ten fail in one way or more."""
    share = 1 - (1 - _FAILING_SHARE) ** (1 / (len(Fault) - len(_HARMLESS)))
    return FaultPlan(seed=seed, shares=dict.fromkeys(Fault, share), retry_after_seconds=0.2, delay_seconds=0.4)


def carry_out(plan: Plan, folder: Path, sabotage: str | None) -> tuple[Report, Verdict]:
    """The storm in this folder, and the verdict on what it left.

    Raises:
        RecstreamError: the machine does not allow it, or recstream did not recover.
    """
    with running_postgres(folder / "database") as postgres:
        migrate(postgres.url)
        with psycopg.connect(postgres.conninfo) as connection:
            Shop(plan.customers).fill(connection)
        log = folder / "sent.jsonl"
        pace = plan.tokens_per_second
        with offline_ranker(tokens_per_second=pace, faults=ranker_faults(plan.seed), log=log) as ranker:
            scene = Scene(postgres, ranker.base_url, folder, sabotage)
            report = asyncio.run(storm(plan, scene))
        # The ranker has ended, so its log is whole.
        evidence = gather(scene.sent_log, scene.acknowledgements, scene.torn_log, postgres.conninfo)
    write_tables(evidence, folder / "tables.jsonl")
    return report, judge(evidence)


def last_line(plan: Plan, report: Report, verdict: Verdict, seconds: float) -> str:
    """All counts as one JSON object."""
    return json.dumps(
        {
            "seed": plan.seed,
            "kills": report.kills,
            "postgres_crashes": report.blows[Blow.CRASH],
            "dropped": report.dropped,
            "stale": report.blows[Blow.STALE],
            "runs": report.runs,
            "rows": verdict.rows,
            "acknowledged": verdict.acknowledged,
            "sent": verdict.sent,
            "rejections": verdict.rejections,
            "unsent": verdict.unsent,
            **{("stale_rows" if kind == "stale" else kind): count for kind, count in verdict.counts.items()},
            "reads": report.looks.slates,
            "switches": report.switches["done"],
            "seconds": round(seconds, 1),
        }
    )


def main() -> int:
    """Do it, print, and return the exit status."""
    given = _arguments()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    plan = short_plan(seed) if given.short else thorough_plan(seed)
    again = f"`make chaos SEED={seed}` draws the same again"
    print(f"chaos with seed {seed}: {len(plan.strikes)} strikes; {again}", flush=True)
    begun = time.monotonic()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        report, verdict = carry_out(plan, folder, given.sabotage)
    except RecstreamError as error:
        print(f"bench.chaos: {error} (logs: {folder})", file=sys.stderr)
        return 1
    print("\n".join(table(verdict)))
    if verdict.findings:
        print(f"what there is to look at: {folder}")
    elif given.keep is None:
        shutil.rmtree(folder)
    print(last_line(plan, report, verdict, time.monotonic() - begun))
    return 1 if verdict.findings else 0


def _arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(prog="bench.chaos", description=__doc__)
    options.add_argument("--seed", type=int, help="draws the strikes; a new one by default, which is printed")
    options.add_argument("--short", action="store_true", help="a look, in half a minute; it is no proof")
    options.add_argument("--sabotage", choices=sorted(SABOTAGES), help="break the writer: the checker has to notice")
    options.add_argument("--keep", type=Path, help="keep the logs and the tables in this folder, which is made")
    given = options.parse_args()
    if given.keep is not None and given.keep.exists():
        options.error(f"{given.keep} is there already: name a new folder")
    return given


if __name__ == "__main__":
    sys.exit(main())
