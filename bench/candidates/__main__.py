"""`python -m bench.candidates [--quick]`: how good candidates are and what they cost; as the last line one JSON object.

implicit 0.7.3 comes as wheels, installed from its own file of requirements into an environment of its own.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from math import nan
from pathlib import Path

from bench.candidates.plan import QUICK, THOROUGH, Plan
from bench.candidates.sections import Figures, generated_figures, real_figures
from bench.candidates.targets import TARGETS
from bench.folders import kept_folder
from bench.limits.real_shop import DATA
from bench.targets import last_line, table
from bench.write.database import temporary_database
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.errors import RecstreamError

_INTERRUPTED = 130


def measure(server: EmbeddedPostgres, plan: Plan, data: Path = DATA) -> Figures:
    """Take all figures, in databases of their own; a section that fails has none."""
    begun = time.monotonic()
    figures = dict.fromkeys((target.key for target in TARGETS), nan)
    figures |= _or_none(partial(real_figures, server, plan, data))
    figures |= _or_none(partial(generated_figures, server, plan))
    return {**figures, "seconds": time.monotonic() - begun}


def _or_none(section: Callable[[], Figures]) -> Figures:
    """The section's figures; none, and why, where it could not be carried out."""
    try:
        return section()
    except RecstreamError as error:
        print(f"  {type(error).__name__}: {error}", flush=True)
        return {}


def main() -> int:
    """Measure, print, and return the exit status: 1 where a target is missed, or nothing could be measured."""
    options = argparse.ArgumentParser(prog="bench.candidates", description=__doc__)
    options.add_argument("--quick", action="store_true", help="a look, in two minutes; its figures are no record")
    options.add_argument("--data", type=Path, default=DATA, help="where the real shop's files are")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server is deleted then, too
    try:
        with temporary_database(kept_folder("candidates")) as server:
            figures = measure(server, QUICK if given.quick else THOROUGH, given.data)
    except RecstreamError as error:
        print(f"bench.candidates: {error}", file=sys.stderr)
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
