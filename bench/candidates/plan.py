"""How much is measured: thoroughly, or for a look."""

from dataclasses import dataclass

from bench.candidates.generating import ShopSize


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the bench.

    `shop` is the generated one, and one of `parts` times fewer customers is built beside it: each build `rounds`
    times, of which the median counts. `lookups` of the shop's customers are looked up. implicit's models are tried
    with one setting each where `whole_grid` is not wanted.
    """

    shop: ShopSize
    parts: int
    rounds: int
    lookups: int
    whole_grid: bool


THOROUGH = Plan(
    shop=ShopSize(products=10_000, customers=100_000, purchases=5_000_000, heavy=10, heavy_purchases=10_000),
    parts=10,
    rounds=1,
    lookups=10_000,
    whole_grid=True,
)
QUICK = Plan(
    shop=ShopSize(products=1_000, customers=5_000, purchases=100_000, heavy=1, heavy_purchases=2_000),
    parts=10,
    rounds=1,
    lookups=1_000,
    whole_grid=False,
)
SEED = 7
PLACES = 100
PAGE = 500
