"""One slate from a real endpoint into a real database: what each attempt asks, what stands, what the ledger says."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.admission import Admission
from pipeline.budgets import Caps, open_budget
from pipeline.database import open_connection
from pipeline.domain import CommittedRecommendation, CustomerId, Product, Profile
from pipeline.errors import EndpointFatalError
from pipeline.group_commit import GroupCommit, open_group_commit
from pipeline.orders import Hands
from pipeline.profiles import unfinished_customers
from pipeline.prompts import load_templates
from pipeline.recommending import SlateServices, recommend
from pipeline.retrying.refusal_streak import MOST_IN_A_ROW
from pipeline.routes import Course, Prices, open_route
from pipeline.runs import Run, summarise
from pipeline.services import open_run_services
from pipeline.settings import load_settings
from pipeline.shards import ShardReport, serve_shard
from pipeline.slates import SlateLedger
from tests.fixtures.scripted_endpoint import (
    EVENT_STREAM,
    JSON,
    Answer,
    Drop,
    ScriptedEndpoint,
    Step,
    event_of,
    happens,
    item_text,
    scripted_endpoint,
    text_event,
    whole_stream,
)
from tests.fixtures.shop import RANKER, add_run, candidates_of, change, read, some_candidates, some_products

CUSTOMER = CustomerId("c")
PROFILE = Profile(CUSTOMER, (("Recent purchases", "Laptop"),))
PATIENCE_S = 60.0
AT_ONCE = {"Retry-After": "0"}


def whole(*numbers: int) -> Answer:
    """A well-behaved answer that names these candidates."""
    return Answer(whole_stream(*map(item_text, numbers)))


def cut(*numbers: int) -> Answer:
    """An answer that breaks off after these candidates, in the middle of the next."""
    return Answer([*(text_event(item_text(number)) for number in numbers), text_event('{"i": '), Drop()])


def refused(status: int, words: str = "not now") -> Answer:
    """An error status, and the wish to be asked again at once."""
    body = event_of({"error": {"message": words}}).removeprefix(b"data: ").strip()
    return Answer([body], status=status, headers={**JSON, **AT_ONCE})


@asynccontextmanager
async def services_for(
    scripted: ScriptedEndpoint, engine: AsyncEngine, writer: GroupCommit, run: Run, *, attempts: int = 3
) -> AsyncIterator[SlateServices]:
    async with (
        open_route(scripted.endpoint(), concurrency=4, patience_s=PATIENCE_S, prices=Prices()) as route,
        open_budget("", run.run_id, "UTC", Caps()) as budget,
    ):
        course = Course(None, load_templates(), [route])
        yield SlateServices(
            course_of=lambda _: course,
            admission=Admission(Hands(run.run_id), budget),
            writer=writer,
            ledger=SlateLedger(engine, run.run_id, run.day),
            slate_size=run.slate_size,
            attempts=attempts,
            patience_s=PATIENCE_S,
        )


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    return await add_run(engine, CUSTOMER, slate_size=3)


@pytest.fixture
async def writer(database_url: str, run: Run) -> AsyncIterator[GroupCommit]:
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as opened:
        yield opened


async def all_of(rows: AsyncGenerator[CommittedRecommendation]) -> list[str]:
    async with aclosing(rows):
        return [row.recommendation.product_id async for row in rows]


async def serve(
    engine: AsyncEngine,
    writer: GroupCommit,
    run: Run,
    *answers: Answer,
    candidates: Sequence[Product] | None = None,
    attempts: int = 3,
) -> tuple[list[str], ScriptedEndpoint]:
    """The products in the order in which they were yielded, and the endpoint that gave the answers."""
    async with (
        scripted_endpoint(*answers) as scripted,
        services_for(scripted, engine, writer, run, attempts=attempts) as services,
    ):
        found = candidates_of(some_products(5) if candidates is None else candidates)
        return await all_of(recommend(PROFILE, found, services)), scripted


async def placed(engine: AsyncEngine) -> list[tuple[object, ...]]:
    found = await read(engine, "SELECT rank, product_id, attempt FROM recommendations ORDER BY rank")
    return [tuple(row) for row in found]


async def slate(engine: AsyncEngine) -> tuple[object, ...]:
    (found,) = await read(engine, "SELECT state, attempts, ending, reason FROM slates WHERE customer_id = 'c'")
    return tuple(found)


async def endings(engine: AsyncEngine) -> list[tuple[object, ...]]:
    found = await read(
        engine, "SELECT attempt, ending, status FROM llm_calls WHERE customer_id = 'c' ORDER BY started_at"
    )
    return [tuple(row) for row in found]


def asked(scripted: ScriptedEndpoint, number: int) -> str:
    """What the customer's message of one request said."""
    return str(scripted.bodies[number]["messages"][1]["content"])


