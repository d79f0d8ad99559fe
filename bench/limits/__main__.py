"""`python -m bench.limits [--quick]`: runs under a provider's limits, and as the last line one JSON object."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from math import nan
from pathlib import Path

import psycopg

from bench.folders import kept_folder
from bench.limits.plan import QUICK, THOROUGH, Plan
from bench.limits.real_shop import DATA
from bench.limits.sections import (
    Figures,
    budget_figures,
    contender_figures,
    demand,
    limit_figures,
    overhead_figures,
    process_figures,
    real_figures,
)
from bench.limits.shop import fill_shop
from bench.limits.targets import TARGETS
from bench.targets import last_line, table
from bench.write.database import temporary_database
from pipeline.database import libpq_url
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.errors import RecstreamError

_INTERRUPTED = 130


async def measure(server: EmbeddedPostgres, plan: Plan, data: Path = DATA) -> Figures:
    """Take all figures, in a database that has recstream's tables and no rows; a section that fails has none.

    Raises:
        RecstreamError: not even a run without limits came to its end.
    """
    begun = time.monotonic()
    url = server.url()
    with psycopg.connect(libpq_url(url)) as connection:
        fill_shop(connection, plan.customers)
    wanted, figures = await demand(url, plan)
    figures |= dict.fromkeys((target.key for target in TARGETS), nan)
    for section in (limit_figures, process_figures, contender_figures, budget_figures):
        figures |= await _or_none(partial(section, url, plan, wanted))
    figures |= await _or_none(partial(overhead_figures, url, plan))
    figures |= await _or_none(partial(real_figures, server, plan, data))
    return {**figures, "seconds": time.monotonic() - begun}


async def _or_none(section: Callable[[], Awaitable[Figures]]) -> Figures:
    """The section's figures; none, and why, where it could not be carried out."""
    try:
        return await section()
    except RecstreamError as error:
        print(f"  {type(error).__name__}: {error}", flush=True)
        return {}


def main() -> int:
    """Measure, print, and return the exit status: 1 where a target is missed, or nothing could be measured."""
    options = argparse.ArgumentParser(prog="bench.limits", description=__doc__)
    options.add_argument("--quick", action="store_true", help="a look, in two minutes; its figures are no record")
    options.add_argument("--data", type=Path, default=DATA, help="where the real shop's files are")
    given = options.parse_args()
    plan = QUICK if given.quick else THOROUGH
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server is deleted then, too
    try:
        with temporary_database(kept_folder("limits")) as server:
            figures = asyncio.run(measure(server, plan, given.data))
    except RecstreamError as error:
        print(f"bench.limits: {error}", file=sys.stderr)
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
