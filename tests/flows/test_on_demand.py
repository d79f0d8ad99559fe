"""The on-demand flow on a real Prefect server."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.errors import UnknownCustomerError
from pipeline.offline_ranker.faults import Fault
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, run_on_demand
from tests.fixtures.shop import ARTICLE_CUSTOMER, add_article_shop, add_customer, read, scalar

pytestmark = [pytest.mark.usefixtures("_settings_of_the_flows"), LEAVES_SOCKETS]


async def test_one_customer_gets_his_slate_and_it_is_published(engine: AsyncEngine) -> None:
    await add_article_shop(engine)
    await add_customer(engine, "somebody else")

    state = await run_on_demand(ARTICLE_CUSTOMER)

    assert state.is_completed()
    assert state.message == "customer 12345: 10 rows committed"
    assert await read(engine, "SELECT customer_id, count(*) FROM current_recommendations GROUP BY 1") == [
        (ARTICLE_CUSTOMER, 10)
    ]
    assert await read(engine, "SELECT kind, state FROM runs") == [("on_demand", "finished")]


async def test_a_slate_that_stayed_short_fails_the_flow_run_and_is_not_published(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_article_shop(engine)
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")
    ranker.misbehave(Fault.CUT, cut_after_objects=3)

    state = await run_on_demand(ARTICLE_CUSTOMER)

    assert state.is_failed()
    assert state.message is not None
    assert state.message.startswith("customer 12345: 3 rows committed; the slate is short: the stream")
    assert await scalar(engine, "SELECT count(*) FROM published") == 0
    assert await scalar(engine, "SELECT state FROM runs") == "failed"


async def test_an_unknown_customer_fails_the_flow_run_and_leaves_no_run(engine: AsyncEngine) -> None:
    await add_article_shop(engine)
    state = await run_on_demand("nobody")
    with pytest.raises(UnknownCustomerError, match="'nobody' is not in the customers table"):
        await state.aresult()
    assert await scalar(engine, "SELECT count(*) FROM runs") == 0


async def test_a_list_is_one_run_and_its_slates_are_published(engine: AsyncEngine) -> None:
    await add_article_shop(engine)
    await add_customer(engine, "a")
    await add_customer(engine, "not asked for")

    state = await run_on_demand(["a", ARTICLE_CUSTOMER, "a"])

    assert state.is_completed()
    run_id = await scalar(engine, "SELECT run_id FROM runs")
    assert state.message == f"run {run_id}: 2 of 2 customers, 20 rows"
    assert await read(engine, "SELECT kind, state FROM runs") == [("on_demand", "finished")]
    assert await read(engine, "SELECT customer_id FROM published ORDER BY 1") == [(ARTICLE_CUSTOMER,), ("a",)]


async def test_who_is_not_known_is_named_and_the_others_are_served(engine: AsyncEngine) -> None:
    await add_article_shop(engine)
    await add_customer(engine, "left", active=False)

    state = await run_on_demand(["nobody", ARTICLE_CUSTOMER, "left"])

    assert state.is_failed()
    assert state.message is not None
    assert "1 of 3 customers, 10 rows; not in the customers table, or not active: 'nobody', 'left'" in state.message
    assert await read(engine, "SELECT customer_id FROM published") == [(ARTICLE_CUSTOMER,)]
    assert await scalar(engine, "SELECT state FROM runs") == "finished"


async def test_of_a_list_of_unknown_customers_no_run_is_made(engine: AsyncEngine) -> None:
    await add_article_shop(engine)
    state = await run_on_demand(["nobody", "no one"])
    assert state.is_failed()
    assert state.message is not None
    assert "'nobody', 'no one': check the ids" in state.message
    assert await scalar(engine, "SELECT count(*) FROM runs") == 0


async def test_of_a_list_whose_endpoint_gives_up_the_figures_and_the_reason_are_told(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_article_shop(engine)
    await add_customer(engine, "a")
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")
    monkeypatch.setenv("RECSTREAM_CONCURRENCY", "1")
    ranker.misbehave_at(Fault.REFUSED_500, [True, False])

    state = await run_on_demand([ARTICLE_CUSTOMER, "a"])

    assert state.is_failed()
    assert state.message is not None
    assert "1 of 2 customers, 10 rows; 1 customer has no complete slate" in state.message
    assert await scalar(engine, "SELECT count(*) FROM published") == 1
