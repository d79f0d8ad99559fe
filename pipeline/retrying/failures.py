"""The one table of failures: what is done after each, in which order, and why. Nothing else decides about a retry."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

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


class Action(StrEnum):
    """What may be done after a failure."""

    RETRY = "retry"  # the same again, after a growing pause
    WAIT = "wait"  # the same again, once the limiter or the breaker lets it: no try is used up
    CONTINUE = "continue"  # at the next rank: what is placed stands
    LONGER = "longer"  # at once, with more room for the answer
    STEP_DOWN = "step down"  # without the part of the request that is not taken: streaming does it by itself
    NEXT_ENDPOINT = "next endpoint"  # this customer is not asked for here again
    GIVE_UP = "give up"  # this customer; the run goes on
    STOP = "stop"  # the run; it can be resumed


USES_A_TRY: Final = frozenset({Action.RETRY, Action.CONTINUE, Action.LONGER})


class When(StrEnum):
    """What must be so for a row of the table to hold, besides the failure's class."""

    ALWAYS = "always"
    NOT_SENT = "no connection came about"
    DOWN = "the endpoint answers nobody at the moment"
    AWAY = "it asks to be left alone for longer than `outage_patience_s`"
    NOT_TAKEN = "it names a part of the request that it does not take"
    SPOKE = "a part of the answer came"
    PLACED = "rows of this answer are committed"
    PLACED_IN_BAND = "it came inside the stream, and rows of this answer are committed"


