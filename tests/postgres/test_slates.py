"""The ledger of slates on a real database: what an opening finds, what an attempt leaves, what hostile text does."""

import asyncio
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import (
    AnswerRecord,
    Candidate,
    Candidates,
    CustomerId,
    Ending,
    FoundBy,
    ProductId,
    Rank,
    Recommendation,
    Rejection,
    RejectionReason,
    Rule,
    RunId,
    SlateState,
    Usage,
)
from pipeline.errors import SlateTakenOverError
from pipeline.group_commit import open_group_commit
from pipeline.runs import Run
from pipeline.slates import SlateLedger
from tests.fixtures.shop import NOW, RANKER, add_run, change, read, row_of, some_candidates, some_products

CUSTOMER = CustomerId("c")
REJECTION = Rejection(RejectionReason.NOT_JSON, "no JSON", "{")
HOSTILE = "Nul \x00, half a character \ud800, a line\nbreak, 'quotes\" " + "x" * 5_000


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    return await add_run(engine, CUSTOMER)


@pytest.fixture
def ledger(engine: AsyncEngine, run: Run) -> SlateLedger:
    return SlateLedger(engine, run.run_id, run.day)


async def place(url: str, run: Run, *product_ids: str) -> None:
    async with open_group_commit(url, run.run_id, run.day, RANKER.provenance) as writer:
        for rank, product_id in enumerate(product_ids, start=1):
            await writer.commit(row_of(CUSTOMER, rank, product_id=product_id))


async def test_a_fresh_slate_is_empty_and_streaming(engine: AsyncEngine, ledger: SlateLedger) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(20), 10)

    assert (slate.next_rank, slate.missing, slate.wanted, slate.attempt) == (1, 10, 10, 0)
    assert await read(engine, "SELECT state, candidate_ids FROM slates") == [
        ("streaming", [f"p{number}" for number in range(1, 21)])
    ]


async def test_a_slate_opened_again_has_the_rows_that_are_durable(
    database_url: str, run: Run, ledger: SlateLedger
) -> None:
    await place(database_url, run, "p3", "p1")

    slate = await ledger.open(CUSTOMER, some_candidates(20), 10)

    assert list(slate.placed.values()) == [
        Recommendation(Rank(1), ProductId("p3"), "A product", 0.5),
        Recommendation(Rank(2), ProductId("p1"), "A product", 0.5),
    ]
    assert (slate.next_rank, slate.missing) == (3, 8)


@pytest.mark.parametrize(("candidates", "wanted", "missing"), [(0, 2, 0), (2, 3, 1), (4, 5, 3), (50, 10, 8)])
async def test_no_more_is_wanted_than_candidates_and_rows_together_give(
    database_url: str, run: Run, ledger: SlateLedger, candidates: int, wanted: int, missing: int
) -> None:
    await place(database_url, run, "p1", "no candidate any more")

    slate = await ledger.open(CUSTOMER, some_candidates(candidates), 10)

    assert (slate.wanted, slate.missing) == (wanted, missing)


@pytest.mark.parametrize("stranger", ["run", "customer"])
async def test_a_slate_that_was_never_planned_is_refused_in_one_line(
    engine: AsyncEngine, run: Run, stranger: str
) -> None:
    run_id, customer_id = (RunId(uuid4()), CUSTOMER) if stranger == "run" else (run.run_id, CustomerId("nobody"))

    with pytest.raises(SlateTakenOverError, match="has no slate for customer") as refused:
        await SlateLedger(engine, run_id, run.day).open(customer_id, some_candidates(1), 1)
    assert "\n" not in str(refused.value)


async def test_where_the_candidates_came_from_and_what_rules_took_out_is_on_the_slate(
    engine: AsyncEngine, ledger: SlateLedger
) -> None:
    products = some_products(6)
    kinds = (
        FoundBy.PINNED, FoundBy.NEIGHBOURS, FoundBy.REPEAT, FoundBy.NEWCOMER, FoundBy.POPULAR, FoundBy.CATALOG
    )  # fmt: skip
    found = tuple(Candidate(it, 0.5, kind) for it, kind in zip(products, kinds, strict=True))
    removed = ((Rule.BANNED, ProductId("x")), (Rule.BOUGHT, ProductId("y")), (Rule.BANNED, ProductId("z")))
    candidates = Candidates(found, tuple(products[::-1]), NOW, build_id=7, removed=removed)

    await ledger.open(CUSTOMER, candidates, 3)

    assert await read(
        engine,
        "SELECT candidate_ids, candidate_scores, candidate_sources, candidates_as_of, candidate_build, "
        "removed_candidates FROM slates WHERE customer_id = :customer_id",
        customer_id=CUSTOMER,
    ) == [(["p1", "p2", "p3", "p4", "p5", "p6"], [0.5] * 6, "inrcpa", NOW, 7, {"banned": ["x", "z"], "bought": ["y"]})]


