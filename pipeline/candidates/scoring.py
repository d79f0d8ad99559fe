"""Scores products for one customer by what he has purchased: the weights that lead there, summed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from pipeline.candidates.page import Weights

_NOWHERE: Final[Weights] = ((), ())


def best(owned: Sequence[int], weights: Mapping[int, Weights], without: Collection[int], most: int) -> dict[int, float]:
    """The `most` best numbers with their scores, best first: score(j) = Σ over i in `owned` of W(i→j).

    Of equal scores that comes first which the newest purchase leads to.
    """
    scores: dict[int, float] = {}
    score_of = scores.get
    for number in owned:
        for other, weight in zip(*weights.get(number, _NOWHERE), strict=True):
            scores[other] = score_of(other, 0.0) + weight
    for number in without:
        scores.pop(number, None)
    order = sorted(scores, key=scores.__getitem__, reverse=True)
    return {number: scores[number] for number in order[:most]}
