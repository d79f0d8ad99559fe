"""Published slates judged by what was bought, for people: shares beside popularity's, variants, what became of them."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.output import print_prose
from pipeline.evaluating.live_figures import RESAMPLES, LiveHits, Side, VariantHits
from pipeline.evaluating.live_report import LiveReport, RankResponses
from pipeline.evaluating.report import Interval

_LEGEND = (
    "customers@K: who bought any of the first K places. products@K: of what they bought, the part that stood there. "
    "chance?: the interval holds no difference at all, too."
)
_RANKS_SHOWN = 10  # a program gets all of them


def print_live(report: LiveReport, out: Console) -> None:
    """Print it all; of an empty shop the one line that says why there is nothing."""
    if report.nights:
        print_prose(out, _heading(report))
    if report.hits:
        out.print(_table(("what", "slates", "popular", "points more (95%)", "so"), _hit_rows(report.hits)))
        print_prose(out, _LEGEND)
    if report.variants:
        out.print(
            _table(("variant", "customers", "bought any (95%)", "points more than control"), _variants(report.variants))
        )
    if report.responses:
        out.print(_table(("rank", "shown", "clicked", "bought", "refused", "click rate"), _ranks(report.responses)))
    for note in report.notes:
        print_prose(out, f"Note: {note}" if report.nights else note)


def _heading(report: LiveReport) -> str:
    nights = "1 run" if len(report.nights) == 1 else f"{len(report.nights):,} runs"
    seen = f"{nights}, seen from {report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    had = "1 customer had a slate" if report.customers == 1 else f"{report.customers:,} customers had a slate"
    if not report.buyers:
        return f"{seen}: {had}. None of them has bought anything while he saw it."
    products = "1 product" if report.bought == 1 else f"{report.bought:,} products"
    return (
        f"{seen}: {had}, {report.buyers:,} of them bought {products} while they saw it.\n"
        f"Popular: most buyers in the {report.popularity_days} days before each run looked at the shop. Intervals hold "
        f"95%, from {RESAMPLES:,} resamples of the customers with seed {report.seed}."
    )


def _table(headings: Sequence[str], rows: Iterator[Sequence[str]]) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _hit_rows(hits: Sequence[LiveHits]) -> Iterator[Sequence[str]]:
    for hit in hits:
        yield f"customers@{hit.places}", *_side(hit.customers)
        yield f"products@{hit.places}", *_side(hit.products)


def _side(side: Side) -> Sequence[str]:
    return _percent(side.ours.mean), _percent(side.popularity.mean), _points(side.difference), _words(side.difference)


def _words(difference: Interval) -> str:
    if not difference.is_sure or difference.mean is None:
        return "chance?"
    return "more" if difference.mean > 0 else "less"


def _variants(variants: Sequence[VariantHits]) -> Iterator[Sequence[str]]:
    for of in variants:
        low, high = _percent(of.share.low), _percent(of.share.high)
        less = "" if of.less_control is None else _points(of.less_control)
        share = f"{_percent(of.share.mean)} ({low} to {high})"
        yield f"{of.variant}@{of.places}", f"{of.customers:,}", share, less


def _ranks(responses: Sequence[RankResponses]) -> Iterator[Sequence[str]]:
    for at in responses[:_RANKS_SHOWN]:
        rate = f"{_percent(at.click_rate.mean)} ({_percent(at.click_rate.low)} to {_percent(at.click_rate.high)})"
        yield str(at.rank), f"{at.shown:,}", f"{at.clicked:,}", f"{at.bought:,}", f"{at.refused:,}", rate


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.2%}"


def _points(difference: Interval) -> str:
    if difference.mean is None or difference.low is None or difference.high is None:
        return "none"
    return f"{100 * difference.mean:+.2f} ({100 * difference.low:+.2f} to {100 * difference.high:+.2f})"
