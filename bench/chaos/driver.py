"""A pipeline process without Prefect: `python -m bench.chaos.driver ACKNOWLEDGEMENTS [SABOTAGE]`.

It waits for a line on standard input, `run` or `resume RUN`, opens the night as the nightly flow does, and writes every
row down, in a file of its own kind, after it was yielded. It tells of what it does on standard output, a JSON document
a line, and ends with its parent.
"""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

from bench.chaos.sabotage import SABOTAGES
from pipeline import shards
from pipeline.child_process import wait_for_parents_end
from pipeline.domain import Candidates, CommittedRecommendation, Profile, RunId
from pipeline.errors import RecstreamError
from pipeline.night import Night, open_night
from pipeline.recommending import SlateServices, recommend
from pipeline.runs import Run, shards_of, summarise
from pipeline.settings import load_settings

Recommend = Callable[[Profile, Candidates, SlateServices], AsyncGenerator[CommittedRecommendation]]


class Acknowledgements:
    """The file of what was acknowledged: a line is handed to the system whole, and a kill does not take it back."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def of(self, run: Run) -> Recommend:
        """`recommend` that writes down each row of this run after it was yielded."""

        async def recommended(
            profile: Profile, candidates: Candidates, services: SlateServices
        ) -> AsyncGenerator[CommittedRecommendation]:
            async with aclosing(recommend(profile, candidates, services)) as rows:
                async for row in rows:
                    self._append(run, profile, row)
                    yield row

        return recommended

    def _append(self, run: Run, profile: Profile, row: CommittedRecommendation) -> None:
        told = row.recommendation
        document = {
            "run_id": str(run.run_id),
            "customer_id": profile.customer_id,
            "rank": told.rank,
            "product_id": told.product_id,
            "product_name": told.product_name,
            "relevance_score": told.relevance_score,
            "committed_at": row.committed_at.isoformat(),
        }
        os.write(self._file, json.dumps(document).encode() + b"\n")


async def work(order: Sequence[str], acknowledgements: Acknowledgements) -> None:
    """Do what the flow `nightly` does."""
    async with open_night(load_settings()) as night:
        run = await _run_of(night, order)
        _tell(run=str(run.run_id))
        # The loop over the customers is the product's own; only what it calls for each of them is heard as well.
        shards.recommend = acknowledgements.of(run)  # type: ignore[assignment, attr-defined] # see above
        async with night.working_on(run) as services:
            for shard in await shards_of(night.engine, run):
                await shards.serve_shard(run, shard, services)
        _tell(left=(await summarise(night.engine, run.run_id)).left)


async def _run_of(night: Night, order: Sequence[str]) -> Run:
    return await night.take_up(RunId(UUID(order[1]))) if order[0] == "resume" else await night.plan(None)


def _tell(**what: str | int) -> None:
    print(json.dumps(what), flush=True)


def _end_with_parent() -> None:
    wait_for_parents_end()
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Wait for the order, follow it, and return the exit status: 1, with one line on stderr, where it broke off."""
    path, *sabotages = sys.argv[1:]
    for name in sabotages:
        SABOTAGES[name]()
    _tell(ready=os.getpid())
    order = os.read(0, 100).decode().split()  # no reader of its own that would keep what comes behind the line
    if not order:
        return 0
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        asyncio.run(work(order, Acknowledgements(Path(path))))
    except RecstreamError as error:
        print(f"driver: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
