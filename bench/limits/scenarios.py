"""The four ways in which the server is limited to a tenth of the demand, each with headers that tell, and without."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.limits.plan import Plan
from pipeline.offline_ranker.limits import Dialect, LimitChange, LimitPlan

_BOTH_SHARE = 0.95  # of the first limit: tokens are short a little sooner than requests, but not for every customer


@dataclass(frozen=True, slots=True)
class Scenario:
    """One limited server."""

    name: str
    limits: LimitPlan

    def told(self) -> "Scenario":
        """The same server, telling of its limits in the headers of every answer, and of waits in milliseconds."""
        told = self.limits.model_copy(update={"headers": Dialect.OPENAI, "retry_after_ms": True})
        return Scenario(f"{self.name}, headers", told)


def scenarios(plan: Plan, tokens_a_request: float) -> Iterator[Scenario]:
    """All four, silent: a 429 with Retry-After in whole seconds is all that is heard of the limit.

    `tokens_a_request` is what a request is charged on average: tokens are limited to as many requests' worth.
    """
    requests = plan.requests_per_minute
    tokens = requests * tokens_a_request
    first, second = plan.changes_s
    changes = (
        LimitChange(after_seconds=first, requests_per_minute=requests / 2),
        LimitChange(after_seconds=second, requests_per_minute=requests),
    )
    yield Scenario("requests/min", LimitPlan(requests_per_minute=requests))
    yield Scenario("tokens/min", LimitPlan(tokens_per_minute=tokens))
    yield Scenario("both", LimitPlan(requests_per_minute=requests, tokens_per_minute=tokens * _BOTH_SHARE))
    yield Scenario("halved, doubled", LimitPlan(requests_per_minute=requests, changes=changes))
