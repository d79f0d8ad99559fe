"""The parts of the bench: each takes its figures, prints them as it goes, and returns them by their keys."""

from collections.abc import Iterable, Sequence
from math import nan
from statistics import median

from bench.ratios import paired_ratio
from bench.stream.cpu import YIELDS_NOTHING, CpuByRound, cpu_in_turn, growth, long_item_growth
from bench.stream.lateness import first_of_whole, further_events, lateness, read_at_pace
from bench.stream.orders import AT_ONCE, Form, Order
from bench.stream.plan import Plan
from bench.stream.processes import Contender, PacedServer
from bench.stream.ramp import HEADING, TOKENS_PER_SECOND, ramp, sustained, take_step

OURS = "ours"
MANY_STREAMS = 1000
_PACED = 1000  # tokens a second: faster than a model, and still a read of its own for each
_PACED_STREAMS = 4
_SLOW = 10  # tokens a second: many streams are open then, and one core has time for all
_ANSWERS_IN_A_ROW = {OURS: 5, YIELDS_NOTHING: 10, "handwritten": 5}  # so that all measure for about as long
_FEW_ITEMS_HELD = 3  # where events must follow, each of them costs the server's patience
_MEASURE = "{:<46}"

Figures = dict[str, float]


def warm_up(contenders: Sequence[Contender]) -> None:
    """Have everything imported, connected and compiled that is so at the first use."""
    cpu_in_turn(contenders, Order(Form.FULL, 10, AT_ONCE), 1, {contender.name: 10 for contender in contenders})


def cpu_figures(contenders: Sequence[Contender], plan: Plan) -> Figures:
    """CPU per answer of each contender, and ours in terms of the others'."""
    print("\n" + _MEASURE.format("client CPU per answer, ms") + "".join(f"{one.name:>15}" for one in contenders))
    take_numbers = [contender for contender in contenders if contender.name in {OURS, YIELDS_NOTHING}]
    _cpu(take_numbers, Order(Form.COMPACT, 50, AT_ONCE), plan.rounds_beside)
    for items in (10, 200):
        _cpu(contenders, Order(Form.FULL, items, AT_ONCE), plan.rounds_beside)
    at_once = _cpu(contenders, Order(Form.FULL, 50, AT_ONCE), plan.rounds)
    paced = _cpu(contenders, Order(Form.FULL, plan.paced_items, _PACED), plan.rounds_beside // 2 + 1, _PACED_STREAMS)
    print(
        "\nour CPU, of theirs: median of the paired rounds (lowest to highest)\n"
        f"  {'':<16}{'as fast as the socket takes':<30}{'fastest runs of both':<22}paced"
    )
    figures = {f"cpu_ms_50_{name}": median(taken) for name, taken in at_once.items()}
    for name in [contender.name for contender in contenders if contender.name != OURS]:
        whole, in_pieces = (paired_ratio(taken[OURS], taken[name]) for taken in (at_once, paced))
        fastest = min(at_once[OURS]) / min(at_once[name])
        print(f"  {name:<16}{whole!s:<30}{fastest:<22.3g}{in_pieces}")
        figures[f"cpu_vs_{name}_50"], figures[f"paced_cpu_vs_{name}_50"] = whole.middle, in_pieces.middle
    return figures


def growth_figures(ours: Contender, plan: Plan) -> Figures:
    """What grows faster than the answer does: nothing, where the figures are 1."""
    print("\nour CPU per item and per byte: median of the paired rounds (lowest to highest)")
    found = {
        "growth_200_vs_10": growth(ours, 10, 200, AT_ONCE, plan.rounds),
        "long_item_growth": long_item_growth(ours, AT_ONCE, plan.rounds),
    }
    if plan.paced_growth:
        found["paced_growth_200_vs_10"] = growth(ours, 10, 200, _PACED, 1, _PACED_STREAMS)
        found["paced_long_item_growth"] = long_item_growth(ours, _PACED, 1, _PACED_STREAMS)
    for key, ratio in found.items():
        print(f"  {key:<26} {ratio}", flush=True)
    return {key: ratio.middle for key, ratio in found.items()}


def lateness_figures(contenders: Iterable[Contender], server: PacedServer, plan: Plan) -> Figures:
    """When items are there, for ours and, beside it, for all that yield any."""
    print(
        f"\n{plan.moderate_streams} streams at {TOKENS_PER_SECOND} tokens/s"
        "            lateness, ms: p50      p99   server p99   events that had to follow   first of whole"
    )
    figures: Figures = {}
    order = Order(Form.FULL, 10, TOKENS_PER_SECOND)
    yield_items = [one for one in contenders if one.name != YIELDS_NOTHING]
    for contender in yield_items if plan.lateness_of_all else yield_items[:1]:
        streams = read_at_pace(contender, order, plan.moderate_streams)
        late, share = lateness(server.board, streams), first_of_whole(streams)
        further = further_events(contender, server, order.items if contender.name == OURS else _FEW_ITEMS_HELD)
        print(
            f"  {contender.name:<40}{late.middle:>8.2f}{late.p99:>9.2f}{late.server_p99:>13.2f}"
            f"{further:>28}{share:>17.3f}",
            flush=True,
        )
        if contender.name == OURS:
            figures = {
                "lateness_ms_p50": late.middle,
                "lateness_ms_p99": late.p99,
                "lateness_chunks_max": further,
                "first_of_whole_10": share,
            }
    return figures


def ramp_figures(ours: Contender, server: PacedServer, plan: Plan) -> Figures:
    """How many streams one core sustains."""
    print(f"\nstreams at {TOKENS_PER_SECOND} tokens/s on one core, {plan.window_s:g} s each\n{HEADING}")
    steps = []
    for step in ramp(ours, server, plan.steps, plan.window_s):
        print(step, flush=True)
        steps.append(step)
    return {"streams_per_core": sustained(steps)}


def memory_figures(ours: Contender, server: PacedServer, plan: Plan) -> Figures:
    """What 1,000 streams take in memory, at a pace that any core sustains: all of them must flow."""
    print(f"\n{MANY_STREAMS:,} streams at {_SLOW} tokens/s\n{HEADING}")
    step = take_step(ours, server, MANY_STREAMS, _SLOW, plan.window_s)
    print(step, flush=True)
    return {"rss_mb_1000_streams": nan if step.lost else step.rss_mb}


def _cpu(contenders: Iterable[Contender], order: Order, rounds: int, streams: int = 1) -> CpuByRound:
    """Measure, and print a line of the table."""
    paced = order.pace != AT_ONCE
    taken = cpu_in_turn(contenders, order, rounds, {} if paced else _ANSWERS_IN_A_ROW, streams)
    pace = f"{streams} streams, {order.pace} tokens/s" if paced else "as fast as the socket takes"
    what = _MEASURE.format(f"  {order.items} items, {order.form}, {pace}")
    print(what + "".join(f"{median(values):>15.2f}" for values in taken.values()), flush=True)
    return taken
