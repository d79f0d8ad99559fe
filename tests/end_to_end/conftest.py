"""What the tests of the whole program share."""

from tests.fixtures.misbehaving_ranker import ranker, ranker_process
from tests.fixtures.prefect_runs import prefect_api_url

__all__ = ["prefect_api_url", "ranker", "ranker_process"]
