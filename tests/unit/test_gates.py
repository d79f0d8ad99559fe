"""The gates of a night: what keeps it from its readers, in words that say what to do about it."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain import RunId
from pipeline.gates import (
    Figures,
    Gates,
    LastFigures,
    advice,
    judge,
    rolled_back,
    with_refusal,
    without_refusal,
)

RUN = RunId(UUID(int=7))
GOOD = Figures(planned=10_000, complete=9_900, rows=99_000, committed=99_100, refused=40)
LIKE_GOOD = LastFigures(GOOD.served_share, GOOD.rows_per_slate)
OPEN = Gates(served_share=0, rows_per_slate=0, refused_share=1, worsening=1)
SHARES = st.floats(0, 1)


@st.composite
def figures(draw: st.DrawFn) -> Figures:
    planned = draw(st.integers(1, 1_000_000))
    complete = draw(st.integers(0, planned))
    rows = complete * draw(st.integers(1, 200))
    return Figures(planned, complete, rows, rows + draw(st.integers(0, 1000)), draw(st.integers(0, 1_000_000)))


def gates() -> st.SearchStrategy[Gates]:
    return st.builds(Gates, SHARES, st.floats(0, 200), SHARES, SHARES)


def last_nights() -> st.SearchStrategy[LastFigures | None]:
    return st.none() | st.builds(LastFigures, SHARES, st.floats(0, 200))


def test_a_good_night_passes_with_or_without_one_before_it() -> None:
    assert judge(GOOD, None, Gates()) == ()
    assert judge(GOOD, LIKE_GOOD, Gates()) == ()


@pytest.mark.parametrize(
    ("figures", "last", "told"),
    [
        (replace(GOOD, complete=8_310), None, "served 83.1% of 10,000 customers, the gate wants 90%"),
        (replace(GOOD, complete=8_999), None, "served 89.99% of 10,000 customers, the gate wants 90%"),
        (Figures(1, 0, 0, 3, 0), None, "none of 1 customer has a complete slate"),
        (replace(GOOD, rows=9_000), None, "0.9 rows per slate, the gate wants 1"),
        (replace(GOOD, refused=150_000), None, "60.2% of the objects in the answers were refused, the gate allows 50%"),
        (replace(GOOD, rows=49_500), LIKE_GOOD, "5 rows per slate, the last night had 10, the gate wants 9"),
    ],
)
def test_what_is_not_good_enough_is_told_with_its_limit(figures: Figures, last: LastFigures | None, told: str) -> None:
    assert judge(figures, last, Gates()) == (told,)


def test_a_night_may_serve_somewhat_fewer_than_the_last_one_but_not_many_fewer() -> None:
    lenient = Gates(served_share=0.5)

    assert judge(replace(GOOD, complete=9_000), LastFigures(1.0, 10.0), lenient) == ()
    assert judge(replace(GOOD, complete=8_000, rows=80_000), LastFigures(1.0, 10.0), lenient) == (
        "served 80% of 10,000 customers, the last night 100%, the gate wants 90%",
    )
    assert (
        judge(replace(GOOD, complete=8_000, rows=80_000), LastFigures(1.0, 10.0), replace(lenient, worsening=1)) == ()
    )


def test_all_that_is_wrong_is_told_at_once() -> None:
    poor = Figures(planned=100, complete=10, rows=5, committed=5, refused=95)

    assert judge(poor, LIKE_GOOD, Gates()) == (
        "served 10% of 100 customers, the gate wants 90%",
        "0.5 rows per slate, the gate wants 1",
        "95% of the objects in the answers were refused, the gate allows 50%",
    )


@given(figures=figures(), last=last_nights())
def test_open_gates_keep_back_nothing_but_a_night_without_a_slate(figures: Figures, last: LastFigures | None) -> None:
    assert bool(judge(figures, last, OPEN)) == (figures.complete == 0)


@given(figures=figures(), gates=gates())
def test_a_night_is_never_worse_than_itself(figures: Figures, gates: Gates) -> None:
    itself = LastFigures(figures.served_share, figures.rows_per_slate)
    assert judge(figures, itself, gates) == judge(figures, None, gates)


@given(figures=figures(), last=last_nights(), gates=gates(), more=st.integers(1, 1000))
def test_fewer_refused_objects_and_more_customers_never_close_a_gate(
    figures: Figures, last: LastFigures | None, gates: Gates, more: int
) -> None:
    if judge(figures, last, gates):
        return
    each = figures.rows // figures.complete
    served = min(more, figures.left)
    better = Figures(
        figures.planned,
        figures.complete + served,
        figures.rows + served * each,
        figures.committed + served * each,
        max(figures.refused - more, 0),
    )
    assert judge(better, last, gates) == ()


@given(figures=figures(), last=last_nights(), gates=gates())
def test_each_reason_is_one_line_whose_figures_differ(figures: Figures, last: LastFigures | None, gates: Gates) -> None:
    for reason in judge(figures, last, gates):
        assert "\n" not in reason
        if "the gate" in reason:
            found = reason.removeprefix("served ").split()[0]
            assert found != reason.split()[-1]


def test_the_advice_names_the_run_and_both_ways_on() -> None:
    poor = replace(GOOD, complete=8_310)
    told = advice(judge(poor, None, Gates()), poor, RUN)

    assert told == (
        "not published: served 83.1% of 10,000 customers, the gate wants 90%; readers keep what they had: "
        f"`recstream resume {RUN}` goes on with the customers that are left, "
        f"`recstream publish {RUN} --force` publishes it all the same"
    )


def test_nobody_is_told_to_resume_a_run_that_is_whole() -> None:
    whole = Figures(planned=10, complete=10, rows=10, committed=10, refused=90)

    assert "resume" not in advice(judge(whole, None, Gates()), whole, RUN)


def test_nobody_is_told_to_publish_a_run_without_a_slate() -> None:
    empty = Figures(planned=10, complete=0, rows=0, committed=3, refused=0)

    assert "--force" not in advice(judge(empty, None, Gates()), empty, RUN)


@given(
    reason=st.none() | st.text(min_size=1).filter(lambda text: "not published: " not in text and text.strip("; ")),
    refusal=st.sampled_from(
        [
            advice(("served 1% of 100 customers, the gate wants 90%",), GOOD, RUN),
            rolled_back(RUN, datetime(2026, 11, 23, 4, 5, tzinfo=UTC)),
        ]
    ),
)
def test_publishing_takes_back_what_the_ledger_says_of_not_publishing_and_nothing_else(
    reason: str | None, refusal: str
) -> None:
    assert without_refusal(with_refusal(reason, refusal)) == reason
    assert without_refusal(with_refusal(reason, None)) == reason


def test_shares_of_nothing_are_nothing() -> None:
    nothing = Figures(planned=0, complete=0, rows=0, committed=0, refused=0)
    assert (nothing.served_share, nothing.rows_per_slate, nothing.refused_share) == (0, 0, 0)


def test_a_slate_that_no_model_made_is_no_merit_of_the_night() -> None:
    figures = Figures(planned=10, complete=10, rows=100, committed=100, refused=0, filled_up=4)
    assert (figures.served_share, figures.left) == (0.6, 0)
