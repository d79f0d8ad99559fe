"""An evaluation for people: what was measured, each list beside those it is held against, and what that means."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.output import print_prose
from pipeline.evaluating.findings import findings, in_words, told_measure
from pipeline.evaluating.report import Evaluation, Figure, Interval, MeasuredList
from pipeline.evaluating.vocabulary import SEGMENT_BOUNDS, Measure, Segment

_SLATE = 10  # places of the slates that are shown; a program gets the others too
_LEGEND = (
    "new, repeat, all: purchases of products that the customer had never purchased, that he had, and both. "
    "found@K: the share of them within the first K places. hits@K: the share of K places that are hits. "
    "reached@K: the share of customers with a hit. NDCG, MRR: hits count more the earlier they stand."
)


def print_evaluation(evaluation: Evaluation, out: Console, *, segments: bool) -> None:
    """Print it all; by segment too if wanted."""
    print_prose(out, _heading(evaluation))
    shown = list(Segment) if segments else [Segment.ALL]
    for listed in evaluation.lists if evaluation.counted.scored_all else ():
        for baseline in _baselines(evaluation, listed):
            out.print(_table(evaluation, listed, baseline, shown))
    print_prose(out, _LEGEND)
    for line in (*_segment_lines(evaluation, shown), *_coverage_lines(evaluation), *findings(evaluation)):
        print_prose(out, line)
    for note in (*_ranked_by(evaluation), *evaluation.notes):
        print_prose(out, f"Note: {note}")


def _heading(evaluation: Evaluation) -> str:
    counted = evaluation.counted
    left_out = f"; {counted.targets_never_sold:,} of products never sold before, or gone from the catalog, are left out"
    return (
        f"Purchases of {evaluation.days} days from {evaluation.begins:%Y-%m-%d %H:%M %Z}, by {counted.scored_all:,} of "
        f"the {counted.looked_up:,} customers who had purchased something before, returned or not:\n"
        f"{counted.targets_new:,} of products new to the customer, {counted.targets_repeat:,} of products that he had "
        f"purchased already{left_out if counted.targets_never_sold else ''}.\n"
        f"Lists are of the whole catalog of {counted.catalog:,} products. Intervals hold 95%, from "
        f"{evaluation.resamples:,} resamples of the customers with seed {evaluation.seed}."
    )


def _baselines(evaluation: Evaluation, listed: MeasuredList) -> list[MeasuredList]:
    against = {name for figure in evaluation.figures if figure.list == listed.list for name in figure.less}
    return [other for other in evaluation.lists if other.list in against]


def _table(evaluation: Evaluation, listed: MeasuredList, baseline: MeasuredList, segments: Sequence[Segment]) -> Table:
    table = Table(title=f"{listed.told}, beside {baseline.told}", title_justify="left")
    for heading in ("what", "this", "that", "difference (95%)", "in words"):
        table.add_column(heading, justify="right" if heading in {"this", "that"} else "left", overflow="fold")
    for segment in segments:
        figures = [it for it in _shown(evaluation, listed) if it.segment is segment and baseline.list in it.less]
        if segment is not Segment.ALL:
            table.add_section()
        for figure in figures:
            table.add_row(*map(Text, _cells(figure, figure.less[baseline.list])))
    return table


def _shown(evaluation: Evaluation, listed: MeasuredList) -> Iterator[Figure]:
    """The depth of the candidates, and slates of ten: all measures in the widest scope, else the one that says most."""
    widest = [figure.scope for figure in evaluation.figures if figure.list == listed.list][-1]
    for figure in evaluation.figures:
        deep = figure.measure == Measure.RECALL and figure.places == evaluation.places and not listed.run
        main = figure.measure == Measure.NDCG or (figure.segment is Segment.ALL and figure.scope is widest)
        known = figure.value.mean is not None
        if figure.list == listed.list and known and (deep or (figure.places == _SLATE and main)):
            yield figure


def _cells(figure: Figure, difference: Interval) -> Iterator[str]:
    whose = "" if figure.segment is Segment.ALL else f" ({figure.segment})"
    yield f"{told_measure(figure)}, {figure.scope}{whose}"
    other = None if difference.mean is None or figure.value.mean is None else figure.value.mean - difference.mean
    yield _number(figure.value.mean)
    yield _number(other)
    yield (
        "none"
        if difference.mean is None
        else f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
    )
    yield in_words(figure, difference)


def _segment_lines(evaluation: Evaluation, shown: Sequence[Segment]) -> Iterator[str]:
    for segment in shown[1:]:
        customers = max((it.customers for it in evaluation.figures if it.segment is segment), default=0)
        yield f"{segment}: {customers:,} customers who {SEGMENT_BOUNDS[segment]}"


def _coverage_lines(evaluation: Evaluation) -> Iterator[str]:
    told = {listed.list: listed.told for listed in evaluation.lists}
    for covered in evaluation.coverage:
        if covered.places == _SLATE:
            yield (
                f"{told[covered.list]}: the first {covered.places} places of everybody hold {covered.products:,} "
                f"different products, {covered.share:.1%} of the catalog"
            )


def _ranked_by(evaluation: Evaluation) -> Iterator[str]:
    for listed in evaluation.lists:
        if listed.run is not None:
            rows = ", ".join(f"{number:,} by {name.replace('_', ' ')}" for name, number in listed.ranked_by.items())
            yield f"{listed.told} is run {listed.run}: rows ranked {rows or 'none of its own'}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