@dataclass(frozen=True, slots=True)
class Case:
    """What is known beside the failure itself.

    `placed`: rows of this answer are committed. `spoke`: a part of it came. `down`: the endpoint answers nobody at the
    moment, says its breaker. `patience_s` is how long an endpoint may be away.
    """

    placed: bool = False
    spoke: bool = False
    down: bool = False
    patience_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of the table. The first of `actions` that is still open to the customer is what is done.

    `kind` is None for an answer that ended well with less than was asked for. `paid`: it may have been charged, so that
    beginning anew comes out of the run's retry budget. `of_endpoint`: the breaker counts it. `takes_out`: this
    endpoint is asked no more in this run, if there is another. `at_once`: a pause would change nothing.
    """

    kind: type[AnswerError] | None
    when: When
    actions: tuple[Action, ...]
    why: str
    paid: bool = False
    of_endpoint: bool = False
    takes_out: bool = False
    at_once: bool = False


_AGAIN: Final = (Action.RETRY, Action.NEXT_ENDPOINT, Action.GIVE_UP)
_WAITING: Final = (Action.WAIT, Action.NEXT_ENDPOINT, Action.GIVE_UP)
_ONWARD: Final = (Action.CONTINUE, Action.NEXT_ENDPOINT, Action.GIVE_UP)
_NOWHERE: Final = (Action.NEXT_ENDPOINT, Action.STOP)


def _broken_off(kind: type[AnswerCutError], *, placed: str, spoke: str, silent: str) -> Iterator[Failure]:
    """The rows of an answer that began and did not end. What says nothing at all is as good as unreachable."""
    yield Failure(kind, When.PLACED, _ONWARD, placed, paid=True)
    yield Failure(kind, When.SPOKE, _AGAIN, spoke, paid=True)
    down = "The endpoint takes requests and answers none; the breaker owns the wait."
    yield Failure(kind, When.DOWN, _WAITING, down, paid=True, of_endpoint=True)
    yield Failure(kind, When.ALWAYS, _AGAIN, silent, paid=True, of_endpoint=True)


FAILURES: Final = (
    Failure(
        EndpointUnreachableError,
        When.NOT_SENT,
        _WAITING,
        "The network or its names are gone for everybody; that costs nobody a try, and nothing.",
        of_endpoint=True,
    ),
    Failure(
        EndpointUnreachableError,
        When.DOWN,
        _WAITING,
        "The endpoint takes requests and answers none; the breaker owns the wait.",
        paid=True,
        of_endpoint=True,
    ),
    Failure(
        EndpointUnreachableError,
        When.ALWAYS,
        _AGAIN,
        "It answers others: the connection had bad luck, or this request is what ends it.",
        paid=True,
        of_endpoint=True,
    ),
    Failure(
        EndpointClosedError,
        When.ALWAYS,
        (Action.STOP,),
        "Nobody may ask for longer than we wait, at no endpoint: what is left is done by `resume`.",
    ),
    Failure(
        EndpointRefusedError,
        When.AWAY,
        _NOWHERE,
        "It has said itself that waiting is in vain.",
        takes_out=True,
    ),
    Failure(
        EndpointRefusedError,
        When.PLACED_IN_BAND,
        _ONWARD,
        "The rows before the error stand and are paid; the missing ranks are asked for.",
        paid=True,
    ),
    Failure(
        EndpointRefusedError,
        When.DOWN,
        _WAITING,
        "It fails for everybody; the breaker owns the wait.",
        of_endpoint=True,
    ),
    Failure(
        EndpointRefusedError,
        When.ALWAYS,
        _AGAIN,
        "An error of the endpoint's own (5xx, 408, 409, 425, or one without a status) mostly passes.",
        of_endpoint=True,
    ),
    Failure(
        RateLimitedError,
        When.AWAY,
        _NOWHERE,
        "It has said itself that waiting is in vain.",
        takes_out=True,
    ),
    Failure(
        RateLimitedError,
        When.ALWAYS,
        _WAITING,
        "A limit says nothing against the customer; the limiter owns the wait, and nothing was charged.",
    ),
    Failure(
        PromptRefusedError,
        When.NOT_TAKEN,
        (Action.STEP_DOWN,),
        "Structured output and parameters are learnt once for all: streaming has asked again already.",
    ),
    Failure(
        PromptRefusedError,
        When.ALWAYS,
        (Action.NEXT_ENDPOINT, Action.GIVE_UP),
        "The same prompt would be refused again; another model may take it.",
    ),
    Failure(
        EndpointFatalError,
        When.ALWAYS,
        _NOWHERE,
        "Wrong key, no quota, model gone: no customer can be served there.",
        takes_out=True,
    ),
    *_broken_off(
        AnswerStalledError,
        placed="The rows before the silence stand; the missing ranks are asked for.",
        spoke="It fell silent before the first row.",
        silent="It took the request and never spoke, but answers others.",
    ),
    *_broken_off(
        AnswerOverdueError,
        placed="The rows that came in time stand; fewer are asked for now.",
        spoke="It was too slow for a single row; the limiter asks for less at a time.",
        silent="It took the request and never spoke, but answers others.",
    ),
    *_broken_off(
        AnswerCutError,
        placed="The rows before the break stand; the missing ranks are asked for.",
        spoke="The connection or the model broke off before the first row.",
        silent="It took the request and hung up, but answers others.",
    ),
    Failure(
        AnswerLimitError,
        When.ALWAYS,
        (Action.LONGER, Action.NEXT_ENDPOINT, Action.GIVE_UP),
        "The model needs more room, for its reasoning mostly; the same room would end the same way.",
        paid=True,
        at_once=True,
    ),
    Failure(
        AnswerRefusedError,
        When.ALWAYS,
        _AGAIN,
        "A model that declines once may answer the next time; another model may, too.",
        paid=True,
    ),
    Failure(
        AnswerFilteredError,
        When.PLACED,
        _ONWARD,
        "What the filter let through stands; the candidates that are left may pass.",
        paid=True,
    ),
    Failure(
        AnswerFilteredError,
        When.ALWAYS,
        _AGAIN,
        "Filters judge what the model said, which is not the same every time.",
        paid=True,
    ),
    Failure(
        AnswerEmptyError,
        When.ALWAYS,
        _AGAIN,
        "An answer without one recommendation is chance or a weak model.",
        paid=True,
        at_once=True,
    ),
    Failure(
        None,
        When.ALWAYS,
        _ONWARD,
        "The answer ended well with less than was asked for; the rest is asked for.",
        paid=True,
        at_once=True,
    ),
)


def failure_of(problem: AnswerError | None, case: Case) -> Failure:
    """The row of the table for this failure; None is an answer that ended well with less than was asked for."""
    rows = _rows_of(problem)
    return next(row for row in rows if _HOLDS[row.when](problem, case))


def _rows_of(problem: AnswerError | None) -> list[Failure]:
    """The rows of the error's own class; a class without any has those of the one above it."""
    if problem is None:
        return [row for row in FAILURES if row.kind is None]
    for kind in type(problem).__mro__:
        rows = [row for row in FAILURES if row.kind is kind]
        if rows:
            return rows
    raise LookupError(f"{type(problem).__name__} has no row in the table of failures: add one")


def _asks_to_be_left_alone(problem: AnswerError | None, case: Case) -> bool:
    wait = problem.retry_after if isinstance(problem, EndpointRefusedError) else None
    return wait is not None and wait > case.patience_s


def _in_band(problem: AnswerError | None) -> bool:
    return isinstance(problem, EndpointRefusedError) and problem.in_band


def _not_sent(problem: AnswerError | None) -> bool:
    return isinstance(problem, EndpointUnreachableError) and not problem.sent


_HOLDS: Final[dict[When, Callable[[AnswerError | None, Case], bool]]] = {
    When.ALWAYS: lambda _, __: True,
    When.NOT_SENT: lambda problem, _: _not_sent(problem),
    When.DOWN: lambda _, case: case.down,
    When.AWAY: _asks_to_be_left_alone,
    When.NOT_TAKEN: lambda _, __: False,  # streaming has asked again: what comes here is another refusal
    When.SPOKE: lambda _, case: case.spoke,
    When.PLACED: lambda _, case: case.placed,
    When.PLACED_IN_BAND: lambda problem, case: case.placed and _in_band(problem),
}
