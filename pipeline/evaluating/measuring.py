"""Judges ranked lists of customers by `ir-measures`, with gains of one, a page of customers at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import ir_measures
import numpy as np
from ir_measures import RR, R, Success, nDCG

from pipeline.domain import CustomerId, ProductId
from pipeline.evaluating.resampling import Matrix
from pipeline.evaluating.vocabulary import At, Measure

_BY_NAME: Final = {
    Measure.RECALL: R,
    Measure.PRECISION: ir_measures.P,
    Measure.NDCG: nDCG,
    Measure.MRR: RR,
    Measure.HIT: Success,
}


def measured(
    targets: Mapping[CustomerId, frozenset[ProductId]],
    lists: Mapping[CustomerId, Sequence[ProductId]],
    measures: Sequence[At],
) -> Matrix:
    """A row for each customer of `targets` in their order, a column for each measure.

    A customer without targets has NaN, one without a list 0.
    """
    values = np.full((len(targets), len(measures)), np.nan)
    wanted = {customer: dict.fromkeys(hits, 1) for customer, hits in targets.items() if hits}
    if not wanted:
        return values
    rows = {customer: row for row, customer in enumerate(targets)}
    columns = {_BY_NAME[at.measure] @ at.places: column for column, at in enumerate(measures)}
    given = {customer: _scores(lists.get(customer, ())) for customer in wanted}
    for found in ir_measures.evaluator(list(columns), wanted).iter_calc(given):
        values[rows[CustomerId(found.query_id)], columns[found.measure]] = found.value
    return values


def _scores(products: Sequence[ProductId]) -> dict[str, float]:
    """The order as scores, for so the library wants it; all differ, so that no tie is its own to break."""
    return dict(_descending(products))


def _descending(products: Sequence[ProductId]) -> Iterator[tuple[str, float]]:
    for place, product in enumerate(products):
        yield product, float(len(products) - place)
