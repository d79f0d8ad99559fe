"""An evaluation in words: which list foretold more than which, by how much, and whether that is more than chance."""

from collections.abc import Iterator

from pipeline.evaluating.report import Evaluation, Figure, Interval, MeasuredList
from pipeline.evaluating.vocabulary import MEASURES_TOLD, Measure, Scope

_FEW = 30  # of fewer customers an interval is too narrow to be trusted
_WHAT = {Scope.NEW: "products new to the customer", Scope.REPEAT: "what he purchased again", Scope.ALL: "all purchases"}


def findings(evaluation: Evaluation) -> list[str]:
    """A line for each list and each that it is held against, over all its places, in its widest scope."""
    return list(_findings(evaluation))


def _findings(evaluation: Evaluation) -> Iterator[str]:
    counted = evaluation.counted
    runs = sum(listed.run is not None for listed in evaluation.lists)
    if runs and not counted.looked_up:
        yield (
            f"nobody who had purchased something before {evaluation.begins:%Y-%m-%d} has a complete slate in "
            f"{'both runs' if runs > 1 else 'the run'}: there is nobody to measure"
        )
        return
    if not counted.scored_all:
        yield (
            f"nobody who had purchased something before {evaluation.begins:%Y-%m-%d} purchased anything by "
            f"{evaluation.until:%Y-%m-%d} that can be measured: there is nothing to tell"
        )
        return
    told = {listed.list: listed.told for listed in evaluation.lists}
    for listed in evaluation.lists:
        figure = _main_figure(evaluation, listed)
        if figure is not None:
            for baseline, difference in figure.less.items():
                yield _finding(listed, figure, told[baseline], difference)


def _main_figure(evaluation: Evaluation, listed: MeasuredList) -> Figure | None:
    """What a list is judged by first: recall among candidates, NDCG of a slate of ten."""
    measure, places = (Measure.NDCG, 10) if listed.run else (Measure.RECALL, evaluation.places)
    widest = evaluation.figure(listed.list, Scope.ALL, measure, places)
    return widest or evaluation.figure(listed.list, Scope.NEW, measure, places)


def told_measure(figure: Figure) -> str:
    """A measure as people read it, and after how many places: found@100."""
    return f"{MEASURES_TOLD[Measure(figure.measure)]}@{figure.places}"


def in_words(figure: Figure, difference: Interval) -> str:
    """What a difference means, for somebody who reads no intervals."""
    if difference.mean is None or figure.value.mean is None:
        return "nobody to tell of"
    if figure.customers < _FEW:
        return f"too few: {figure.customers}"
    if difference.mean == difference.low == difference.high == 0:  # of nobody they differ: no chance in that
        return "the same for everybody"
    if not difference.is_sure:
        return "may be chance"
    other = figure.value.mean - difference.mean
    if difference.mean < 0:
        return f"{figure.value.mean / other:.2f} times: worse"
    return f"{figure.value.mean / other:.2f} times: better" if other else "better"


def _finding(listed: MeasuredList, figure: Figure, baseline: str, difference: Interval) -> str:
    return (
        f"{listed.told}: {told_measure(figure)} of {_WHAT[figure.scope]} {_number(figure.value.mean)}, "
        f"{_signed(difference)} beside {baseline}: {in_words(figure, difference)}"
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _signed(interval: Interval) -> str:
    if interval.mean is None:
        return "none"
    return f"{interval.mean:+.3f} (95% {interval.low:+.3f} to {interval.high:+.3f})"
