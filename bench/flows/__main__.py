"""`python -m bench.flows [--quick]`: what flows cost and outlive, and as the last line one JSON object."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from bench.flows.grounds import Figures, Grounds
from bench.flows.growing import growth_figures
from bench.flows.killing import kill_figures
from bench.flows.orchestration import orchestration_figures
from bench.flows.plan import QUICK, THOROUGH, Plan
from bench.flows.prefect import running_prefect
from bench.flows.spreading import pool_figures
from bench.flows.starting import recommend_figures
from bench.flows.targets import TARGETS
from bench.flows.throughput import throughput_figures
from bench.folders import kept_folder
from bench.targets import last_line, table
from bench.write.database import temporary_database
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.errors import RecstreamError

_INTERRUPTED = 130
Section = Callable[[Grounds], Awaitable[Figures]]
_SECTIONS: dict[str, tuple[Section, ...]] = {
    "line": (throughput_figures,),
    "recommend": (recommend_figures,),
    "orchestration": (orchestration_figures,),
    "pool": (pool_figures,),
    "kills": (kill_figures, growth_figures),  # at the same time: memory does not depend on how fast it goes
}


async def measure(server: EmbeddedPostgres, plan: Plan, folder: Path, wanted: list[str]) -> Figures:
    """Take the figures of these sections, one after the other; a section that fails has none.

    Raises:
        UnfinishedRunError: Prefect's server does not start.
    """
    begun = time.monotonic()
    figures: Figures = dict.fromkeys((target.key for target in TARGETS), nan)
    async with running_prefect(folder) as prefect:
        grounds = Grounds(server, prefect, folder, plan)
        for name in wanted:
            print(f"\n{name} ({time.monotonic() - begun:.0f} s)", flush=True)
            for taken in await asyncio.gather(*(_or_none(section, grounds) for section in _SECTIONS[name])):
                figures |= taken
    return {**figures, "seconds": time.monotonic() - begun}


async def _or_none(section: Section, grounds: Grounds) -> Figures:
    """The section's figures; none, and why, where it could not be carried out."""
    try:
        return await section(grounds)
    except (RecstreamError, psycopg.Error, OSError) as error:
        print(f"  {type(error).__name__}: {error}", flush=True)
        return {}


def main() -> int:
    """Measure, print, and return the exit status: 1 where a target is missed, or nothing could be measured."""
    options = argparse.ArgumentParser(prog="bench.flows", description=__doc__)
    options.add_argument("--quick", action="store_true", help="a look, in four minutes; its figures are no record")
    options.add_argument("--only", nargs="+", choices=_SECTIONS, default=list(_SECTIONS), help="these sections alone")
    given = options.parse_args()
    plan = QUICK if given.quick else THOROUGH
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # all processes are ended then, too
    try:
        with temporary_database(kept_folder("flows")) as server, TemporaryDirectory(prefix="flows-") as name:
            figures = asyncio.run(measure(server, plan, Path(name), given.only))
    except RecstreamError as error:
        print(f"bench.flows: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    print()
    for line in table(TARGETS, figures):
        print(line)
    print(last_line(TARGETS, figures))
    return 0 if all(target.is_met(figures[target.key]) for target in TARGETS) else 1


if __name__ == "__main__":
    sys.exit(main())
