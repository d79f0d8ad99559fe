"""Where a shop's history may be cut in two, and which cuts would leak what is to be foretold."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from pipeline.candidates.builds import Build, BuildState
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.domain import RunId, RunKind, RunState
from pipeline.errors import InputError
from pipeline.evaluating.splits import (
    Span,
    Split,
    begins_after,
    require_known,
    require_unknowing,
    split_after,
    split_of,
)
from pipeline.runs import Run

LONDON = ZoneInfo("Europe/London")
SPAN = Span(datetime(2010, 12, 1, 8, tzinfo=UTC), datetime(2011, 11, 9, 17, 47, tzinfo=UTC), future=0)
OCTOBER = datetime(2011, 10, 11, tzinfo=LONDON)
SPLIT = Split(OCTOBER, OCTOBER + timedelta(days=30))
RUN = Run(
    run_id=RunId(UUID(int=1)),
    day=date(2011, 10, 10),
    kind=RunKind.NIGHTLY,
    state=RunState.FINISHED,
    slate_size=10,
    as_of=OCTOBER - timedelta(seconds=1),
    model="m",
    provenance="language_model",
    temperature=0.1,
    prompt_version="p",
    code_version="c",
)
BUILD = Build(
    build_id=3,
    state=BuildState.READY,
    trial=True,
    method="sql",
    as_of=SPLIT.as_of,
    recipe=CandidateRecipe(),
    customers=1,
    products=1,
    purchases=1,
    pairs=1,
    started_at=OCTOBER,
)


def test_the_last_split_has_whole_days_in_the_shops_own_zone() -> None:
    assert split_of(SPAN, begins=None, days=30, zone=LONDON) == SPLIT


def test_days_are_counted_over_a_change_of_the_clock() -> None:
    # The clocks went back on 30 October: 30 days from the 11th end at midnight, not at 23:00.
    assert (SPLIT.until.astimezone(LONDON).hour, SPLIT.until.day) == (0, 10)


def test_the_day_of_the_last_purchase_counts_as_a_whole_one_and_no_later_day_does() -> None:
    assert split_of(SPAN, begins=OCTOBER, days=30, zone=LONDON).begins == OCTOBER
    with pytest.raises(InputError, match=r"30 days from 2011-10-11 00:01 BST end after .* take --as-of 2011-10-11"):
        split_of(SPAN, begins=OCTOBER + timedelta(minutes=1), days=30, zone=LONDON)


def test_a_split_needs_something_before_it() -> None:
    with pytest.raises(InputError, match="nothing was purchased before 2010-12-01"):
        split_of(SPAN, begins=datetime(2010, 12, 1, tzinfo=UTC), days=30, zone=LONDON)
    with pytest.raises(InputError, match="fewer --days"):
        split_of(SPAN, begins=None, days=366, zone=LONDON)


def test_purchases_in_the_future_are_refused() -> None:
    with pytest.raises(InputError, match="2 purchases lie in the future"):
        split_of(replace(SPAN, future=2), begins=OCTOBER, days=30, zone=LONDON)


def test_what_may_be_known_ends_just_before_the_targets_begin() -> None:
    assert SPLIT.as_of == OCTOBER - timedelta(microseconds=1)
    require_known(SPLIT, BUILD)
    require_unknowing(SPLIT, RUN)


def test_a_build_that_has_seen_a_target_is_refused() -> None:
    with pytest.raises(InputError, match="build 3 has seen purchases up to 2011-10-11 00:00"):
        require_known(SPLIT, replace(BUILD, as_of=OCTOBER))


def test_a_run_that_has_seen_a_target_is_refused() -> None:
    with pytest.raises(InputError, match="it knew a part of them"):
        require_unknowing(SPLIT, replace(RUN, as_of=OCTOBER))


def test_targets_of_two_runs_begin_when_the_later_one_had_looked() -> None:
    later = replace(RUN, as_of=OCTOBER)
    begins = begins_after(later, RUN)
    require_unknowing(Split(begins, begins + timedelta(days=1)), later)
    assert begins == OCTOBER + timedelta(microseconds=1)


def test_targets_of_a_run_begin_when_it_had_looked_or_when_it_is_said() -> None:
    looked = split_after(SPAN, [RUN], begins=None, days=30, zone=LONDON)
    said = split_after(SPAN, [RUN], begins=OCTOBER, days=30, zone=LONDON)
    assert (looked.begins, said.begins) == (begins_after(RUN), OCTOBER)
    with pytest.raises(InputError, match="leave out --as-of, or take a later one"):
        split_after(SPAN, [RUN], begins=OCTOBER - timedelta(days=9), days=30, zone=LONDON)


@pytest.mark.parametrize("begins", [None, OCTOBER, SPAN.last + timedelta(hours=1)], ids=["none", "before", "after"])
@pytest.mark.parametrize(
    ("looked", "advice"),
    [
        (SPAN.last, "wait 30 days, or after one day take --days 1"),
        (SPAN.last - timedelta(days=3), "wait 27 days, or take --days 3"),
    ],
)
def test_of_a_run_that_is_too_young_it_is_said_how_long_to_wait(
    looked: datetime, advice: str, begins: datetime | None
) -> None:
    with pytest.raises(InputError, match="too little has been purchased since the run looked at the shop") as refused:
        split_after(SPAN, [replace(RUN, as_of=looked), RUN], begins=begins, days=30, zone=LONDON)
    assert str(refused.value).endswith(advice)
