"""Two runs held against each other on a real database: whose slates count, what they cost, what was bought of them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.comparing import Comparison, SideName, compare_sides, find_sides, read_name
from pipeline.comparing.intervals import independent_difference, paired_difference, wilson
from pipeline.comparing.likeness import rank_biased_overlap
from pipeline.domain import CustomerId, RunId, RunKind, RunState
from pipeline.errors import InputError, RunConflictError
from pipeline.group_commit import open_group_commit
from pipeline.run_states import begin_run, end_run
from pipeline.runs import Run, plan_run
from pipeline.variant_entries import VariantEntry
from pipeline.variants import definitions, load_variants
from tests.fixtures.shop import NOW, RANKER, add_event, add_run, change, end_slates, row_of

DAY = timedelta(days=1)
IDS = "abcdefghijklmnop"


async def add_ranked(
    engine: AsyncEngine,
    url: str,
    slates: Mapping[str, str],
    *,
    states: Mapping[str, str] | None = None,
    variants: Mapping[str, str] | None = None,
    slate_size: int = 10,
    ended: bool = True,
    kind: RunKind = RunKind.NIGHTLY,
) -> Run:
    """A run whose slates have these products in order, a letter each; complete unless told, in these variants."""
    run = await add_run(engine, *slates, slate_size=slate_size, kind=kind)
    if variants is not None:
        tried = load_variants(None, [VariantEntry(name="brief", share=0.5, model="small", temperature=0.7)])
        ranker = replace(RANKER, variants=definitions(tried))
        run = await plan_run(
            engine, kind, ranker, slate_size=slate_size, shard_size=10, only=[*map(CustomerId, slates)]
        )
    await begin_run(engine, run.run_id)
    async with open_group_commit(url, run.run_id, run.day, RANKER.provenance) as writer:
        for customer_id, products in slates.items():
            for rank, product_id in enumerate(products, start=1):
                await writer.commit(row_of(customer_id, rank, product_id=product_id))
    await end_slates(engine, run, {**dict.fromkeys(slates, "complete"), **(states or {})})
    for customer_id, variant in (variants or {}).items():
        await set_slate(engine, run, customer_id, "variant = :value", value=variant)
    if ended:
        await end_run(engine, run.run_id, RunState.FINISHED)
    return run


async def set_slate(engine: AsyncEngine, run: Run, customer_id: str, assignments: str, **values: object) -> None:
    await change(
        engine,
        f"UPDATE slates SET {assignments} WHERE run_id = :run_id AND day = :day AND customer_id = :customer_id",
        run_id=run.run_id,
        day=run.day,
        customer_id=customer_id,
        **values,
    )


async def add_kept(engine: AsyncEngine, kept: Run, *customer_ids: str) -> Run:
    """A run in which nothing had changed for these customers."""
    run = await add_run(engine, *customer_ids)
    for customer_id in customer_ids:
        await set_slate(engine, run, customer_id, "state = 'unchanged', kept_run_id = :kept", kept=kept.run_id)
    return run


async def compared(engine: AsyncEngine, first: str, second: str, *, days: int = 30) -> Comparison:
    sides = await find_sides(engine, read_name(first), read_name(second))
    return await compare_sides(engine, *sides, days=days)


async def looked_at(engine: AsyncEngine, admin: AsyncEngine, run: Run, days_ago: int) -> None:
    """Have a run look at the shop as it was so many days before now."""
    await change(
        admin, "UPDATE runs SET as_of = :as_of WHERE run_id = :run_id", as_of=NOW - days_ago * DAY, run_id=run.run_id
    )


async def test_likeness_is_over_the_customers_with_a_complete_slate_on_both_sides(
    engine: AsyncEngine, database_url: str
) -> None:
    first = await add_ranked(engine, database_url, {"1": "abcd", "2": "abcd", "3": "abcd", "4": "abcd"})
    second = await add_ranked(
        engine, database_url, {"1": "abcd", "2": "badx", "3": "wxyz", "9": "abcd"}, states={"3": "short"}
    )

    likeness = (await compared(engine, str(first.run_id), str(second.run_id))).likeness

    assert (likeness.customers, likeness.identical, likeness.same_slate, likeness.depth) == (2, 1, 0, 10)
    assert likeness.overlap == pytest.approx((1 + 3 / 4) / 2)
    assert likeness.jaccard == pytest.approx((1 + 3 / 5) / 2)
    assert likeness.kendall_tau == pytest.approx((1 + 1 / 3) / 2)
    assert likeness.rank_biased_overlap == pytest.approx((1 + rank_biased_overlap("abcd", "badx")) / 2)


async def test_only_as_many_places_are_compared_as_both_runs_asked_for(engine: AsyncEngine, database_url: str) -> None:
    first = await add_ranked(engine, database_url, {"1": "abcd"}, slate_size=4)
    second = await add_ranked(engine, database_url, {"1": "dc"}, slate_size=2)

    comparison = await compared(engine, str(first.run_id), str(second.run_id))

    assert (comparison.likeness.depth, comparison.likeness.overlap) == (2, 0)
    assert "the runs asked for 4 and 2 rows: the first 2 of each slate are compared" in comparison.notes


async def test_a_customer_who_kept_his_slate_counts_with_the_rows_that_he_kept(
    engine: AsyncEngine, database_url: str
) -> None:
    first = await add_ranked(engine, database_url, {"1": "abcd", "2": "abcd"})
    other = await add_ranked(engine, database_url, {"1": "abxy", "2": "wxyz"})
    kept = await add_kept(engine, first, "1", "2")

    against_its_source = await compared(engine, str(first.run_id), str(kept.run_id))
    against_another = await compared(engine, str(kept.run_id), str(other.run_id))

    assert (against_its_source.likeness.same_slate, against_its_source.likeness.overlap) == (2, 1)
    assert any(
        "2 of 2 customers have one and the same slate on both sides" in note for note in against_its_source.notes
    )
    assert (against_another.likeness.same_slate, against_another.likeness.overlap) == (0, 0.25)
    assert (against_another.first.unchanged, against_another.first.complete, against_another.first.rows) == (2, 0, 0)


async def test_what_was_kept_of_a_run_that_was_pruned_since_is_read_where_it_lies(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    pruned = await add_ranked(engine, database_url, {"1": "abcd"})
    kept = await add_kept(engine, pruned, "1")
    other = await add_ranked(engine, database_url, {"1": "abxy"})
    await change(
        admin,
        "WITH gone AS (DELETE FROM recommendations WHERE run_id = :run_id RETURNING *)"
        " INSERT INTO recommendations (run_id, customer_id, rank, day, product_id, product_name, relevance_score,"
        " provenance, attempt, committed_at) SELECT run_id, customer_id, rank, '0001-01-01', product_id, product_name,"
        " relevance_score, provenance, attempt, committed_at FROM gone",
        run_id=pruned.run_id,
    )
    await change(admin, "UPDATE runs SET pruned_at = now() WHERE run_id = :run_id", run_id=pruned.run_id)

    assert (await compared(engine, str(kept.run_id), str(other.run_id))).likeness.overlap == 0.5
    with pytest.raises(RunConflictError, match=f"the rows of run {pruned.run_id} were pruned on") as refused:
        await compared(engine, str(pruned.run_id), str(other.run_id))
    assert "\n" not in str(refused.value)


async def test_the_figures_of_a_side_are_of_its_own_slates(engine: AsyncEngine, database_url: str) -> None:
    first = await add_ranked(
        engine, database_url, {"1": "ab", "2": "a", "3": "", "4": "ab"}, states={"2": "short", "3": "failed"}
    )
    second = await add_ranked(engine, database_url, {"1": "ab"}, ended=False)
    for customer_id, cost, tokens in (("1", 0.5, 1000), ("2", 0.25, 2000), ("3", None, 0)):
        await set_slate(
            engine,
            first,
            customer_id,
            "attempts = 2, cost = CAST(:cost AS numeric), tokens_in = :tokens, tokens_out = 100, tokens_cached = 10,"
            " first_row_s = :tokens / 1000.0, whole_s = :tokens / 500.0",
            cost=cost,
            tokens=tokens,
        )
    await change(
        engine,
        "INSERT INTO llm_calls (run_id, customer_id, day, attempt, lease, ending) SELECT :run_id, '1', :day, number, 1,"
        " CASE WHEN number = 1 THEN 'cut' ELSE 'enough' END FROM generate_series(1, 3) AS number",
        run_id=first.run_id,
        day=first.day,
    )
    await change(
        engine,
        "INSERT INTO rejections (run_id, customer_id, day, attempt, number, reason, detail, raw)"
        " SELECT :run_id, '1', :day, 1, number, 'not_json', '', '' FROM generate_series(1, 4) AS number",
        run_id=first.run_id,
        day=first.day,
    )

    comparison = await compared(engine, str(first.run_id), str(second.run_id))
    figures = comparison.first

    assert (figures.customers, figures.complete, figures.short, figures.failed) == (4, 2, 1, 1)
    assert (figures.asked, figures.priced) == (3, 2)
    assert (figures.cost, figures.cost_per_slate) == (Decimal("0.75"), Decimal("0.375"))
    assert (figures.tokens_in_per_slate, figures.tokens_out_per_slate, figures.tokens_cached_per_slate) == (
        1000,
        100,
        10,
    )
    assert (figures.attempts, figures.endings) == (3, {"enough": 2, "cut": 1})
    assert (figures.rows, figures.ranked_by, figures.refused_objects) == (5, {RANKER.model: 5}, 4)
    assert (figures.first_row_p50_s, figures.whole_p50_s) == (1, 2)
    assert (comparison.second.attempts, comparison.second.refused_objects, comparison.second.cost) == (0, 0, None)
    assert any(f"run {second.run_id} is still going on" in note for note in comparison.notes)


async def test_rows_are_counted_by_who_ranked_them(engine: AsyncEngine, admin: AsyncEngine, database_url: str) -> None:
    first = await add_ranked(engine, database_url, {"1": "abcdef"})
    second = await add_ranked(engine, database_url, {"1": "a"})
    for rank, column in ((1, "model = 'other'"), (2, "model = 'other'"), (3, "provenance = 'retrieval_order'")):
        async with admin.begin() as connection:
            await connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # rows may not be changed
            await connection.exec_driver_sql(
                f"UPDATE recommendations SET {column} WHERE run_id = '{first.run_id}' AND rank = {rank}"
            )

    figures = (await compared(engine, str(first.run_id), str(second.run_id))).first

    assert figures.ranked_by == {RANKER.model: 3, "other": 2, "retrieval_order": 1}


async def test_hits_are_purchases_of_what_was_recommended_after_both_runs_and_within_the_days(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    everybody = [str(number) for number in range(1, 7)]
    first = await add_ranked(engine, database_url, dict.fromkeys(everybody, "abcd"))
    second = await add_ranked(engine, database_url, dict.fromkeys(everybody, "cdef"))
    await looked_at(engine, admin, first, days_ago=20)
    await looked_at(engine, admin, second, days_ago=10)
    for customer_id, product_id, days_ago, kind in (
        ("1", "a", 5, "purchase"),  # the first alone
        ("2", "c", 5, "purchase"),  # both
        ("3", "e", 5, "purchase"),  # the second alone
        ("4", "f", 5, "purchase"),
        ("4", "f", 4, "purchase"),
        ("5", "z", 5, "purchase"),  # bought, but nothing that was recommended
        ("6", "a", 15, "purchase"),  # before the later run looked
        ("6", "a", 10, "purchase"),  # at the very moment
        ("6", "a", 1, "purchase"),  # after the window
        ("6", "a", 5, "view"),
    ):
        await add_event(engine, customer_id, kind, product_id=product_id, at=NOW - days_ago * DAY)

    comparison = await compared(engine, str(first.run_id), str(second.run_id), days=8)
    hits = comparison.hits

    assert hits is not None
    assert (hits.since, hits.until) == (NOW - 10 * DAY, NOW - 2 * DAY)
    assert (hits.paired, hits.buyers, hits.first_only, hits.second_only) == (True, 5, 1, 2)
    assert (hits.first.hits, hits.first.customers, hits.second.hits, hits.second.customers) == (2, 6, 3, 6)
    assert (hits.first.interval, hits.interval) == (wilson(2, 6), paired_difference(1, 1, 2, 2))
    assert "the runs looked at the shop at different times: hits count from the later one on" in comparison.notes


async def test_the_window_ends_now_at_the_latest(engine: AsyncEngine, database_url: str) -> None:
    first, second = [await add_ranked(engine, database_url, {"1": "a"}) for _ in range(2)]
    await change(
        engine,
        "INSERT INTO events (event_key, customer_id, product_id, kind, occurred_at)"
        " VALUES (gen_random_uuid(), '1', 'a', 'purchase', now() + interval '1 hour')",
    )
    comparison = await compared(engine, str(first.run_id), str(second.run_id))
    assert comparison.hits is None
    assert any(note.startswith("nobody has bought anything since") for note in comparison.notes)


async def test_variants_of_one_run_are_compared_by_what_each_has_made(engine: AsyncEngine, database_url: str) -> None:
    await add_event(engine, "0", "view", product_id="a", at=NOW)
    of = {"1": "brief", "2": "brief", "3": "control", "4": "control", "5": "control"}
    run = await add_ranked(engine, database_url, dict.fromkeys(of, "abcd"), variants=of)
    await change(
        engine,
        "INSERT INTO rejections (run_id, customer_id, day, attempt, number, reason, detail, raw)"
        " VALUES (:run_id, '1', :day, 1, 1, 'not_json', '', '')",
        run_id=run.run_id,
        day=run.day,
    )
    await change(
        engine,
        "INSERT INTO llm_calls (run_id, customer_id, day, attempt, lease, ending)"
        " VALUES (:run_id, '3', :day, 1, 1, 'cut')",
        run_id=run.run_id,
        day=run.day,
    )
    for customer_id in ("1", "2", "3"):
        await add_event(engine, customer_id, "purchase", product_id="a", at=NOW + DAY)

    comparison = await compared(engine, f"{run.run_id}:control", f"{run.run_id}:brief")
    control, brief, hits = comparison.first, comparison.second, comparison.hits

    assert (control.customers, control.rows, control.refused_objects, control.endings) == (3, 12, 0, {"cut": 1})
    assert (brief.customers, brief.rows, brief.refused_objects, brief.endings) == (2, 8, 1, {})
    assert (control.model, control.temperature) == (RANKER.model, RANKER.temperature)
    assert (brief.model, brief.temperature, brief.prompt_version) == ("small", 0.7, RANKER.prompt_version)
    assert comparison.likeness.customers == 0
    assert "no customer has a complete slate on both sides: how alike they rank cannot be told" in comparison.notes
    assert hits is not None
    assert (hits.paired, hits.buyers, hits.first.hits, hits.second.hits) == (False, 3, 1, 2)
    assert hits.interval == independent_difference((1, 3), (2, 2))


async def test_a_variant_is_compared_with_another_run_of_the_same_customers(
    engine: AsyncEngine, database_url: str
) -> None:
    of = {"1": "brief", "2": "control"}
    run = await add_ranked(engine, database_url, {"1": "abcd", "2": "wxyz"}, variants=of)
    other = await add_ranked(engine, database_url, {"1": "abcd", "2": "abcd"})
    likeness = (await compared(engine, f"{run.run_id}:brief", str(other.run_id))).likeness
    assert (likeness.customers, likeness.overlap) == (1, 1)


async def test_a_run_for_one_customer_is_compared_as_a_night_is(engine: AsyncEngine, database_url: str) -> None:
    night = await add_ranked(engine, database_url, {"1": "abcd", "2": "abcd"})
    for_one = await add_ranked(engine, database_url, {"1": "dcba"}, kind=RunKind.ON_DEMAND)
    comparison = await compared(engine, str(night.run_id), str(for_one.run_id))
    assert (comparison.likeness.customers, comparison.likeness.kendall_tau) == (1, -1)
    assert comparison.second.kind is RunKind.ON_DEMAND


async def test_the_slates_of_many_pages_are_all_compared(engine: AsyncEngine, database_url: str) -> None:
    runs = []
    for first, second in (("a", "b"), ("b", "a")):
        run = await plan_many(engine, 5_000)
        await change(
            engine,
            "INSERT INTO recommendations (run_id, customer_id, rank, day, product_id, product_name, relevance_score,"
            " provenance, attempt) SELECT run_id, customer_id, place, day, CASE place WHEN 1 THEN CAST(:first AS text)"
            " ELSE CAST(:second AS text) END, '', 0.5, 'language_model', 1 FROM slates, generate_series(1, 2) AS place"
            " WHERE run_id = :run_id",
            run_id=run.run_id,
            first=first,
            second=second,
        )
        for state in ("streaming", "complete"):
            await change(engine, "UPDATE slates SET state = :state WHERE run_id = :id", state=state, id=run.run_id)
        runs.append(run)
    likeness = (await compared(engine, *(str(run.run_id) for run in runs))).likeness
    assert (likeness.customers, likeness.overlap, likeness.kendall_tau) == (5_000, 1, -1)


async def plan_many(engine: AsyncEngine, customers: int) -> Run:
    await change(
        engine,
        "INSERT INTO customers (customer_id) SELECT 'c' || number FROM generate_series(1, :customers) AS number"
        " ON CONFLICT DO NOTHING",
        customers=customers,
    )
    return await add_run(engine)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no id of a run"),
        ("last", "'last' is no id of a run"),
        (f"{UUID(int=1)}:", "names no variant after the colon"),
    ],
)
def test_what_names_no_run_is_said(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        read_name(text)
    assert "\n" not in str(refused.value)


async def refusal(engine: AsyncEngine, first: SideName, second: SideName) -> str:
    with pytest.raises(InputError) as refused:
        await find_sides(engine, first, second)
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def test_two_that_cannot_be_compared_are_said(engine: AsyncEngine, database_url: str) -> None:
    plain = (await add_ranked(engine, database_url, {"1": "a"})).run_id
    tried = (await add_ranked(engine, database_url, {"1": "a"}, variants={"1": "brief"})).run_id
    nobody = RunId(uuid4())
    for first, second, words in (
        (SideName(plain), SideName(nobody), f"there is no run {nobody}: `recstream runs` shows the last ones"),
        (SideName(plain), SideName(plain), f"both are the same run {plain}: name two runs"),
        (SideName(tried, "brief"), SideName(tried, "brief"), f"both are the same variant 'brief' of run {tried}"),
        (SideName(tried, "brief"), SideName(tried), "one is a part of the other"),
        (SideName(plain, "brief"), SideName(tried), f"run {plain} has no variant 'brief': it has none"),
        (SideName(plain), SideName(tried, "x"), f"run {tried} has no variant 'x': it has brief, control"),
    ):
        assert words in await refusal(engine, first, second)
