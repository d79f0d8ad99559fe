"""`python -m bench.write [--quick] [--scale N]`: every figure of the writer, and as the last line one JSON object."""

import argparse
import asyncio
import signal
import sys
import time
from dataclasses import replace

from bench.folders import kept_folder
from bench.targets import last_line, table
from bench.write.database import require_room, settings_of, temporary_database
from bench.write.plan import QUICK, THOROUGH, Plan
from bench.write.sections import (
    Figures,
    acknowledgement_figures,
    filled,
    read_figures,
    row_figures,
    size_figures,
    switch_figures,
)
from bench.write.shop import Shop
from bench.write.targets import targets
from pipeline.errors import RecstreamError

_INTERRUPTED = 130


async def measure(url: str, plan: Plan) -> Figures:
    """Take all figures, in a database that has recstream's tables and no rows.

    Raises:
        RecstreamError: what was acknowledged is not there, or what must be seen is not seen: no figure holds.
    """
    begun = time.monotonic()
    settings = await settings_of(url)
    print(", ".join(f"{name} {value}" for name, value in settings.items()), flush=True)
    figures = await row_figures(url, plan)
    figures |= await acknowledgement_figures(url, plan)
    figures |= await size_figures(url)
    shop = Shop(plan.customers, plan.products)
    nights = await filled(url, shop)
    figures |= await switch_figures(url, shop, nights, plan)
    figures |= await read_figures(url, shop, nights, plan)
    return {**figures, "customers": plan.customers, "seconds": time.monotonic() - begun}


def main() -> int:
    """Measure, print, and return the exit status: 0 even where a target is missed."""
    plan = _plan()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server is deleted then, too
    try:
        with temporary_database(kept_folder("write")) as server:
            require_room(server.data_folder, plan.customers)
            figures = asyncio.run(measure(server.url(), plan))
    except RecstreamError as error:
        print(f"bench.write: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    print()
    for line in table(targets(plan.customers), figures):
        print(line)
    print(last_line(targets(plan.customers), figures))
    return 0


def _plan() -> Plan:
    options = argparse.ArgumentParser(prog="bench.write", description=__doc__)
    options.add_argument("--quick", action="store_true", help="a look, in half a minute; its figures are no record")
    options.add_argument("--scale", type=_number, metavar="CUSTOMERS", help="fewer customers, where the disk is small")
    given = options.parse_args()
    plan = QUICK if given.quick else THOROUGH
    return plan if given.scale is None else replace(plan, customers=given.scale)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of customers")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
