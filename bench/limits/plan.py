"""How much is measured: thoroughly, or for a look."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the bench.

    `in_flight` requests at a time, over all processes, are a run's demand; each answer is written at
    `tokens_per_second`, so that the limits come to a tenth of it. `changes_s` are when those of the fourth scenario
    change.
    """

    customers: int
    requests_per_minute: float
    in_flight: int
    tokens_per_second: float
    changes_s: tuple[float, float]
    killed_after_share: float  # of the customers answered
    planned_customers: int  # of the real shop: planned, and then run
    overhead_requests: int


THOROUGH = Plan(
    customers=300,
    requests_per_minute=600,
    in_flight=64,
    tokens_per_second=70,
    changes_s=(10, 22),
    killed_after_share=0.4,
    planned_customers=200,
    overhead_requests=5_000,
)
QUICK = Plan(
    customers=80,
    requests_per_minute=600,
    in_flight=64,
    tokens_per_second=70,
    changes_s=(2, 5),
    killed_after_share=0.4,
    planned_customers=40,
    overhead_requests=1_000,
)
PROCESSES = 4
SHARDS_A_PROCESS = 3  # what a killed process leaves over can then be divided among the others
SLATE_SIZE = 10
MOST_CANDIDATES = 50
PREFIX_CANDIDATES = 100
