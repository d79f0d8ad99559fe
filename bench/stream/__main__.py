"""`python -m bench.stream [--quick]`: every figure of the streaming core, and as the last line one JSON object."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.stream.environments import environment_of
from bench.stream.plan import QUICK, THOROUGH, Plan
from bench.stream.processes import Contender, PacedServer, contender, paced_server, require_fit_machine
from bench.stream.sections import (
    MANY_STREAMS,
    OURS,
    Figures,
    cpu_figures,
    growth_figures,
    lateness_figures,
    memory_figures,
    ramp_figures,
    warm_up,
)
from bench.stream.targets import TARGETS
from bench.targets import last_line, table
from pipeline.errors import RecstreamError

_POOL = 64  # connections of a contender's client, outside of the ramp
_IN_OUR_ENVIRONMENT = (OURS, "floor", "handwritten", "openai_typed")
_APART = ("instructor",)


def measure(plan: Plan) -> Figures:
    """Take all figures.

    Raises:
        RecstreamError: the machine cannot run the bench, or a contender did not do the work.
    """
    require_fit_machine()
    begun = time.monotonic()
    with paced_server() as server:
        with _contenders(server) as contenders:
            warm_up(contenders)
            figures = cpu_figures(contenders, plan)
            figures |= growth_figures(contenders[0], plan)
            figures |= lateness_figures(contenders, server, plan)
        for part in (ramp_figures, memory_figures):
            with contender(OURS, server, streams=MANY_STREAMS) as ours:
                figures |= part(ours, server, plan)
    return {**figures, "seconds": time.monotonic() - begun}


@contextmanager
def _contenders(server: PacedServer) -> Iterator[list[Contender]]:
    """All of them, ours first."""
    with ExitStack() as running:
        at_home = [contender(name, server, streams=_POOL) for name in _IN_OUR_ENVIRONMENT]
        apart = [contender(name, server, streams=_POOL, python=environment_of(name)) for name in _APART]
        yield [running.enter_context(one) for one in at_home + apart]


def main() -> int:
    """Measure, print, and return the exit status: 0 even where a target is missed."""
    options = argparse.ArgumentParser(prog="bench.stream", description=__doc__)
    options.add_argument("--quick", action="store_true", help="a look, in half a minute; its figures are no record")
    plan = QUICK if options.parse_args().quick else THOROUGH
    try:
        figures = measure(plan)
    except RecstreamError as error:
        print(f"bench.stream: {error}", file=sys.stderr)
        return 1
    print()
    for line in table(TARGETS, figures):
        print(line)
    print(last_line(TARGETS, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
