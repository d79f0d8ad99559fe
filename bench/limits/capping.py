"""Runs into a cap: four processes with all requests in flight, and what the server says that they truly used."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.limits.money import cost, write_price_list
from bench.limits.plan import PROCESSES, Plan
from bench.limits.running import Ours, crew, limited_server, serve
from bench.limits.server_log import ServerLog, read_server_log
from pipeline.errors import UnfinishedRunError
from pipeline.offline_ranker.limits import LimitPlan

_CAPPED_SHARE = Decimal("0.6")  # of what the run would use: some hundreds of requests, and yet not all


@dataclass(frozen=True, slots=True)
class Capped:
    """A run that a cap stopped. `used` and `cap` are tokens, or money."""

    what: str
    cap: Decimal
    used: Decimal
    lost: int
    seconds: float

    @property
    def overrun(self) -> float:
        """How far the cap was passed by, in share of it; below 0 where it was not."""
        return float(self.used / self.cap - 1)

    def __str__(self) -> str:
        return (
            f"  a cap on {self.what + ':':<8} {self.used:.8g} of {self.cap:.8g} used ({self.used / self.cap:.1%}), "
            f"{self.lost} customers not attempted, over after {self.seconds:.1f} s"
        )


async def run_into_caps(url: str, plan: Plan, unlimited: ServerLog) -> list[Capped]:
    """A run with a cap on money, and one with a cap on tokens.

    Raises:
        UnfinishedRunError: one was not stopped by its cap.
    """
    return [await _run_into(url, plan, *cap) for cap in _caps(unlimited)]


def _caps(unlimited: ServerLog) -> Iterator[tuple[str, str, Decimal]]:
    money = cost(unlimited.tokens_in, unlimited.tokens_out) * _CAPPED_SHARE
    yield "money", "RECSTREAM_BUDGET_PER_RUN", money.quantize(Decimal("0.000001"))
    yield "tokens", "RECSTREAM_TOKEN_BUDGET_PER_RUN", (unlimited.tokens_used * _CAPPED_SHARE).quantize(Decimal(1))


async def _run_into(url: str, plan: Plan, what: str, setting: str, cap: Decimal) -> Capped:
    with TemporaryDirectory(prefix="limits-") as name:
        prices = write_price_list(Path(name))
        ours = Ours(PROCESSES, plan.in_flight, settings={setting: f"{cap:f}", "RECSTREAM_PRICE_LIST": str(prices)})
        async with (
            limited_server(Path(name), LimitPlan(), plan.tokens_per_second) as server,
            crew(url, server, ours, plan.customers) as (processes, last),
        ):
            served = await serve(url, server, ours, processes, last)
        if not served.failed or not all(why.startswith("BudgetSpentError") for why in served.failed):
            raise UnfinishedRunError(f"a cap on {what} did not stop the run: {', '.join(served.failed) or 'it ended'}")
        log = read_server_log(server.log)
    used = cost(log.tokens_in, log.tokens_out) if what == "money" else Decimal(log.tokens_used)
    return Capped(what, cap, used, served.lost, served.seconds)
