"""How much is measured: thoroughly, or for a look."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds are paired runs, of which the median counts; times in seconds.

    `offered` rows a second are handed over for `offered_s`. `customers` have three nights of ten rows each, among
    `products`; `reads` slates are read one after the other, `switches` times a night is published and rolled back.
    """

    rounds: int
    window_s: float
    offered: float
    offered_s: float
    customers: int
    products: int
    reads: int
    switches: int
    reads_between: int  # of the readers that go on meanwhile, before each switch


THOROUGH = Plan(
    rounds=9,
    window_s=2,
    offered=200,
    offered_s=20,
    customers=1_000_000,
    products=100_000,
    reads=10_000,
    switches=3,
    reads_between=500,
)
QUICK = Plan(
    rounds=2,
    window_s=0.5,
    offered=200,
    offered_s=2,
    customers=10_000,
    products=1_000,
    reads=500,
    switches=2,
    reads_between=50,
)
