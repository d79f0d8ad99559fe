"""The parts of the bench: each takes its figures, prints them as it goes, and returns them by their keys."""

import time
from collections.abc import Sequence
from statistics import median

from bench.ratios import paired_ratio, percentile
from bench.write.acknowledging import acknowledge
from bench.write.contenders import CONTENDERS, OURS, PSYCOPG, SQLALCHEMY, Contender
from bench.write.filling import fill
from bench.write.plan import Plan
from bench.write.producing import Turn, take_turn
from bench.write.reading import read_points
from bench.write.shop import NIGHTS, Shop
from bench.write.sizes import sizes_of
from bench.write.switching import switch
from bench.write.targets import scale_name
from pipeline.domain import RunId, RunState

Figures = dict[str, float]

_TIMES = "  {:<34}{:>10.2f}{:>10.2f}{:>10.2f}"


async def row_figures(url: str, plan: Plan) -> Figures:
    """Acknowledged rows a second, ours in terms of the others', and the client's CPU for each."""
    turns = await _turns(url, plan)
    print(f"\nour rows/s, of theirs: median of {plan.rounds} paired rounds (lowest to highest)")
    ratios: Figures = {}
    for theirs in (PSYCOPG, *SQLALCHEMY):
        ratio = paired_ratio(*([turn.rows_per_s for turn in turns[one.name]] for one in (OURS, theirs)))
        print(f"  {theirs.name:<34}{ratio}", flush=True)
        ratios[theirs.name] = ratio.middle
    faster = min(SQLALCHEMY, key=lambda way: ratios[way.name])
    print(f"  of SQLAlchemy's two ways the faster counts: {faster.name}", flush=True)
    named = {"": OURS, "_sqlalchemy": faster, "_psycopg16": PSYCOPG}
    return {
        "rows_vs_sqlalchemy": ratios[faster.name],
        "rows_vs_psycopg16": ratios[PSYCOPG.name],
        **{f"rows_per_s{suffix}": _rate(turns[one.name]) for suffix, one in named.items()},
        **{f"cpu_us_per_row{suffix}": _cpu(turns[one.name]) for suffix, one in named.items()},
    }


async def _turns(url: str, plan: Plan) -> dict[str, list[Turn]]:
    """In each round every contender has a turn, and in each another one begins."""
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in CONTENDERS}
    for number in range(plan.rounds):
        first = number % len(CONTENDERS)
        for contender in CONTENDERS[first:] + CONTENDERS[:first]:
            turns[contender.name].append(await take_turn(contender, url, plan.window_s))
    print(f"\n{'durable rows, each acknowledged':<36}{'producers':>10}{'rows/s':>10}{'client CPU, us/row':>20}")
    for contender in CONTENDERS:
        taken = turns[contender.name]
        print(f"  {contender.name:<34}{contender.producers:>10}{_rate(taken):>10,.0f}{_cpu(taken):>20.0f}", flush=True)
    return turns


def _rate(turns: Sequence[Turn]) -> float:
    return median(turn.rows_per_s for turn in turns)


def _cpu(turns: Sequence[Turn]) -> float:
    return median(turn.cpu_us_per_row for turn in turns)


async def acknowledgement_figures(url: str, plan: Plan) -> Figures:
    """How long a row waits where few are written; beside it a plain commit, which is what the disk takes."""
    print(f"\n{f'{plan.offered:g} rows/s offered for {plan.offered_s:g} s, ms':<36}{'p50':>10}{'p99':>10}{'max':>10}")
    ours = await _acknowledged(OURS, url, plan)
    plain = await _acknowledged(PSYCOPG, url, plan)
    return {
        "ack_ms_p50_200": percentile(ours, 0.5),
        "ack_ms_p99_200": percentile(ours, 0.99),
        "ack_ms_p50_200_psycopg16": percentile(plain, 0.5),
        "ack_ms_p99_200_psycopg16": percentile(plain, 0.99),
    }


async def _acknowledged(contender: Contender, url: str, plan: Plan) -> list[float]:
    found = await acknowledge(contender, url, plan.offered, plan.offered_s)
    _print_times(contender.name, found.waited_ms)
    print(
        f"    {found.looked_for:,} of {len(found.waited_ms):,} rows were looked for at that moment, and all were seen"
    )
    return found.waited_ms


async def size_figures(url: str) -> Figures:
    """What a row takes as the contenders have left it: all of them wrote into one partition."""
    sizes = await sizes_of(url, RunState.RUNNING)
    print(
        f"\nbytes per row, indexes in: {sizes.bytes_per_row:.0f}, of which {sizes.raw_bytes_per_row:.0f} are data "
        f"({sizes.rows:,} rows as they were written)",
        flush=True,
    )
    return {"bytes_per_row": sizes.bytes_per_row, "raw_bytes_per_row": sizes.raw_bytes_per_row}


async def filled(url: str, shop: Shop) -> list[RunId]:
    """The nights of a shop, which is written into the tables."""
    print(f"\nfilling the tables: {shop.customers:,} customers x 10 rows x {NIGHTS} nights", end="", flush=True)
    begun = time.monotonic()
    nights = await fill(url, shop)
    sizes = await sizes_of(url, RunState.FINISHED)
    print(f", {time.monotonic() - begun:.0f} s; {sizes.bytes_per_row:.0f} bytes a row where sorted", flush=True)
    return nights


async def switch_figures(url: str, shop: Shop, nights: Sequence[RunId], plan: Plan) -> Figures:
    """What it takes to publish a night and to roll it back, and what readers see meanwhile."""
    taken = await switch(url, shop, nights, plan.switches, plan.reads_between)
    watch = taken.watch
    for what, seconds in (("published", taken.published_s), ("rolled back", taken.rolled_back_s)):
        print(f"\n{what}, s: {', '.join(f'{one:.3f}' for one in seconds)}", end="")
    print(f"\n{'meanwhile, ms':<36}{'p50':>10}{'p99':>10}{'max':>10}")
    _print_times(f"{len(watch.readers)} readers, all the time", watch.read_ms)
    seen = ", ".join(f"{count:,} of night {night + 1}" for night, count in sorted(watch.nights.items()))
    print(f"    {len(watch.read_ms):,} slates were read: {seen}; {watch.torn:,} torn", flush=True)
    many = scale_name(shop.customers)
    return {
        f"publish_s_{many}": max(taken.published_s),
        f"rollback_s_{many}": max(taken.rolled_back_s),
        "torn_reads": watch.torn,
        "reads_while_switching": len(watch.read_ms),
    }


async def read_figures(url: str, shop: Shop, nights: Sequence[RunId], plan: Plan) -> Figures:
    """What it takes to read one customer's current slate."""
    reads = await read_points(url, shop, nights, plan.reads)
    print(f"\n{f'one current slate, {plan.reads:,} reads, ms':<36}{'p50':>10}{'p99':>10}{'max':>10}")
    _print_times("a prepared statement", reads.prepared)
    _print_times("the same, of who has none", reads.without_slate)
    _print_times("pipeline.reading", reads.product)
    return {
        "point_read_ms_p50": percentile(reads.prepared, 0.5),
        "point_read_ms_p99": percentile(reads.prepared, 0.99),
        "point_read_ms_p99_without_slate": percentile(reads.without_slate, 0.99),
        "point_read_ms_p99_pipeline": percentile(reads.product, 0.99),
    }


def _print_times(what: str, milliseconds: Sequence[float]) -> None:
    middle, p99 = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    print(_TIMES.format(what, middle, p99, max(milliseconds)), flush=True)
