"""The table of failures: that it is whole, that its rows are found, and that the page about it says what it says."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from pipeline import errors
from pipeline.errors import (
    AnswerCutError,
    AnswerEmptyError,
    AnswerError,
    AnswerFilteredError,
    AnswerLimitError,
    AnswerOverdueError,
    AnswerRefusedError,
    AnswerStalledError,
    EndpointClosedError,
    EndpointFatalError,
    EndpointRefusedError,
    EndpointUnreachableError,
    PromptRefusedError,
    RateLimitedError,
)
from pipeline.retrying.failures import FAILURES, Action, Case, Failure, When, failure_of

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"
PLACED, SPOKE, DOWN = Case(placed=True, spoke=True), Case(spoke=True), Case(down=True)
BROKEN_OFF = (AnswerCutError, AnswerStalledError, AnswerOverdueError)


def kinds_of_answer_errors(kind: type[AnswerError] = AnswerError) -> Iterator[type[AnswerError]]:
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
        yield from kinds_of_answer_errors(below)


def rows_of(kind: type[AnswerError] | None) -> list[Failure]:
    return [row for row in FAILURES if row.kind is kind]


@pytest.mark.parametrize("kind", [*kinds_of_answer_errors(), None])
def test_every_failure_has_rows_of_its_own_and_the_last_of_them_always_holds(kind: type[AnswerError] | None) -> None:
    conditions = [row.when for row in rows_of(kind)]
    assert conditions[-1:] == [When.ALWAYS]
    assert len(set(conditions)) == len(conditions)


def test_the_rows_of_one_failure_stand_together() -> None:
    kinds = [kind for kind, _ in groupby(row.kind for row in FAILURES)]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("row", [row for row in FAILURES if row.when is not When.NOT_TAKEN])
def test_every_row_ends_with_what_is_always_possible(row: Failure) -> None:
    assert row.actions[-1] in {Action.GIVE_UP, Action.STOP}
    assert not {Action.GIVE_UP, Action.STOP} & set(row.actions[:-1])


@pytest.mark.parametrize(
    ("problem", "case", "when", "action"),
    [
        (EndpointUnreachableError("x"), Case(), When.NOT_SENT, Action.WAIT),
        (EndpointUnreachableError("x", sent=True), Case(), When.ALWAYS, Action.RETRY),
        (EndpointUnreachableError("x", sent=True), DOWN, When.DOWN, Action.WAIT),
        (EndpointClosedError("x"), Case(), When.ALWAYS, Action.STOP),
        (EndpointRefusedError("x", status=500), Case(), When.ALWAYS, Action.RETRY),
        (EndpointRefusedError("x", status=500), DOWN, When.DOWN, Action.WAIT),
        (EndpointRefusedError("x", status=503, retry_after=900), Case(), When.ALWAYS, Action.RETRY),
        (EndpointRefusedError("x", status=503, retry_after=901), Case(), When.AWAY, Action.NEXT_ENDPOINT),
        (EndpointRefusedError("x", in_band=True), PLACED, When.PLACED_IN_BAND, Action.CONTINUE),
        (EndpointRefusedError("x", in_band=True), SPOKE, When.ALWAYS, Action.RETRY),
        (RateLimitedError("x", status=429, retry_after=900), Case(), When.ALWAYS, Action.WAIT),
        (RateLimitedError("x", status=429, retry_after=86_400), Case(), When.AWAY, Action.NEXT_ENDPOINT),
        (RateLimitedError("x", status=429, retry_after=2), Case(patience_s=1), When.AWAY, Action.NEXT_ENDPOINT),
        (PromptRefusedError("x", status=400), Case(), When.ALWAYS, Action.NEXT_ENDPOINT),
        (EndpointFatalError("x", status=401), Case(), When.ALWAYS, Action.NEXT_ENDPOINT),
        *((kind("x"), PLACED, When.PLACED, Action.CONTINUE) for kind in BROKEN_OFF),
        *((kind("x"), SPOKE, When.SPOKE, Action.RETRY) for kind in BROKEN_OFF),
        *((kind("x"), Case(), When.ALWAYS, Action.RETRY) for kind in BROKEN_OFF),
        *((kind("x"), DOWN, When.DOWN, Action.WAIT) for kind in BROKEN_OFF),
        *((kind("x"), Case(spoke=True, down=True), When.SPOKE, Action.RETRY) for kind in BROKEN_OFF),
        (AnswerLimitError("x"), PLACED, When.ALWAYS, Action.LONGER),
        (AnswerRefusedError("x"), SPOKE, When.ALWAYS, Action.RETRY),
        (AnswerFilteredError("x"), PLACED, When.PLACED, Action.CONTINUE),
        (AnswerFilteredError("x"), SPOKE, When.ALWAYS, Action.RETRY),
        (AnswerEmptyError("x"), SPOKE, When.ALWAYS, Action.RETRY),
        (None, PLACED, When.ALWAYS, Action.CONTINUE),
    ],
)
def test_a_failure_finds_its_row(problem: AnswerError | None, case: Case, when: When, action: Action) -> None:
    row = failure_of(problem, case)
    assert row.kind is (None if problem is None else type(problem))
    assert (row.when, row.actions[0]) == (when, action)


def test_a_kind_without_rows_has_those_of_the_one_above_it() -> None:
    class AnswerLostError(AnswerEmptyError):
        pass

    assert failure_of(AnswerLostError("x"), Case()).kind is AnswerEmptyError


@pytest.mark.parametrize("row", FAILURES)
def test_the_breaker_counts_only_what_brought_no_row(row: Failure) -> None:
    if row.when in {When.PLACED, When.PLACED_IN_BAND, When.SPOKE}:
        assert not row.of_endpoint


@pytest.mark.parametrize("kind", [PromptRefusedError, AnswerRefusedError, AnswerFilteredError, AnswerEmptyError])
def test_the_breaker_never_counts_what_is_about_one_prompt(kind: type[AnswerError]) -> None:
    assert not any(row.of_endpoint for row in rows_of(kind))


def as_markdown() -> str:
    lines = ["| Failure | When | What is done, the first that is possible | Why |", "|---|---|---|---|"]
    for row in FAILURES:
        kind = f"`{row.kind.__name__}`" if row.kind else "ended well, but short"
        when = "" if row.when is When.ALWAYS else row.when
        lines.append(f"| {kind} | {when} | {', '.join(row.actions)} | {row.why} |")
    return "\n".join(lines)


def test_the_page_about_failures_has_the_table_as_it_is() -> None:
    assert as_markdown() in PAGE.read_text("utf-8"), f"put this into {PAGE.name}:\n{as_markdown()}"
