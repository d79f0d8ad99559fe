"""What every test of a flow has: its settings, which lead to a database of its own and to a ranker that it commands."""

import pytest

from tests.fixtures.misbehaving_ranker import MisbehavingRanker


@pytest.fixture
def _settings_of_the_flows(
    database_url: str, ranker: MisbehavingRanker, prefect_in_reach: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow reads its settings where it runs: from the environment."""
    for name, value in {"DATABASE_URL": database_url, **ranker.settings}.items():
        monkeypatch.setenv(name, value)
