"""Nights on which the endpoint fails in every way it can: each ends as the table of failures says (docs/failures.md).

A real server and a real Postgres each time, through the services that every shard has.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import OFFLINE_MODEL
from pipeline.errors import EndpointClosedError, EndpointFatalError, RecstreamError
from pipeline.night import open_night
from pipeline.offline_ranker.limits import LimitPlan
from pipeline.offline_ranker.process import offline_ranker
from pipeline.runs import Run
from pipeline.services import open_run_services
from pipeline.settings import load_settings
from pipeline.shards import serve_shard
from pipeline.streaming import Endpoint
from pipeline.terms import Terms
from tests.fixtures.moody_endpoint import always, in_turn, moody_endpoint, refusal, saying, slate
from tests.fixtures.raw_endpoint import Move, answer, raw_endpoint
from tests.fixtures.scripted_endpoint import PATIENCE_S, Answer, text_event
from tests.fixtures.shop import add_run, change, read, some_products

CUSTOMERS = tuple(f"customer {number:02}" for number in range(12))
QUICK = 0.3
"""Seconds that an endpoint may be away, where a test waits for that to be too long."""


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    """Twelve customers, five products, three places on each slate."""
    for product in some_products(5):
        await change(
            engine,
            "INSERT INTO products (product_id, name) VALUES (:product_id, :name)",
            product_id=product.product_id,
            name=product.name,
        )
    return await add_run(engine, *CUSTOMERS, slate_size=3)


async def serve(run: Run, url: str, endpoint: Endpoint, **others: object) -> int:
    """How many customers were served; an end to everything that hangs."""
    chosen = load_settings(database_url=url, concurrency=4, **others)
    async with (
        asyncio.timeout(4 * PATIENCE_S),
        open_run_services(chosen, url, endpoint, run) as services,
    ):
        return (await serve_shard(run, 0, services)).customers


async def states(engine: AsyncEngine) -> dict[object, int]:
    return dict(Counter(state for (state,) in await read(engine, "SELECT state FROM slates")))


async def why(engine: AsyncEngine) -> set[object]:
    return {reason for (reason,) in await read(engine, "SELECT reason FROM slates")}


async def attempts(engine: AsyncEngine) -> int:
    ((number,),) = await read(engine, "SELECT count(*) FROM llm_calls")
    assert isinstance(number, int)
    return number


LEFT = {"pending", "streaming"}  # the latter where the run stopped in the moment of opening the slate
ALL_COMPLETE = {"complete": len(CUSTOMERS)}


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not reached():  # noqa: ASYNC110 - a server's count is no event
            await asyncio.sleep(0.005)


async def test_a_limit_of_0_stops_the_run_with_one_line_and_every_slate_can_be_resumed(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    none = refusal(429, "limit 0", x_ratelimit_limit_requests="0", x_ratelimit_remaining_requests="0")
    async with moody_endpoint(always(none)) as moody:
        with pytest.raises(EndpointClosedError) as told:
            await serve(run, database_url, moody.endpoint(), outage_patience_s=QUICK)
        assert "\n" not in str(told.value)
        assert set(await states(engine)) <= LEFT

        moody.mood = always(slate())
        assert await serve(run, database_url, moody.endpoint()) == len(CUSTOMERS)
    assert await states(engine) == ALL_COMPLETE


async def test_who_asks_to_be_left_alone_for_a_day_stops_the_run(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    tomorrow = refusal(429, "come back tomorrow", Retry_After="86400")
    async with moody_endpoint(always(tomorrow)) as moody:
        with pytest.raises(RecstreamError, match=r"tomorrow|may not be asked for"):
            await serve(run, database_url, moody.endpoint())
        assert moody.asked_so_far <= 4, "the first answers said it all"
    assert set(await states(engine)) <= LEFT | {"failed"}


async def test_who_asks_to_be_left_alone_for_a_day_is_replaced_by_the_fallback(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    tomorrow = refusal(429, "come back tomorrow", Retry_After="86400")
    async with moody_endpoint(always(tomorrow)) as moody, moody_endpoint(always(slate())) as other:
        await serve(run, database_url, moody.endpoint(), fallback_base_url=other.base_url, fallback_model="other-model")
        assert moody.asked_so_far <= 4
        assert other.asked_so_far == len(CUSTOMERS)
    assert await states(engine) == ALL_COMPLETE


async def test_every_row_and_request_of_the_fallback_says_so(engine: AsyncEngine, database_url: str, run: Run) -> None:
    first_two = in_turn(slate(), slate(), refusal(401, "key expired"))
    async with moody_endpoint(first_two) as moody, moody_endpoint(always(slate(5, 4, 3))) as other:
        await serve(
            run,
            database_url,
            replace(moody.endpoint(), model=run.model),
            fallback_base_url=other.base_url,
            fallback_model="other-model",
            fallback_api_key="other-key",
        )
        assert set(other.keys) == {"Bearer other-key"}
        assert {body["model"] for body in other.bodies} == {"other-model"}
        assert await states(engine) == ALL_COMPLETE
        assert await read(
            engine,
            "SELECT model, provenance, count(*) FROM recommendations GROUP BY model, provenance ORDER BY 1 NULLS FIRST",
        ) == [(None, "language_model", 6), ("other-model", "language_model", 30)]
        asked = await read(
            engine,
            "SELECT endpoint, count(*) FROM llm_calls WHERE ending = 'complete' GROUP BY 1 ORDER BY 1 NULLS FIRST",
        )
        assert asked == [(None, 2), (other.base_url, 10)]


async def test_another_key_alone_is_a_fallback_too(engine: AsyncEngine, database_url: str, run: Run) -> None:
    def by_key(_: int, key: str) -> Answer:
        return slate() if key == "Bearer other-key" else refusal(402, "no credit left")

    async with moody_endpoint(by_key) as moody:
        await serve(run, database_url, moody.endpoint(), fallback_api_key="other-key")
    assert await states(engine) == ALL_COMPLETE


async def test_a_key_travels_to_no_other_address_than_its_own(engine: AsyncEngine, database_url: str, run: Run) -> None:
    async with moody_endpoint(always(refusal(401, "no such key"))) as moody, moody_endpoint(always(slate())) as other:
        await serve(run, database_url, moody.endpoint(), fallback_base_url=other.base_url)
        assert set(other.keys) == {"Bearer none"}
    assert await states(engine) == ALL_COMPLETE


async def test_a_wrong_key_at_the_fallback_takes_out_the_fallback_alone(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    too_long = in_turn(slate(), *[refusal(413, "too long")] * 8, slate())
    async with moody_endpoint(too_long) as moody, moody_endpoint(always(refusal(401, "no such key"))) as other:
        await serve(run, database_url, moody.endpoint(), fallback_base_url=other.base_url, fallback_model="other-model")
        assert other.asked_so_far <= 4, "those who were under way there when the first answer came"
    advice = {
        str(error).rpartition(" (")[2]
        for (error,) in await read(engine, "SELECT error FROM llm_calls WHERE endpoint IS NOT NULL")
    }
    assert advice == {"check RECSTREAM_FALLBACK_API_KEY)"}
    assert await states(engine) == {"complete": len(CUSTOMERS) - 8, "failed": 8}


async def test_a_quota_that_is_told_to_everybody_in_the_text_stops_the_run_with_these_words(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with moody_endpoint(always(saying("Error: quota exceeded, please upgrade."))) as moody:
        with pytest.raises(EndpointClosedError, match="quota exceeded, please upgrade"):
            await serve(run, database_url, moody.endpoint(), outage_patience_s=QUICK)
    assert set(await states(engine)) <= LEFT


async def test_a_quota_in_the_text_for_a_moment_costs_nobody_his_slate(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with moody_endpoint(in_turn(*[saying("quota exceeded")] * 9, slate())) as moody:
        await serve(run, database_url, moody.endpoint())
    assert await states(engine) == ALL_COMPLETE


async def test_one_customer_whose_model_speaks_of_a_quota_stops_nobody(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with moody_endpoint(in_turn(slate(), saying("quota exceeded"), slate())) as moody:
        await serve(run, database_url, moody.endpoint())
        assert moody.asked_so_far == len(CUSTOMERS) + 1
    assert await states(engine) == ALL_COMPLETE


async def test_an_endpoint_that_takes_requests_and_never_speaks_stops_the_run(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with raw_endpoint(answer(Move.HOLD)) as silent:
        endpoint = replace(silent.endpoint(), first_byte_timeout_s=0.1)
        with pytest.raises(EndpointClosedError, match="first_byte_timeout_s"):
            await serve(run, database_url, endpoint, outage_patience_s=QUICK)
    assert set(await states(engine)) <= LEFT


async def test_an_endpoint_that_never_speaks_for_a_while_costs_nobody_his_slate(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    held = asyncio.Event()
    async with moody_endpoint(always(Answer([held]))) as moody:
        endpoint = replace(moody.endpoint(), first_byte_timeout_s=0.1)
        serving = asyncio.create_task(serve(run, database_url, endpoint))
        await until(lambda: moody.asked_so_far > 7)
        moody.mood = always(slate())
        held.set()
        await serving
    assert await states(engine) == ALL_COMPLETE


async def test_a_key_that_expires_midway_stops_the_run_and_a_new_key_goes_on_with_it(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    valid = {"Bearer test-key"}

    def by_key(number: int, key: str) -> Answer:
        if number == 5:
            valid.clear()
        return slate() if key in valid else refusal(401, "the key has expired")

    async with moody_endpoint(by_key) as moody:
        with pytest.raises(EndpointFatalError, match="expired"):
            await serve(run, database_url, moody.endpoint())
        assert 2 <= (await states(engine))["complete"] <= 5, "those in flight are left when the run stops"
        rows = await read(engine, "SELECT customer_id, rank, product_id, committed_at FROM recommendations")

        valid.add("Bearer new-key")
        await serve(run, database_url, replace(moody.endpoint(), api_key="new-key"))
    assert await states(engine) == ALL_COMPLETE
    assert set(rows) <= set(
        await read(engine, "SELECT customer_id, rank, product_id, committed_at FROM recommendations")
    )


async def test_an_endpoint_that_vanishes_and_comes_back_costs_nobody_his_slate(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with moody_endpoint(always(slate())) as moody:

        def gone_after_three(number: int, _: str) -> Answer:
            if number >= 3:
                vanished.set()
            return slate()

        vanished = asyncio.Event()
        moody.mood = gone_after_three
        serving = asyncio.create_task(serve(run, database_url, moody.endpoint(), attempts=1))
        await vanished.wait()
        await moody.vanish()
        await until_refused_often(engine)
        moody.mood = always(slate())
        await moody.listen()
        await serving
    assert (await states(engine)).get("failed", 0) == 0


async def until_refused_often(engine: AsyncEngine) -> None:
    """Until more requests found nobody than there are tries."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            ((number,),) = await read(engine, "SELECT count(*) FROM llm_calls WHERE ending = 'unreachable'")
            if isinstance(number, int) and number >= 8:
                return


