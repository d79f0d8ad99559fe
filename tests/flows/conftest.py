"""What every test of a flow has: a Prefect server, a database of its own, and a ranker that it commands."""

import pytest

from tests.fixtures.misbehaving_ranker import MisbehavingRanker, ranker, ranker_process
from tests.fixtures.prefect_runs import prefect_api_url, prefect_in_reach

__all__ = ["prefect_api_url", "prefect_in_reach", "ranker", "ranker_process"]


@pytest.fixture
def _settings_of_the_flows(
    database_url: str, ranker: MisbehavingRanker, prefect_in_reach: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow reads its settings where it runs: from the environment."""
    for name, value in {"DATABASE_URL": database_url, **ranker.settings}.items():
        monkeypatch.setenv(name, value)
