"""The whole line in one process, from profiles to committed rows: customers a second, and where the CPU time goes."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from bench.flows.alone import night_alone
from bench.flows.stages import sampled, shares
from pipeline.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Line:
    """What a night without Prefect came to: seconds, CPU seconds of our process, and the stages' shares of these."""

    customers: int
    seconds: float
    cpu_s: float
    shares: Mapping[str, float]


async def whole_line(settings: Settings, customers: int, warm_up: int, *, build: bool = False) -> Line:
    """A night over so many customers, after one over a few that brings caches up and, if told to, builds candidates."""
    await night_alone(settings, warm_up, build=build)
    with sampled() as samples:
        begun, cpu = time.monotonic(), time.process_time()
        served = await night_alone(settings, customers, build=False)
        seconds, cpu_s = time.monotonic() - begun, time.process_time() - cpu
    return Line(served, seconds, cpu_s, shares(samples))


def main() -> int:
    """`python -m bench.flows.line CUSTOMERS WARM_UP`: prints the figures as one JSON object."""
    customers, warm_up = map(int, sys.argv[1:])
    print(json.dumps(asdict(asyncio.run(whole_line(load_settings(), customers, warm_up, build=True)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
