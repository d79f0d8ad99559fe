"""What a difference is called for people who read no intervals."""

import pytest

from pipeline.evaluating.findings import in_words, told_measure
from pipeline.evaluating.report import Figure, Interval
from pipeline.evaluating.vocabulary import Measure, Scope, Segment


def figure(mean: float, customers: int = 100) -> Figure:
    value = Interval(mean, mean, mean)
    return Figure("candidates", Scope.ALL, Segment.COLD, Measure.RECALL, 100, customers, value, {})


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Interval(0.0, 0.0, 0.0), "the same for everybody"),
        (Interval(0.0, -0.1, 0.1), "may be chance"),
        (Interval(0.1, 0.05, 0.15), "2.00 times: better"),
        (Interval(-0.2, -0.3, -0.1), "0.50 times: worse"),
    ],
)
def test_a_difference_is_told_in_words(difference: Interval, said: str) -> None:
    assert in_words(figure(0.2), difference) == said


def test_of_few_nothing_is_concluded() -> None:
    assert in_words(figure(0.2, customers=29), Interval(0.0, 0.0, 0.0)) == "too few: 29"


def test_a_measure_has_one_name_wherever_people_read_it() -> None:
    assert told_measure(figure(0.2)) == "found@100"
