"""How many customers a second one process serves where the model takes no time, and which stage takes the CPU."""

import json

from bench.flows.grounds import Figures, Grounds
from bench.flows.plan import WARM_UP
from bench.flows.rankers import silent_ranker
from bench.flows.settings import environment_of
from bench.flows.shop import another_database, fill_copies
from bench.limits.workers import output_of

_COPIES = 10  # of the demo shop


async def throughput_figures(grounds: Grounds) -> Figures:
    """The whole line over copies of the demo shop.

    Raises:
        UnfinishedRunError: it did not come to its end.
    """
    url, folder = another_database(grounds.server, "line"), grounds.place("line")
    fill_copies(url, _COPIES)
    async with silent_ranker(0) as base_url:
        ours = environment_of(url, base_url, folder, {})
        said = await output_of("bench.flows.line", (str(grounds.plan.line), str(WARM_UP)), folder, ours)
    line = json.loads(said.splitlines()[-1])
    customers_per_s = line["customers"] / line["seconds"]
    print(
        f"whole line: {line['customers']:,} customers in {line['seconds']:.1f} s, {customers_per_s:.0f} a second; "
        f"{1000 * line['cpu_s'] / line['customers']:.1f} ms CPU of our process each, of which",
    )
    for stage, share in line["shares"].items():
        print(f"  {stage:<28}{share:>6.1%}")
    stage, share = max(line["shares"].items(), key=lambda it: it[1])
    if share > 1 / 3:
        print(f"  {stage} takes more than a third")
    return {
        "customers_per_s": customers_per_s,
        "cpu_ms_per_customer": 1000 * line["cpu_s"] / line["customers"],
        "largest_stage_share": share,
    }