async def test_a_row_is_visible_to_others_while_the_rest_of_the_answer_is_held_back(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    gate = asyncio.Event()
    answer = Answer([text_event(item_text(4, 93)), gate, *whole_stream(item_text(1, 71), item_text(2, 5))])
    async with (
        scripted_endpoint(answer) as scripted,
        services_for(scripted, engine, writer, run) as services,
        aclosing(recommend(PROFILE, some_candidates(5), services)) as rows,
    ):
        first = await anext(rows)
        assert await read(
            engine, "SELECT rank, product_id, product_name, relevance_score, committed_at FROM recommendations"
        ) == [(1, "p4", "Product 4", 0.93, first.committed_at)]
        gate.set()
        assert [row.recommendation.product_id async for row in rows] == ["p1", "p2"]

    assert await slate(engine) == ("complete", 1, "complete", None)


async def test_tokens_times_and_ids_of_the_request_are_kept(engine: AsyncEngine, writer: GroupCommit, run: Run) -> None:
    await serve(engine, writer, run, whole(1, 2, 3))

    (call,) = await read(
        engine,
        "SELECT request_id, model, status, error, tokens_in, tokens_out, tokens_cached, tokens_estimated,"
        " first_byte_s > 0 AND whole_s >= first_byte_s FROM llm_calls",
    )
    assert call == ("req-1", "served-model", 200, None, 100, 20, 64, False, True)
    (kept,) = await read(
        engine,
        "SELECT tokens_in, tokens_out, tokens_cached, length(input_hash), first_row_s > 0 AND whole_s >= first_row_s,"
        " candidate_ids FROM slates",
    )
    assert kept == (100, 20, 64, 16, True, ["p1", "p2", "p3", "p4", "p5"])


async def test_after_a_cut_only_the_missing_ranks_are_asked_for_from_the_candidates_left(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    yielded, scripted = await serve(engine, writer, run, cut(2), whole(1, 4))

    assert yielded == ["p2", "p1", "p5"]
    assert await placed(engine) == [(1, "p2", 1), (2, "p1", 2), (3, "p5", 2)]
    assert "Rank the 3 most relevant" in asked(scripted, 0)
    assert "Rank the 2 most relevant" in asked(scripted, 1)
    assert "1. Product 1\n2. Product 3\n3. Product 4\n4. Product 5\n" in asked(scripted, 1)
    assert await endings(engine) == [(1, "cut", 200), (2, "complete", 200)]
    assert await slate(engine) == ("complete", 2, "complete", None)


async def test_a_limit_that_says_when_to_come_back_is_waited_for(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    yielded, _ = await serve(engine, writer, run, refused(429), whole(1, 2, 3))

    assert yielded == ["p1", "p2", "p3"]
    assert await endings(engine) == [(1, "rate_limited", 429), (2, "complete", 200)]


async def test_an_endpoint_that_fails_every_time_fails_the_slate_and_raises_nothing(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    yielded, scripted = await serve(engine, writer, run, refused(500, "out of order"))

    assert yielded == []
    assert len(scripted.bodies) == 3, "nobody else retries"
    assert await endings(engine) == [(attempt, "endpoint_error", 500) for attempt in (1, 2, 3)]
    state, attempts, ending, reason = await slate(engine)
    assert (state, attempts, ending) == ("failed", 3, "endpoint_error")
    assert "answered 500" in str(reason)
    assert "out of order" in str(reason)


@pytest.mark.parametrize(
    ("answers", "state", "rows"), [([], "failed", 0), ([cut(5)], "short", 1)], ids=["at once", "after a row"]
)
async def test_a_refused_key_ends_the_run_and_the_slate_says_what_it_has(
    engine: AsyncEngine, writer: GroupCommit, run: Run, answers: list[Answer], state: str, rows: int
) -> None:
    with pytest.raises(EndpointFatalError, match="no such key"):
        await serve(engine, writer, run, *answers, refused(401, "no such key"))

    found = await slate(engine)
    assert (found[0], found[2]) == (state, "fatal")
    assert "no such key" in str(found[3])
    assert len(await placed(engine)) == rows


async def test_a_short_answer_is_continued(engine: AsyncEngine, writer: GroupCommit, run: Run) -> None:
    yielded, scripted = await serve(engine, writer, run, whole(3), whole(1), whole(1))

    assert yielded == ["p3", "p1", "p2"]
    assert [ending for _, ending, _ in await endings(engine)] == ["complete", "complete", "complete"]
    assert "Rank the 1 most relevant" in asked(scripted, 2)


async def test_a_slate_that_stays_short_says_why(engine: AsyncEngine, writer: GroupCommit, run: Run) -> None:
    yielded, _ = await serve(engine, writer, run, whole(3), whole(), attempts=2)

    assert yielded == ["p3"]
    assert await slate(engine) == (
        "short",
        2,
        "empty",
        "the answer ended with 0 of the 2 recommendations asked for",
    )


async def test_objects_that_are_refused_are_recorded_and_the_others_stand(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    texts = [item_text(1), item_text(9), item_text(1), '{"i": 2}', item_text(2, 900), item_text(2), item_text(3)]

    yielded, _ = await serve(engine, writer, run, Answer(whole_stream(*texts)))

    assert yielded == ["p1", "p2", "p3"]
    assert await read(engine, "SELECT reason, raw FROM rejections ORDER BY attempt, number") == [
        ("unknown_candidate", '{"i":9,"s":90}'),
        ("repeated_product", '{"i":1,"s":90}'),
        ("missing_score", '{"i": 2}'),
        ("score_out_of_range", '{"i":2,"s":900}'),
    ]
    assert await slate(engine) == ("complete", 1, "complete", None)


async def test_a_product_that_the_database_refuses_leaves_its_place_to_the_next_attempt(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    candidates = some_products(5)
    candidates[1] = replace(candidates[1], name="Nul \x00")

    yielded, _ = await serve(engine, writer, run, whole(1, 2, 3), whole(2), candidates=candidates)

    assert yielded == ["p1", "p3", "p4"]
    assert await placed(engine) == [(1, "p1", 1), (2, "p3", 1), (3, "p4", 2)]
    assert await read(engine, "SELECT reason FROM rejections") == [("refused_by_database",)]


async def test_a_customer_without_candidates_fails_with_a_reason_and_nothing_is_asked(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    yielded, scripted = await serve(engine, writer, run, whole(1), candidates=[])

    assert (yielded, scripted.bodies) == ([], [])
    state, attempts, _, reason = await slate(engine)
    assert (state, attempts) == ("failed", 0)
    assert str(reason).startswith("no candidates")


async def test_fewer_candidates_than_places_make_a_complete_slate(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    yielded, scripted = await serve(engine, writer, run, whole(2, 1), candidates=some_products(2))

    assert yielded == ["p2", "p1"]
    assert "Rank the 2 most relevant" in asked(scripted, 0)
    assert (await slate(engine))[0] == "complete"


async def test_a_complete_slate_asks_nothing_more(engine: AsyncEngine, writer: GroupCommit, run: Run) -> None:
    await serve(engine, writer, run, whole(1, 2, 3))

    yielded, scripted = await serve(engine, writer, run, whole(4, 5))

    assert (yielded, scripted.bodies) == ([], [])
    assert await slate(engine) == ("complete", 1, "complete", None)


async def test_a_customer_who_was_erased_meanwhile_is_not_asked_for_and_stops_nobody(
    engine: AsyncEngine, database_url: str, writer: GroupCommit, run: Run
) -> None:
    with open_connection(database_url, role=None) as owner:
        owner.execute("DELETE FROM slates")

    products, scripted = await serve(engine, writer, run, whole(1, 2, 3))

    assert (products, scripted.bodies) == ([], [])


async def test_leaving_the_loop_closes_the_connection_and_the_slate_can_be_resumed(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    held_back: list[Step] = [text_event(item_text(2)), asyncio.Event()]
    async with (
        scripted_endpoint(Answer(held_back)) as scripted,
        services_for(scripted, engine, writer, run) as services,
    ):
        async with aclosing(recommend(PROFILE, some_candidates(5), services)) as rows:
            await anext(rows)
        assert await happens(scripted.client_gone)
    assert await slate(engine) == ("pending", 1, "abandoned", "not served: its run ended before")
    assert await endings(engine) == [(1, "abandoned", 200)]
    async with aclosing(unfinished_customers(engine, run.run_id, run.day, 0)) as pages:
        assert [page async for page in pages] == [[CUSTOMER]]

    yielded, scripted = await serve(engine, writer, run, whole(1, 2))

    assert yielded == ["p1", "p3"]
    assert await placed(engine) == [(1, "p2", 1), (2, "p1", 2), (3, "p3", 2)]
    assert await slate(engine) == ("complete", 2, "complete", None)


async def test_cancellation_closes_the_connection_and_is_recorded(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    held_back: list[Step] = [text_event(item_text(2)), asyncio.Event()]
    async with (
        scripted_endpoint(Answer(held_back)) as scripted,
        services_for(scripted, engine, writer, run) as services,
    ):
        serving = asyncio.create_task(all_of(recommend(PROFILE, some_candidates(5), services)))
        assert await happens(scripted.asked)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert await happens(scripted.client_gone)

    assert (await slate(engine))[:3] == ("pending", 1, "abandoned")


async def test_an_answer_that_never_ends_is_left_once_all_is_there(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    chatter: list[Step] = [*(text_event(item_text(number)) for number in (1, 2, 3, 4, 5)), asyncio.Event()]
    async with (
        scripted_endpoint(Answer(chatter, headers=EVENT_STREAM)) as scripted,
        services_for(scripted, engine, writer, run) as services,
    ):
        assert await all_of(recommend(PROFILE, some_candidates(5), services)) == ["p1", "p2", "p3"]
        assert await happens(scripted.client_gone)

    assert await slate(engine) == ("complete", 1, "enough", None)
    assert await read(engine, "SELECT tokens_estimated, tokens_out > 0 FROM llm_calls") == [(True, True)]


@asynccontextmanager
async def shop_of(engine: AsyncEngine, *customer_ids: str) -> AsyncIterator[Run]:
    for product in some_products(5):
        await change(
            engine,
            "INSERT INTO products (product_id, name) VALUES (:product_id, :name)",
            product_id=product.product_id,
            name=product.name,
        )
    yield await add_run(engine, *customer_ids, slate_size=3)


async def serve_all(scripted: ScriptedEndpoint, url: str, run: Run) -> ShardReport:
    settings = load_settings(concurrency=1, database_url=url)
    async with open_run_services(settings, url, scripted.endpoint(), run) as services:
        return await serve_shard(run, 0, services)


async def test_a_customer_who_fails_does_not_stop_the_others(engine: AsyncEngine, database_url: str) -> None:
    async with (
        shop_of(engine, "a", "b", "c") as run,
        scripted_endpoint(whole(1, 2, 3), *[refused(500)] * 3, whole(1, 2, 3)) as scripted,
    ):
        assert await serve_all(scripted, database_url, run) == ShardReport(0, customers=3, rows=6)

    assert await read(engine, "SELECT customer_id, state FROM slates ORDER BY customer_id") == [
        ("a", "complete"),
        ("b", "failed"),
        ("c", "complete"),
    ]


async def test_a_prompt_that_is_refused_is_not_asked_again_and_stops_nobody(
    engine: AsyncEngine, database_url: str
) -> None:
    async with (
        shop_of(engine, "a", "b", "c") as run,
        scripted_endpoint(whole(1, 2, 3), refused(413, "too long"), whole(1, 2, 3)) as scripted,
    ):
        assert await serve_all(scripted, database_url, run) == ShardReport(0, customers=3, rows=6)
        assert len(scripted.bodies) == 3

    assert await read(engine, "SELECT customer_id, reason FROM slates WHERE state <> 'complete'") == [
        ("b", f"{scripted.base_url} answered 413: too long (ask with fewer candidates)")
    ]


async def test_an_endpoint_that_refuses_every_prompt_ends_the_shard(engine: AsyncEngine, database_url: str) -> None:
    customer_ids = [f"customer {number:02}" for number in range(MOST_IN_A_ROW + 5)]
    async with shop_of(engine, *customer_ids) as run, scripted_endpoint(refused(400, "no such option")) as scripted:
        with pytest.raises(EndpointFatalError, match="no such option"):
            await serve_all(scripted, database_url, run)
        assert len(scripted.bodies) == MOST_IN_A_ROW


async def test_a_run_that_had_answers_is_not_stopped_by_those_who_are_left_and_refused(
    engine: AsyncEngine, database_url: str
) -> None:
    refused_ones = [f"b{number:02}" for number in range(MOST_IN_A_ROW + 3)]
    async with shop_of(engine, "a", *refused_ones) as run:
        for answers in ((whole(1, 2, 3), refused(413, "too long")), (refused(413, "too long"),)):
            async with scripted_endpoint(*answers) as scripted:
                await serve_all(scripted, database_url, run)

    assert await read(engine, "SELECT state, count(*) FROM slates GROUP BY 1 ORDER BY 1") == [
        ("complete", 1),
        ("failed", len(refused_ones)),
    ]


async def test_a_key_that_the_endpoint_says_back_is_written_nowhere(engine: AsyncEngine, database_url: str) -> None:
    async with shop_of(engine, "a") as run, scripted_endpoint(refused(401, "wrong key: test-key")) as scripted:
        with pytest.raises(EndpointFatalError) as told:
            await serve_all(scripted, database_url, run)

    written = await read(
        engine, "SELECT c.error, s.reason FROM llm_calls AS c JOIN slates AS s USING (run_id, customer_id)"
    )
    assert "test-key" not in f"{told.value} {written}"
    assert "wrong key: …" in f"{told.value}"


async def test_resuming_serves_only_who_is_left(engine: AsyncEngine, database_url: str) -> None:
    async with shop_of(engine, "a", "b", "c") as run:
        async with scripted_endpoint(whole(1, 2, 3), *[refused(500)] * 3, whole(1, 2, 3)) as scripted:
            await serve_all(scripted, database_url, run)
        async with scripted_endpoint(whole(3, 2, 1)) as scripted:
            assert await serve_all(scripted, database_url, run) == ShardReport(0, customers=1, rows=3)
            assert len(scripted.bodies) == 1

    assert (await summarise(engine, run.run_id)).left == 0
    assert await read(engine, "SELECT customer_id, attempts FROM slates ORDER BY 1") == [("a", 1), ("b", 4), ("c", 1)]


async def test_a_refused_key_ends_the_shard_with_the_rows_that_are_there(
    engine: AsyncEngine, database_url: str
) -> None:
    async with (
        shop_of(engine, "a", "b", "c") as run,
        scripted_endpoint(whole(1, 2, 3), refused(401, "no such key")) as scripted,
    ):
        with pytest.raises(EndpointFatalError, match="no such key"):
            await serve_all(scripted, database_url, run)
        assert len(scripted.bodies) == 2

    assert await read(engine, "SELECT customer_id, state FROM slates ORDER BY customer_id") == [
        ("a", "complete"),
        ("b", "failed"),
        ("c", "pending"),
    ]


async def test_who_left_the_shop_since_planning_is_in_the_ledger_with_the_reason(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    async with shop_of(engine, "a", "b") as run, scripted_endpoint(whole(1, 2, 3)) as scripted:
        await change(admin, "DELETE FROM customers WHERE customer_id = 'a'")
        assert await serve_all(scripted, database_url, run) == ShardReport(0, customers=1, rows=3)

    (gone, served) = await read(engine, "SELECT state, reason FROM slates ORDER BY customer_id")
    assert gone[0] == "failed"
    assert "no longer in the customers table" in str(gone[1])
    assert served == ("complete", None)


async def test_a_slate_that_another_opens_is_left_to_him_and_the_shard_goes_on(
    engine: AsyncEngine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()
    held_back = Answer([text_event(item_text(2)), gate, *whole_stream(item_text(1), item_text(3))])
    caplog.set_level(logging.INFO, "pipeline.recommending")
    async with shop_of(engine, "a", "b") as run, scripted_endpoint(held_back, whole(1, 2, 3)) as scripted:
        serving = asyncio.create_task(serve_all(scripted, database_url, run))
        async with asyncio.timeout(PATIENCE_S):
            while not await placed(engine):  # noqa: ASYNC110 - nobody tells that a row of the shard is there
                await asyncio.sleep(0.05)
        other = await SlateLedger(engine, run.run_id, run.day).open(CustomerId("a"), some_candidates(5), 3)
        gate.set()

        assert await serving == ShardReport(0, customers=2, rows=4)
        assert len(scripted.bodies) == 2, "he who lost it does not ask again"

    assert len(other.placed) == 1
    assert await read(engine, "SELECT customer_id, state, lease FROM slates ORDER BY 1") == [
        ("a", "streaming", 2),
        ("b", "complete", 1),
    ]
    assert await read(engine, "SELECT customer_id, ending, tokens_in > 0 FROM llm_calls ORDER BY 1") == [
        ("a", "taken_over", True),
        ("b", "complete", True),
    ]
    said = [record.getMessage() for record in caplog.records if record.name == "pipeline.recommending"]
    assert said == ["the slate of customer 'a' was opened by another, or is there no more: this attempt ends"]


async def test_a_slate_that_is_lost_between_two_attempts_is_not_asked_for_again(
    engine: AsyncEngine, writer: GroupCommit, run: Run
) -> None:
    gate = asyncio.Event()
    broken_off = Answer([text_event(item_text(2)), gate, Drop()])
    async with (
        scripted_endpoint(broken_off, whole(1, 2)) as scripted,
        services_for(scripted, engine, writer, run) as services,
        aclosing(recommend(PROFILE, some_candidates(5), services)) as rows,
    ):
        await anext(rows)
        await services.ledger.open(CUSTOMER, some_candidates(5), 3)
        gate.set()

        assert [row async for row in rows] == []
        assert len(scripted.bodies) == 1

    assert await endings(engine) == [(1, "cut", 200)]
    assert await slate(engine) == ("streaming", 1, None, None)
