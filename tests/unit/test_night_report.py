"""The page on a night, by its text."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from flows.night_report import code, next_steps, night_report, plain
from pipeline.domain import CustomerId, RunId, RunKind, RunState, ShardState, SlateState
from pipeline.run_details import Left, RunDetails, SlowSlate
from pipeline.runs import RunSummary
from pipeline.shard_ledger import Shard

RUN_ID = RunId(UUID("0c0159c3-d96e-435b-acf6-d63649d8a9b8"))
NIGHT = datetime(2026, 11, 23, 3, tzinfo=UTC)
DAY = date(2026, 11, 23)
WHOLE = RunSummary(
    run_id=RUN_ID, kind=RunKind.NIGHTLY, state=RunState.FINISHED, reason=None, model="a-model", endpoint="e",
    provenance="language_model", slate_size=10, prompt_version="p", created_at=NIGHT, started_at=NIGHT, ended_at=NIGHT,
    duration_s=3_600.0, customers=3_000, complete=2_990, short=0, failed=0, unfinished=0, unchanged=10, filled_up=0,
    tokens_in=6_000_000, tokens_out=90_000, tokens_cached=4_000_000, cost=Decimal("12.3456"), currency="EUR",
    first_row_p50_s=0.31, first_row_p95_s=1.25, rows=29_900, rows_of_others=0, refused_objects=7, died=0,
    published=2_990, published_at=NIGHT, withdrawn_at=None, pruned_at=None,
)  # fmt: skip
LEFT = replace(WHOLE, state=RunState.FAILED, complete=2_900, failed=80, unfinished=10, published_at=None, published=0)
NOTHING = RunDetails({}, [], [], {})
SHARD = Shard(
    run_id=RUN_ID, shard=1, customers=1_000, customers_before=2_000, tokens=None, attempt=2, state=ShardState.SERVED,
    machine="worker-2", offered_s=1, taken_s=61.5, reason=None, error=None, alive=False,
)  # fmt: skip


def test_a_whole_night_leaves_nothing_to_do_and_tells_its_figures() -> None:
    page = night_report(WHOLE, NOTHING, [], DAY)
    assert page.startswith(
        "# nightly 2026-11-23: finished, 2,990 of 3,000 customers\n\n## What to do next\n\n- Nothing"
    )
    for line in (
        "| Run | `0c0159c3-d96e-435b-acf6-d63649d8a9b8` |",
        "| Customers | 3,000 (2,990 complete, 10 unchanged) |",
        "| Rows | 29,900 |",
        "| Refused objects | 7 |",
        "| Tokens | 6,000,000 in (4,000,000 cached), 90,000 out |",
        "| Cost | 12.35 EUR |",
        "| First row | p50 0.31 s, p95 1.25 s |",
        "| Duration | 60.0 min |",
        "| Readers see | 2,990 slates since 2026-11-23 03:00 UTC |",
    ):
        assert f"\n{line}\n" in page
    assert "## Shards" not in page
    assert "## Slowest" not in page


def test_each_kind_of_detail_is_a_table() -> None:
    details = RunDetails(
        {"unknown_product": 5, "repeated": 2},
        [Left(SlateState.FAILED, "HTTP 500", 80), Left(SlateState.PENDING, None, 10)],
        [SlowSlate(CustomerId("c-1"), 130.0, None, 3)],
        {1: 990},
    )
    page = night_report(LEFT, details, [SHARD], DAY)
    for line in (
        "| unknown\\_product | 5 |",
        "| failed | HTTP 500 | 80 |",
        "| pending | not come to | 10 |",
        "| `c-1` | 2.2 min | \N{EN DASH} | 3 |",
        "| 2 of 1 | 2,001-3,000 | 990 | served | 2 | worker\\-2 | 61.50 s |  |",
    ):
        assert f"\n{line}\n" in page


def test_what_to_do_next_names_the_commands_with_the_run() -> None:
    steps = next_steps(LEFT, NOTHING)
    assert steps[0] == f"90 customers are without a complete slate: `recstream resume {RUN_ID}` serves them."
    assert f"`recstream publish {RUN_ID} --force`" in steps[1]


def test_a_budget_that_is_spent_is_to_be_raised_first() -> None:
    spent = RunDetails({}, [Left(SlateState.PENDING, "not attempted: budget", 90)], [], {})
    assert "raise `budget_per_run`" in next_steps(LEFT, spent)[0]


def test_a_night_without_one_slate_is_not_offered_to_be_published() -> None:
    assert "--force" not in " ".join(next_steps(replace(LEFT, complete=0), NOTHING))


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("![x](http://evil/y.png)", "\\!\\[x\\]\\(http\\://evil/y.png\\)"),
        ("see https://evil.example or WWW.evil.example", "see https\\://evil.example or WWW\\.evil.example"),
        ("a@evil.example", "a\\@evil.example"),
        ("\x1b[31mred \u202egnp.exe", "\ufffd\\[31mred \ufffdgnp.exe"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert\\(1\\)&lt;/script&gt;"),
        ("a | b\n\n# c", "a \\| b \\# c"),
        ("`code` *bold* _it_", "\\`code\\` \\*bold\\* \\_it\\_"),
    ],
)
def test_the_words_of_others_are_text_and_no_markup(written: str, shown: str) -> None:
    assert plain(written) == shown
    page = night_report(replace(LEFT, reason=written), NOTHING, [], DAY)
    assert f"\n{shown}\n" in page


@pytest.mark.parametrize("customer_id", ["a`b", "a|b", "a\nb", " a", "a\\b"])
def test_an_id_that_code_cannot_hold_is_plain_text(customer_id: str) -> None:
    assert "`" not in code(customer_id).replace("\\`", "")
    assert "\n" not in code(customer_id)