async def test_every_attempt_is_recorded_and_its_tokens_are_added_up(engine: AsyncEngine, ledger: SlateLedger) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    for tokens, ending, error in ((100, Ending.CUT, "the stream broke off"), (20, Ending.COMPLETE, None)):
        await ledger.begin_attempt(slate, f"hash {slate.attempt + 1}")
        record = AnswerRecord(
            request_id=f"req-{slate.attempt}",
            status=200,
            model="served-model",
            usage=Usage(tokens, tokens // 2, tokens // 4, estimated=error is not None),
            first_byte_s=0.25,
            whole_s=1.5,
            refused_objects=4 * slate.attempt,
            score_rises=3 * slate.attempt,
        )
        await ledger.end_attempt(slate, record, ending, error)

    assert await read(
        engine,
        "SELECT attempt, request_id, status, model, ending, error, tokens_in, tokens_out, tokens_cached,"
        " tokens_estimated, first_byte_s, whole_s, refused_objects, score_rises FROM llm_calls ORDER BY started_at",
    ) == [
        (1, "req-1", 200, "served-model", "cut", "the stream broke off", 100, 50, 25, True, 0.25, 1.5, 4, 3),
        (2, "req-2", 200, "served-model", "complete", None, 20, 10, 5, False, 0.25, 1.5, 8, 6),
    ]
    assert await read(
        engine, "SELECT attempts, ending, input_hash, tokens_in, tokens_out, tokens_cached FROM slates"
    ) == [(2, "complete", "hash 2", 120, 60, 30)]


async def test_attempts_are_counted_on_and_the_first_row_keeps_its_time(
    engine: AsyncEngine, ledger: SlateLedger
) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    for _ in range(2):
        await ledger.begin_attempt(slate, "hash")
        slate.note_row()
        await ledger.end_attempt(slate, AnswerRecord(), Ending.CUT, "cut")

    again = await ledger.open(CUSTOMER, some_candidates(3), 3)
    again.note_row()

    assert again.attempt == 2
    assert again.first_row_s == slate.first_row_s
    assert await read(engine, "SELECT first_row_s FROM slates") == [(slate.first_row_s,)]


async def test_a_closed_slate_has_its_state_and_its_reason_until_it_is_opened_again(
    engine: AsyncEngine, ledger: SlateLedger
) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.close(slate, SlateState.FAILED, "nobody answered")
    assert await read(engine, "SELECT state, reason FROM slates") == [("failed", "nobody answered")]

    await ledger.open(CUSTOMER, some_candidates(3), 3)
    assert await read(engine, "SELECT state, reason FROM slates") == [("streaming", None)]


async def test_text_that_postgres_cannot_hold_is_stored_in_a_form_that_it_can(
    engine: AsyncEngine, ledger: SlateLedger
) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.begin_attempt(slate, "hash")

    await ledger.reject(slate, Rejection(RejectionReason.NOT_JSON, HOSTILE, HOSTILE))
    await ledger.end_attempt(slate, AnswerRecord(request_id=HOSTILE, model=HOSTILE), Ending.CUT, HOSTILE)
    await ledger.close(slate, SlateState.FAILED, HOSTILE)

    (stored,) = await read(
        engine,
        "SELECT rejections.detail, rejections.raw, call.error, call.model, call.request_id, slates.reason"
        " FROM slates JOIN rejections USING (run_id, customer_id) JOIN llm_calls AS call USING (run_id, customer_id)",
    )
    assert len(set(stored)) == 1
    words = str(stored[0])
    assert words.startswith("Nul \\u0000, half a character \\ud800, a line\nbreak, 'quotes\" xxx")
    assert len(words) < 2_100


async def test_the_ledger_outlives_the_death_of_its_connections(
    engine: AsyncEngine, admin: AsyncEngine, ledger: SlateLedger
) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    async with engine.connect(), engine.connect():
        pass  # two connections lie in the pool now
    await change(
        admin,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )

    closings = [ledger.close(slate, SlateState.SHORT, "one is missing") for _ in range(3)]
    await asyncio.gather(*closings)

    assert await read(engine, "SELECT state FROM slates") == [("short",)]


async def test_an_attempt_is_in_the_ledger_from_its_beginning(engine: AsyncEngine, ledger: SlateLedger) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)

    await ledger.begin_attempt(slate, "hash")

    assert await read(
        engine, "SELECT attempt, lease, ending, started_at <= now(), ended_at, tokens_in FROM llm_calls"
    ) == [(1, 1, "in_flight", True, None, 0)]
    assert await read(engine, "SELECT attempts, input_hash, ending FROM slates") == [(1, "hash", None)]


