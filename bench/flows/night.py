"""A process that carries out one night when it is told to: `python -m bench.flows.night flow|alone CUSTOMERS|all`.

It says that it is ready once all is imported, and how many seconds the night took; it stays until nobody listens.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from bench.flows.alone import night_alone
from pipeline.errors import RecstreamError, first_line
from pipeline.settings import load_settings

Night = Callable[[int | None], Coroutine[Any, Any, None]]


def main() -> int:
    """Wait, carry the night out, tell of it, and wait once more."""
    kind, customers = sys.argv[1:]
    most = None if customers == "all" else int(customers)
    night = _alone if kind == "alone" else _flow()
    print(json.dumps({"ready": os.getpid()}), flush=True)
    sys.stdin.readline()
    begun, failed = time.monotonic(), None
    try:
        asyncio.run(night(most))
    except RecstreamError as error:
        failed = f"{type(error).__name__}: {first_line(error)}"
    print(json.dumps({"seconds": time.monotonic() - begun, "failed": failed}), flush=True)
    sys.stdin.readline()
    return 0


async def _alone(most: int | None) -> None:
    await night_alone(load_settings(), most, build=True)


def _flow() -> Night:
    from flows.nightly import nightly  # noqa: PLC0415 - whoever measures a night alone has no Prefect in memory
    from flows.parameters import NightlyParameters  # noqa: PLC0415 - as above

    async def flow(most: int | None) -> None:
        # A night over everybody goes on with one that was interrupted.
        parameters = NightlyParameters(limit=most, refresh=most is not None)
        state = await nightly(parameters, return_state=True)
        if not state.is_completed():
            raise RecstreamError(str(state.message))

    return flow


if __name__ == "__main__":
    sys.exit(main())
