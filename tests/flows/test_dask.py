"""A night whose shards are tasks of a Dask cluster on this machine."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fixtures.moody_endpoint import always, moody_endpoint, slate
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, run_nightly
from tests.fixtures.shop import add_customer, add_product, read

pytest.importorskip("prefect_dask", reason="the extra `dask` is not installed")
pytestmark = [
    pytest.mark.usefixtures("prefect_in_reach"),
    pytest.mark.timeout(400),
    LEAVES_SOCKETS,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed"),
]


async def test_shards_are_served_by_the_workers_of_the_cluster(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        await add_product(engine, f"p{number}")
    for customer in ("a", "b", "c"):
        await add_customer(engine, customer)
    async with moody_endpoint(always(slate(1, 2))) as endpoint:
        settings = {
            "DATABASE_URL": database_url,
            "OPENAI_BASE_URL": endpoint.base_url,
            "RECSTREAM_MODEL": "test-model",
            "RECSTREAM_SLATE_SIZE": "2",
            "RECSTREAM_SHARD_SIZE": "2",
            "RECSTREAM_SHARDS_AT_ONCE": "1",
            "RECSTREAM_PLACEMENT": "dask",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        state = await run_nightly()

    assert state.is_completed(), state.message
    assert await read(engine, "SELECT shard, attempt, state FROM run_shards ORDER BY 1") == [
        (0, 1, "served"),
        (1, 1, "served"),
    ]
    assert await read(engine, "SELECT customer_id, count(*) FROM recommendations GROUP BY 1 ORDER BY 1") == [
        ("a", 2),
        ("b", 2),
        ("c", 2),
    ]
