"""Splits a process's CPU time by stages: samples of its stack, each given to the innermost stage that is in it."""

import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

_EVERY_S: Final = 0.002  # of CPU time

_STAGES: Final[Mapping[str, str]] = {
    "pipeline.profiles": "profiles",
    "pipeline.segments": "profiles",
    "pipeline.candidates": "candidates",
    "pipeline.unchanged": "unchanged",
    "pipeline.prompts": "prompt",
    "pipeline.terms": "prompt",
    "pipeline.variants": "prompt",
    "pipeline.streaming": "streaming",
    "pipeline.connections": "streaming",
    "pipeline.answer_body": "streaming",
    "pipeline.answer_source": "streaming",
    "pipeline.answer_reading": "streaming",
    "pipeline.sse": "streaming",
    "pipeline.deltas": "streaming",
    "pipeline.scanning": "parsing",
    "pipeline.prose": "parsing",
    "pipeline.parsing": "parsing",
    "pipeline.items": "parsing",
    "pipeline.mentions": "parsing",
    "pipeline.validation": "validation",
    "pipeline.writing": "writing",
    "pipeline.group_commit": "writing",
    "pipeline.committing": "writing",
    "pipeline.notifying": "writing",
    "pipeline.slates": "ledger",
    "pipeline.shard_ledger": "ledger",
    "pipeline.limits": "limits and budget",
    "pipeline.budgets": "limits and budget",
    "pipeline.spending": "limits and budget",
    "pipeline.admission": "limits and budget",
    "pipeline.routes": "limits and budget",
    "pipeline.retrying": "limits and budget",
    "pipeline.pricing": "limits and budget",
    "pipeline.recommending": "recommending",
    "pipeline.shards": "recommending",
    "pipeline.orders": "recommending",
}
"""What a module is for. Those that serve several stages are not here: who called them says which."""

_FOREIGN: Final[Mapping[str, str]] = {
    "openai": "HTTP client",
    "aiohttp": "HTTP client",
    "httpx": "HTTP client",
    "psycopg": "database driver",
    "sqlalchemy": "database driver",
    "prefect": "Prefect",
}
"""Libraries that the event loop calls by itself, with no stage above them."""

REST: Final = "event loop and the rest"


def stage_of(modules: Iterable[str]) -> str:
    """The stage that a stack works for: `modules` are those of its frames, the innermost first."""
    foreign = None
    for module in modules:
        parts = module.split(".")
        if parts[0] == "pipeline":
            stage = _STAGES.get(".".join(parts[:2]))
            if stage is not None:
                return stage
        foreign = foreign or _FOREIGN.get(parts[0])
    return foreign or REST


def shares(samples: Mapping[str, int]) -> dict[str, float]:
    """The share of each stage, the greatest first."""
    whole = sum(samples.values())
    return {stage: count / whole for stage, count in Counter(samples).most_common()}


@contextmanager
def sampled() -> Iterator[Mapping[str, int]]:
    """How many samples fell to each stage while the block ran: of the main thread, by the CPU time of the process."""
    samples: Counter[str] = Counter()

    def sample(_signal: int, frame: FrameType | None) -> None:
        samples[stage_of(_modules(frame))] += 1

    former = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
    try:
        yield samples
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)


def _modules(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield frame.f_globals.get("__name__", "")
        frame = frame.f_back
