"""The settings of the processes that the bench starts."""

from collections.abc import Mapping
from pathlib import Path

from bench.flows.plan import IN_FLIGHT, SLATE_SIZE


def environment_of(url: str, base_url: str, folder: Path, settings: Mapping[str, object]) -> dict[str, str]:
    """What a process needs that makes slates of ten, 64 at a time, with these settings besides."""
    ours: dict[str, object] = {
        "DATABASE_URL": url,
        "OPENAI_BASE_URL": base_url,
        "RECSTREAM_MODEL": "offline-ranker",
        "RECSTREAM_HOME": folder / "home",
        "RECSTREAM_SLATE_SIZE": SLATE_SIZE,
        "RECSTREAM_CONCURRENCY": IN_FLIGHT,
        "RECSTREAM_CATCH_UP_HOURS": 24,
        "RECSTREAM_UNCHANGED_MAX_AGE_DAYS": 0,
        "NO_PROXY": "*",
    }
    return {name: str(value) for name, value in {**ours, **settings}.items()}