async def test_a_name_that_nobody_knows_stops_the_run_with_one_line(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with moody_endpoint(always(slate())) as moody:
        nowhere = replace(moody.endpoint(), base_url="http://no-such-host.invalid/v1", connect_timeout_s=2.0)
        with pytest.raises(EndpointClosedError, match="no-such-host"):
            await serve(run, database_url, nowhere, outage_patience_s=QUICK)
    assert set(await states(engine)) <= LEFT


async def test_a_name_that_nobody_knows_is_replaced_by_the_fallback(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with moody_endpoint(always(slate())) as moody:
        nowhere = replace(moody.endpoint(), base_url="http://no-such-host.invalid/v1", connect_timeout_s=2.0)
        await serve(run, database_url, nowhere, fallback_base_url=moody.base_url)
        assert {body["model"] for body in moody.bodies} == {nowhere.model}, "the model is the run's own"
    assert await states(engine) == ALL_COMPLETE


async def test_a_storm_of_errors_costs_nobody_his_slate_once_it_is_over(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    storm = [refusal(status, "storm") for status in (500, 502, 503, 504, 529, 500, 503, 500, 502)]
    async with moody_endpoint(in_turn(slate(), *storm, slate())) as moody:
        await serve(run, database_url, moody.endpoint())
        assert moody.asked_so_far == len(CUSTOMERS) + len(storm)
    assert await states(engine) == ALL_COMPLETE


async def test_an_endpoint_that_recovers_is_gone_back_to(engine: AsyncEngine, database_url: str, run: Run) -> None:
    async with moody_endpoint(always(refusal(503, "storm"))) as moody, moody_endpoint(always(slate())) as other:
        asked_in_the_storm: list[int] = []

        def longer_than_a_pause(number: int, _: str) -> Answer:
            if number == 0:
                asked_in_the_storm.append(moody.asked_so_far)
                moody.mood = always(slate())
            over = asyncio.Event()
            asyncio.get_running_loop().call_later(0.3, over.set)
            return Answer([over, *slate().steps])

        other.mood = longer_than_a_pause
        await serve(run, database_url, moody.endpoint(), fallback_base_url=other.base_url, fallback_model="other-model")
        assert moody.asked_so_far > asked_in_the_storm[0]
    assert await states(engine) == ALL_COMPLETE


async def test_with_a_last_resort_every_customer_who_was_given_up_has_a_whole_slate(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    only_one = Answer([text_event('{"i": 4, "s": 80}'), *saying("That is all.").steps])
    async with moody_endpoint(always(only_one)) as moody:
        settings = {"last_resort": "retrieval_order", "candidate_order": "retrieval"}  # so that 4 is the fourth
        await serve(run, database_url, moody.endpoint(), attempts=1, **settings)
    assert await states(engine) == ALL_COMPLETE
    assert await read(
        engine,
        "SELECT rank, array_position(candidate_ids, product_id), provenance, model, relevance_score "
        "FROM recommendations JOIN slates USING (run_id, customer_id) WHERE customer_id = :one ORDER BY rank",
        one=CUSTOMERS[0],
    ) == [
        (1, 4, "language_model", None, 0.8),
        (2, 1, "retrieval_order", None, pytest.approx(0.8 * 2 / 3)),
        (3, 2, "retrieval_order", None, pytest.approx(0.8 / 3)),
    ]
    assert await why(engine) == {
        "filled up in retrieval order: the answer ended with 1 of the 3 recommendations asked for"
    }


async def test_without_a_last_resort_they_stay_as_short_as_they_are(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with moody_endpoint(always(saying("I have no idea."))) as moody:
        await serve(run, database_url, moody.endpoint(), attempts=1)
    assert await states(engine) == {"failed": len(CUSTOMERS)}


async def test_no_last_resort_is_taken_where_the_run_stops(engine: AsyncEngine, database_url: str, run: Run) -> None:
    async with moody_endpoint(always(refusal(401, "no such key"))) as moody:
        with pytest.raises(EndpointFatalError):
            await serve(run, database_url, moody.endpoint(), last_resort="retrieval_order")
    assert await read(engine, "SELECT * FROM recommendations") == []


async def test_an_endpoint_whose_answers_are_all_nonsense_is_not_paid_three_times_for_each_customer(
    engine: AsyncEngine, database_url: str
) -> None:
    for product in some_products(5):
        await change(
            engine,
            "INSERT INTO products (product_id, name) VALUES (:product_id, :name)",
            product_id=product.product_id,
            name=product.name,
        )
    many = [f"customer {number:03}" for number in range(80)]
    run = await add_run(engine, *many, slate_size=3)
    async with moody_endpoint(always(saying("I have no idea."))) as moody:
        await serve(run, database_url, moody.endpoint())
        assert moody.asked_so_far == len(many) + 50
    assert any("retries of this run" in str(reason) for reason in await why(engine))


async def test_an_endpoint_that_grows_slower_without_refusing_serves_everybody(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    with offline_ranker(tokens_per_second=0, limits=LimitPlan(shared_tokens_per_second=400)) as slow:
        endpoint = Endpoint(
            base_url=slow.base_url,
            api_key="test-key",
            model=OFFLINE_MODEL,
            temperature=0.1,
            connect_timeout_s=PATIENCE_S,
            first_byte_timeout_s=PATIENCE_S,
            idle_timeout_s=PATIENCE_S,
            answer_timeout_s=PATIENCE_S,
            terms=Terms(slow.base_url),
            is_offline_ranker=True,
        )
        assert await serve(run, database_url, endpoint) == len(CUSTOMERS)
    assert await states(engine) == ALL_COMPLETE
    assert await attempts(engine) == len(CUSTOMERS)


async def test_a_night_begins_with_the_fallback_where_its_own_endpoint_is_away(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    async with moody_endpoint(always(slate())) as moody:
        chosen = load_settings(
            database_url=database_url,
            openai_base_url="http://no-such-host.invalid/v1",
            model="test-model",
            fallback_base_url=moody.base_url,
            connect_timeout_s=2.0,
            slate_size=3,
        )
        async with asyncio.timeout(4 * PATIENCE_S), open_night(chosen) as night:
            planned = await night.plan(None)
            async with night.working_on(planned) as services:
                await serve_shard(planned, 0, services)
    assert await read(engine, "SELECT state FROM runs WHERE run_id = :run_id", run_id=planned.run_id) == [("finished",)]
