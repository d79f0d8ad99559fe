"""How long a night's requests take: the slowest of what its answers need and what each limit allows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.planning.experience import Experience
from pipeline.planning.forecast import ModelTally
from pipeline.planning.night_plan import Duration
from pipeline.planning.remembering import KnownLimits


@dataclass(frozen=True, slots=True)
class _Bound:
    seconds: float
    because: str


def duration_of(
    models: Mapping[str, ModelTally],
    experiences: Mapping[str, Experience],
    limits: Mapping[str, KnownLimits],
    concurrency: int,
) -> Duration:
    """The time from the first request to the last answer."""
    if not models:
        return Duration(0.0, "nobody is asked")
    bounds = [bound for model, tally in models.items() for bound in _of_limits(model, tally, limits[model])]
    answers = _of_answers(models, experiences, concurrency)
    if answers is None and not bounds:
        return Duration(None, "no night with this model and prompt is known yet, and no limit of the endpoint")
    slowest = max([*bounds, answers] if answers else bounds, key=lambda bound: bound.seconds)
    closed = max(limits[model].closed_for_s for model in models)
    waits = f", after {closed:,.0f} s in which the endpoint wishes to be left alone" if closed else ""
    return Duration(slowest.seconds + closed, slowest.because + waits)


def _of_limits(model: str, tally: ModelTally, limits: KnownLimits) -> Iterator[_Bound]:
    tokens = tally.tokens_in + tally.tokens_out
    for what, amount, rate, known_from in (
        ("requests", tally.requests, limits.requests_per_minute, limits.requests_from),
        ("tokens", tokens, limits.tokens_per_minute, limits.tokens_from),
    ):
        if rate:
            known = "as its headers say" if known_from == "headers" else "as its refusals tell"
            yield _Bound(60 * amount / rate, f"{model} takes {rate:,.0f} {what} a minute, {known}")


def _of_answers(
    models: Mapping[str, ModelTally], experiences: Mapping[str, Experience], concurrency: int
) -> _Bound | None:
    known = [tally.answering_s for tally in models.values()]
    if any(seconds is None for seconds in known):
        return None
    total = sum(seconds or 0.0 for seconds in known)
    customers = sum(tally.customers for tally in models.values())
    seen = [experiences[model].answers_at_once for model in models]
    at_once = min([concurrency, customers, *(it for it in seen if it is not None)])
    runs = sum(experiences[model].runs for model in models)
    origin = f"as in the last {runs} nights" if runs > 1 else "as in the last night" if runs else "at its pace"
    return _Bound(total / at_once, f"{total / customers:.2g} s for each customer, {at_once:.3g} at a time, {origin}")
