"""What came of one run under one limit, and the worst of several."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.limits.ideal import least_seconds
from bench.limits.scenarios import Scenario
from bench.limits.server_log import ServerLog

HEADING = f"  {'':<34}{'lost':>6}{'seconds':>9}{'ideal':>8}{'ratio':>8}{'requests':>10}{'refused':>9}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`ideal_s` is the least time in which the limit would have let in what was truly needed."""

    who: str
    scenario: str
    lost: int
    seconds: float
    ideal_s: float
    requests: int
    refused_share: float

    @property
    def time_vs_ideal(self) -> float:
        """The duration, the last answer in it, of the least time in which all could have been let in."""
        return self.seconds / self.ideal_s if self.ideal_s else float("nan")

    def __str__(self) -> str:
        what = f"{self.scenario}: {self.who}"
        return (
            f"  {what:<34}{self.lost:>6}{self.seconds:>9.1f}{self.ideal_s:>8.1f}{self.time_vs_ideal:>8.3f}"
            f"{self.requests:>10,}{self.refused_share:>9.3f}"
        )


def outcome(who: str, scenario: Scenario, log: ServerLog, *, lost: int, seconds: float) -> Outcome:
    """What the server's log makes of a run that took so long and lost so many customers."""
    return Outcome(
        who=who,
        scenario=scenario.name,
        lost=lost,
        seconds=seconds,
        ideal_s=least_seconds(scenario.limits, log.needed_charges()),
        requests=len(log.requests),
        refused_share=log.refused_share,
    )


def worst(outcomes: Sequence[Outcome], suffix: str = "") -> dict[str, float]:
    """The worst of each figure, by its key."""
    return {
        f"lost{suffix}": max(one.lost for one in outcomes),
        f"time_vs_ideal{suffix}": max(one.time_vs_ideal for one in outcomes),
        f"refused_share{suffix}": max(one.refused_share for one in outcomes),
    }
