"""Builds on trial, and what each took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from bench.candidates.usage import cpu_seconds, watched_memory
from pipeline.candidates.building import build_candidates, drop_build
from pipeline.candidates.builds import Build, Method
from pipeline.candidates.recipe import CandidateRecipe


@dataclass(frozen=True, slots=True)
class Cost:
    """What a build took; memory and CPU are those of all the server's processes."""

    seconds: float
    cpu_s: float
    gigabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.cpu_s:.1f} s CPU of the server, {self.gigabytes:.2f} GB"


@dataclass(frozen=True, slots=True)
class Costs:
    """What the same build took each time."""

    all: tuple[Cost, ...]

    @property
    def seconds(self) -> float:
        """The median."""
        return median(one.seconds for one in self.all)

    @property
    def cpu_s(self) -> float:
        """The median."""
        return median(one.cpu_s for one in self.all)

    @property
    def gigabytes(self) -> float:
        """The most."""
        return max(one.gigabytes for one in self.all)


@contextmanager
def trial(url: str, as_of: datetime, recipe: CandidateRecipe, *, method: Method = "sql") -> Iterator[Build]:
    """A build as of this moment, gone afterwards.

    Raises:
        DatabaseError: it could not be made.
    """
    build = build_candidates(url, recipe, as_of=as_of, method=method, trial=True)
    try:
        yield build
    finally:
        drop_build(url, build.build_id)


def measured_builds(
    url: str, postmaster: int, as_of: datetime, recipe: CandidateRecipe, rounds: int, *, method: Method = "sql"
) -> Costs:
    """Make the same build so many times, the one before gone each time."""
    return Costs(tuple(_measured(url, postmaster, as_of, recipe, method) for _ in range(rounds)))


def _measured(url: str, postmaster: int, as_of: datetime, recipe: CandidateRecipe, method: Method) -> Cost:
    cpu, begun = cpu_seconds(postmaster), time.monotonic()
    with watched_memory(postmaster) as peak:
        build = build_candidates(url, recipe, as_of=as_of, method=method, trial=True)
    cost = Cost(time.monotonic() - begun, cpu_seconds(postmaster) - cpu, peak.bytes / 1e9)
    drop_build(url, build.build_id)
    return cost
