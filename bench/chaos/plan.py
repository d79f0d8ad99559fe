"""What is to happen, drawn from a seed: the same seed gives the same strikes in the same order.

When exactly each of them hits, the machine decides: its processes and its network cannot be replayed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.chaos.door import Moment


class Blow(StrEnum):
    """What is done to the pipeline."""

    KILL = "kill"  # kill -9 of the process
    DROP = "drop"  # one of its connections to Postgres is cut
    CRASH = "crash"  # Postgres is stopped at once and started again
    STALE = "stale"  # it is stopped; another takes its run over; it wakes up, and is killed later
    KILL_COMMAND = "kill-command"  # kill -9 of `recstream run` or `recstream resume`


@dataclass(frozen=True, slots=True)
class Strike:
    """One blow: after `writes` orders to write have passed, at the next `moment`; `delay_s` later where it is None."""

    blow: Blow
    moment: Moment | None
    writes: int
    delay_s: float

    def __str__(self) -> str:
        where = f"{self.delay_s:g} s later" if self.moment is None else f"at the next {self.moment}"
        return f"{self.blow} after {self.writes} writes, {where}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole storm. `customers` in the shop, `tokens_per_second` of each answer, `patience_s` for all of it."""

    seed: int
    customers: int
    tokens_per_second: float
    patience_s: float
    strikes: Sequence[Strike]


_THOROUGH = {Blow.KILL: 48, Blow.DROP: 22, Blow.CRASH: 11, Blow.STALE: 4, Blow.KILL_COMMAND: 2}
_SHORT = {Blow.KILL: 5, Blow.DROP: 2, Blow.CRASH: 1, Blow.STALE: 1}


def thorough_plan(seed: int) -> Plan:
    """What `make chaos` does."""
    return Plan(seed, customers=300, tokens_per_second=60, patience_s=540, strikes=_drawn(seed, _THOROUGH))


def short_plan(seed: int) -> Plan:
    """A look, in half a minute."""
    return Plan(seed, customers=50, tokens_per_second=200, patience_s=200, strikes=_drawn(seed, _SHORT))


def _drawn(seed: int, numbers: dict[Blow, int]) -> tuple[Strike, ...]:
    source = random.Random(seed)
    blows = [blow for blow, number in numbers.items() for _ in range(number)]
    source.shuffle(blows)
    return tuple(
        Strike(
            blow=blow,
            moment=source.choice([None, *Moment]),
            writes=source.randint(0, 25),
            delay_s=round(source.uniform(0, 0.8), 3),
        )
        for blow in blows
    )