async def test_an_attempt_that_is_ended_twice_costs_its_tokens_once(engine: AsyncEngine, ledger: SlateLedger) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.begin_attempt(slate, "hash")

    for ending in (Ending.CUT, Ending.COMPLETE):
        await ledger.end_attempt(slate, AnswerRecord(usage=Usage(7, 5, 3)), ending, None)

    assert await read(engine, "SELECT ending, tokens_in FROM llm_calls") == [("cut", 7)]
    assert await read(engine, "SELECT ending, tokens_in, tokens_out, tokens_cached FROM slates") == [("cut", 7, 5, 3)]


async def test_what_attempts_cost_is_added_up_once_each_and_stays_unknown_without_a_price(
    engine: AsyncEngine, ledger: SlateLedger
) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    for cost in (None, Decimal("0.000123"), Decimal("0.25"), None):
        await ledger.begin_attempt(slate, "hash")
        for _ in range(2):
            await ledger.end_attempt(slate, AnswerRecord(usage=Usage(7, 5), cost=cost), Ending.CUT, None)
        if slate.attempt == 1:
            assert await read(engine, "SELECT cost FROM slates") == [(None,)]

    assert await read(engine, "SELECT cost FROM slates") == [(Decimal("0.250123"),)]
    assert await read(engine, "SELECT cost FROM llm_calls ORDER BY attempt") == [
        (None,),
        (Decimal("0.000123"),),
        (Decimal("0.25"),),
        (None,),
    ]


async def test_an_attempt_that_is_begun_twice_is_one(engine: AsyncEngine, ledger: SlateLedger) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.begin_attempt(slate, "hash")
    slate.attempt -= 1  # as a transaction that is done again because nobody knows whether it was committed
    await ledger.begin_attempt(slate, "hash")

    assert await read(engine, "SELECT attempt FROM llm_calls") == [(1,)]


async def test_refused_objects_are_numbered_within_their_attempt(engine: AsyncEngine, ledger: SlateLedger) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    for number in (2, 1):
        await ledger.begin_attempt(slate, "hash")
        for _ in range(number):
            await ledger.reject(slate, REJECTION)
    slate.refused -= 1  # as a transaction that is done again because nobody knows whether it was committed
    await ledger.reject(slate, REJECTION)

    assert await read(engine, "SELECT attempt, number FROM rejections ORDER BY 1, 2") == [(1, 1), (1, 2), (2, 1)]


async def test_who_opens_a_slate_next_says_that_the_attempt_in_flight_has_died(
    engine: AsyncEngine, ledger: SlateLedger
) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.begin_attempt(slate, "hash")
    await ledger.end_attempt(slate, AnswerRecord(), Ending.CUT, "cut")
    await ledger.begin_attempt(slate, "hash")

    again = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.begin_attempt(again, "hash")

    assert (again.lease, again.attempt) == (2, 3)
    assert await read(engine, "SELECT attempt, lease, ending, ended_at IS NULL FROM llm_calls ORDER BY attempt") == [
        (1, 1, "cut", False),
        (2, 1, "died", False),
        (3, 2, "in_flight", True),
    ]


