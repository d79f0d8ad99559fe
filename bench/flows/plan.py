"""How much is measured: thoroughly, or for a look."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the bench. Rates are those of one stream of the ranker, in tokens a second.

    A night of `orchestrated` customers is measured `in_turn` times under Prefect and alone. `grown` customers are one
    process's. A night in the pool has four shards of `pool_shard` customers, at `pool_rate`; one that is cancelled is
    answered at `cancel_rate`, so that an answer that nobody closes is seen to go on. `kills` workers are killed, each
    with a shard of `killed_shard` customers, answered at `killed_rate`.
    """

    line: int
    orchestrated: int
    in_turn: int
    grown: int
    pool_shard: int
    pool_rate: float
    cancel_rate: float
    kills: int
    killed_shard: int
    killed_rate: float
    recommended: int


THOROUGH = Plan(
    line=2_000,
    orchestrated=2_000,
    in_turn=2,
    grown=100_000,
    pool_shard=75,
    pool_rate=20,
    cancel_rate=2,
    kills=10,
    killed_shard=24,
    killed_rate=10,
    recommended=3,
)
QUICK = Plan(
    line=300,
    orchestrated=300,
    in_turn=1,
    grown=3_000,
    pool_shard=16,
    pool_rate=20,
    cancel_rate=2,
    kills=1,
    killed_shard=12,
    killed_rate=10,
    recommended=1,
)
WARM_UP = 100
IN_FLIGHT = 64
IN_FLIGHT_A_WORKER = 8
ORCHESTRATED_RATE = 50.0
FEW_SHARDS, MANY_SHARDS = 2, 20
POOL_SHARDS = 4
SLATE_SIZE = 10
SHORT_SLATE_SIZE = 2
KILLED_AT_A_TIME = 3  # workers that there are while others are killed
