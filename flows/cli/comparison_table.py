"""Two sides for people: their figures side by side, then how alike they rank, what was bought, and what to know."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.output import money
from pipeline.comparing import PERSISTENCE, Comparison, Figures, Hits, Likeness, Share

_NONE = "none"


def print_comparison(comparison: Comparison, out: Console) -> None:
    """Print it all. Costs are in the currency of the price list."""
    out.print(_figures_table(comparison.first, comparison.second))
    if comparison.likeness.customers:
        out.print(_table("Alike", _likeness_lines(comparison.likeness)))
    if comparison.hits is not None:
        out.print(_hits_table(comparison.hits))
    for note in comparison.notes:
        out.print(f"* {note}", markup=False)


def _figures_table(first: Figures, second: Figures) -> Table:
    table = Table(title="Two runs", title_justify="left")
    table.add_column("")
    for heading in ("A", "B"):
        table.add_column(heading, overflow="fold")
    for name, tell in _LINES:
        table.add_row(name, Text(tell(first)), Text(tell(second)))
    return table


def _table(title: str, lines: Iterable[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(name, Text(value))
    return table


def _hits_table(hits: Hits) -> Table:
    whose = (
        "customers with a slate on both sides" if hits.paired else "the customers of each side, none of them in both"
    )
    window = f"{hits.since:%Y-%m-%d %H:%M} to {hits.until:%Y-%m-%d %H:%M} UTC"
    return _table(f"Bought of the first {hits.depth}: {whose}", _hit_lines(hits, window))


def _likeness_lines(likeness: Likeness) -> Iterator[tuple[str, str]]:
    yield "customers in both", _out_of(likeness.customers, identical=likeness.identical, kept=likeness.same_slate)
    yield (
        f"overlap@{likeness.depth}",
        f"{_share(likeness.overlap)} of the products (Jaccard {_share(likeness.jaccard)})",
    )
    yield "same order", f"{_number(likeness.kendall_tau)} (Kendall's tau-b, {likeness.ordered:,} customers)"
    yield "both, top first", f"{_number(likeness.rank_biased_overlap)} (rank-biased overlap, p = {PERSISTENCE:g})"


def _hit_lines(hits: Hits, window: str) -> Iterator[tuple[str, str]]:
    yield "window", window
    yield "bought anything", f"{hits.buyers:,} customers"
    yield "A", _hit(hits.first)
    yield "B", _hit(hits.second)
    low, high = hits.interval
    sure = "" if low <= 0 <= high else ": more than chance"
    yield "B less A", f"{_points(hits.difference)} points, 95% between {_points(low)} and {_points(high)}{sure}"
    if hits.paired:
        yield "by one alone", f"{hits.first_only:,} by A, {hits.second_only:,} by B"


def _hit(share: Share) -> str:
    low, high = share.interval
    return f"{share.hits:,} of {share.customers:,}: {share.share:.2%}, 95% between {low:.2%} and {high:.2%}"


def _out_of(customers: int, **among: int) -> str:
    told = [f"{number:,} {name}" for name, number in among.items() if number]
    return f"{customers:,}" + (f", {', '.join(told)}" if told else "")


def _customers(figures: Figures) -> str:
    others = {"short": figures.short, "failed": figures.failed, "unfinished": figures.unfinished}
    told = "".join(f", {number:,} {name}" for name, number in others.items() if number)
    kept = f" + {figures.unchanged:,} unchanged" if figures.unchanged else ""
    return f"{figures.complete:,}{kept} of {figures.customers:,} complete{told}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items()) or _NONE


def _times(median: float | None, late: float | None) -> str:
    return _NONE if median is None or late is None else f"p50 {median:.2f} s, p95 {late:.2f} s"


def _tokens(figures: Figures) -> str:
    sent, got = figures.tokens_in_per_slate, figures.tokens_out_per_slate
    if sent is None or got is None:
        return _NONE
    cached = f" ({figures.tokens_cached_per_slate:,.0f} cached)" if figures.tokens_cached_per_slate else ""
    return f"{sent:,.0f} in{cached}, {got:,.0f} out"


def _cost(figures: Figures) -> str:
    if not figures.asked:
        return _NONE
    missing = figures.asked - figures.priced if figures.cost is not None else 0
    return money(figures.cost) + (f", {missing:,} slates without a price" if missing else "")


def _run(figures: Figures) -> str:
    return figures.side.partition(":")[0]


def _part(figures: Figures) -> str:
    variant = figures.side.partition(":")[2] or "all"
    return f"{variant} of it, {figures.kind.replace('_', ' ')}, {figures.state}"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


_LINES: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("run", _run),
    ("what", _part),
    ("looked at the shop", lambda figures: f"{figures.as_of:%Y-%m-%d %H:%M} UTC"),
    ("model", lambda figures: f"{figures.model}, temperature {figures.temperature:g}"),
    ("prompt", lambda figures: figures.prompt_version),
    ("customers", _customers),
    ("rows ranked by", lambda figures: _counts(figures.ranked_by)),
    ("attempts ended", lambda figures: _counts(figures.endings)),
    ("refused objects", lambda figures: f"{figures.refused_objects:,}"),
    ("first row", lambda figures: _times(figures.first_row_p50_s, figures.first_row_p95_s)),
    ("whole slate", lambda figures: _times(figures.whole_p50_s, figures.whole_p95_s)),
    ("tokens a slate", _tokens),
    ("cost", _cost),
    ("cost a slate", lambda figures: money(figures.cost_per_slate) if figures.priced else _NONE),
)