async def test_what_another_run_has_in_flight_for_the_same_customer_is_left_alone(
    engine: AsyncEngine, ledger: SlateLedger
) -> None:
    other = await add_run(engine, CUSTOMER)
    elsewhere = SlateLedger(engine, other.run_id, other.day)
    await elsewhere.begin_attempt(await elsewhere.open(CUSTOMER, some_candidates(3), 3), "hash")

    await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.open(CUSTOMER, some_candidates(3), 3)

    assert await read(engine, "SELECT ending FROM llm_calls") == [("in_flight",)]


@pytest.mark.parametrize("deed", ["begin", "reject", "close"])
async def test_who_has_lost_the_slate_can_write_nothing_to_it(
    engine: AsyncEngine, ledger: SlateLedger, deed: str
) -> None:
    lost = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.begin_attempt(lost, "hash")
    await ledger.open(CUSTOMER, some_candidates(2), 3)
    before = await read(engine, "SELECT * FROM slates")
    deeds = {
        "begin": ledger.begin_attempt(lost, "another hash"),
        "reject": ledger.reject(lost, REJECTION),
        "close": ledger.close(lost, SlateState.COMPLETE, None),
    }
    chosen = deeds.pop(deed)
    for other in deeds.values():
        other.close()

    with pytest.raises(SlateTakenOverError, match="customer 'c' was opened by another") as refused:
        await chosen

    assert "\n" not in str(refused.value)
    assert await read(engine, "SELECT * FROM slates") == before
    assert await read(engine, "SELECT count(*) FROM rejections") == [(0,)]
    assert await read(engine, "SELECT attempt, ending FROM llm_calls") == [(1, "died")]
    assert lost.state is SlateState.STREAMING


async def test_what_a_lost_attempt_cost_is_counted_and_the_slate_keeps_the_words_of_who_holds_it(
    engine: AsyncEngine, ledger: SlateLedger
) -> None:
    lost = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.begin_attempt(lost, "hash")
    holder = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.begin_attempt(holder, "hash")
    await ledger.end_attempt(holder, AnswerRecord(usage=Usage(100, 10, 1)), Ending.COMPLETE, None)

    await ledger.end_attempt(lost, AnswerRecord(usage=Usage(40, 4, 0)), Ending.TAKEN_OVER, "opened by another")

    assert await read(engine, "SELECT attempt, ending FROM llm_calls ORDER BY 1") == [
        (1, "taken_over"),
        (2, "complete"),
    ]
    assert await read(engine, "SELECT ending, tokens_in, tokens_out, tokens_cached FROM slates") == [
        ("complete", 140, 14, 1)
    ]


async def test_a_complete_slate_comes_back_whole_and_is_not_opened(
    engine: AsyncEngine, database_url: str, run: Run, ledger: SlateLedger
) -> None:
    await place(database_url, run, "p1", "p2")
    await ledger.close(await ledger.open(CUSTOMER, some_candidates(2), 2), SlateState.COMPLETE, None)
    before = await read(engine, "SELECT * FROM slates")

    slate = await ledger.open(CUSTOMER, some_candidates(20), 10)

    assert (slate.state, slate.missing, slate.lease, [*slate.placed]) == (SlateState.COMPLETE, 0, 0, ["p1", "p2"])
    assert await read(engine, "SELECT * FROM slates") == before
    with pytest.raises(SlateTakenOverError):
        await ledger.close(slate, SlateState.FAILED, "nobody may say so")


async def test_a_slate_that_is_given_back_waits_for_the_next(engine: AsyncEngine, ledger: SlateLedger) -> None:
    slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.begin_attempt(slate, "hash")
    await ledger.abandon_attempt(slate, AnswerRecord())
    await ledger.give_back(slate, "not served: its run ended before")

    assert await read(engine, "SELECT ending FROM llm_calls") == [("abandoned",)]
    assert await read(engine, "SELECT state, reason FROM slates") == [("pending", "not served: its run ended before")]
    assert (await ledger.open(CUSTOMER, some_candidates(3), 3)).attempt == 1


async def test_a_slate_that_is_lost_is_not_given_back_by_its_loser(engine: AsyncEngine, ledger: SlateLedger) -> None:
    lost = await ledger.open(CUSTOMER, some_candidates(3), 3)
    await ledger.open(CUSTOMER, some_candidates(3), 3)

    await ledger.give_back(lost, "not served: its run ended before")

    assert await read(engine, "SELECT state FROM slates") == [("streaming",)]
