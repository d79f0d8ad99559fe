"""What Prefect costs: the nightly flow in its process, beside the same night without it."""

from dataclasses import dataclass

from bench.flows.grounds import Figures, Grounds
from bench.flows.nights import Kind, night_s
from bench.flows.plan import FEW_SHARDS, MANY_SHARDS, ORCHESTRATED_RATE
from bench.flows.rankers import silent_ranker
from bench.flows.settings import environment_of
from bench.flows.shop import another_database, fill_alike

_TIMES = 10  # the night that is extrapolated to


@dataclass(frozen=True, slots=True)
class Nights:
    """Seconds of one night: under Prefect in few shards and in many, and alone in as many."""

    flow_few: float
    flow_many: float
    alone_few: float
    alone_many: float

    @property
    def share(self) -> float:
        """What Prefect adds, of the whole, in few shards."""
        return (self.flow_few - self.alone_few) / self.flow_few

    @property
    def shard_s(self) -> float:
        """What Prefect takes for one shard more."""
        return (self._added_many - self._added_few) / (MANY_SHARDS - FEW_SHARDS)

    @property
    def flow_s(self) -> float:
        """What it takes for a night without a shard."""
        return self._added_few - FEW_SHARDS * self.shard_s

    @property
    def share_of_larger(self) -> float:
        """Of a night with ten times the customers in many shards, which takes ten times as long by itself."""
        return self._added_many / (_TIMES * self.alone_few + self._added_many)

    @property
    def _added_few(self) -> float:
        return self.flow_few - self.alone_few

    @property
    def _added_many(self) -> float:
        return self.flow_many - self.alone_many


async def orchestration_figures(grounds: Grounds) -> Figures:
    """Nights in turn, the best of each kind; who comes first changes, for the first warms the machine for the second.

    Raises:
        UnfinishedRunError: one did not come to its end.
    """
    customers = grounds.plan.orchestrated
    url = another_database(grounds.server, "orchestration")
    fill_alike(url, customers)
    nights = await _nights(grounds, url)
    print(
        f"{customers:,} customers: {nights.flow_few:.1f} s under Prefect and {nights.alone_few:.1f} s alone in "
        f"{FEW_SHARDS} shards, {nights.flow_many:.1f} and {nights.alone_many:.1f} s in {MANY_SHARDS}; Prefect takes "
        f"{nights.flow_s:.2f} s for the flow and {nights.shard_s:.3f} s a shard: {nights.share_of_larger:.2%} of the "
        f"night of {_TIMES * customers:,} customers in {MANY_SHARDS} shards",
        flush=True,
    )
    return {
        "orchestration_share": nights.share,
        "orchestration_share_20k": nights.share_of_larger,
        "orchestration_flow_s": nights.flow_s,
        "orchestration_shard_s": nights.shard_s,
    }


async def _nights(grounds: Grounds, url: str) -> Nights:
    customers, folder = grounds.plan.orchestrated, grounds.place("orchestration")
    async with silent_ranker(ORCHESTRATED_RATE) as base_url:

        async def seconds(kind: Kind, shards: int) -> float:
            shard_size = {"RECSTREAM_SHARD_SIZE": -(-customers // shards), "RECSTREAM_PLACEMENT": "here"}
            ours = environment_of(url, base_url, folder, shard_size)
            return await night_s(kind, customers, folder, {**grounds.prefect.environment, **ours})

        async def pair(shards: int, *, alone_first: bool) -> tuple[float, float]:
            if alone_first:
                alone = await seconds("alone", shards)
                return await seconds("flow", shards), alone
            return await seconds("flow", shards), await seconds("alone", shards)

        few = [await pair(FEW_SHARDS, alone_first=turn % 2 == 0) for turn in range(grounds.plan.in_turn)]
        many = await pair(MANY_SHARDS, alone_first=True)
    return Nights(min(flow for flow, _ in few), many[0], min(alone for _, alone in few), many[1])
