"""Adds up, page by page, how the lists of customers did: measures by scope and segment, and what the lists cover."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

import numpy as np

from pipeline.domain import CustomerId, ProductId
from pipeline.evaluating.lists import ListName, Lists, Ranked
from pipeline.evaluating.measuring import measured
from pipeline.evaluating.report import Counted, Coverage, Figure, Interval
from pipeline.evaluating.resampling import Estimate, Matrix, Resampling
from pipeline.evaluating.shoppers import Shopper
from pipeline.evaluating.vocabulary import CUTS, At, Measure, Scope, Segment, slate_measures

Column = tuple[str, Scope, At]

_SEGMENTS: Final = (Segment.ALL, Segment.COLD, Segment.LIGHT, Segment.HEAVY)


class Tally:
    """What is known after the customers that were added. `places` is how deep a list of candidates is."""

    def __init__(self, names: Sequence[ListName], *, places: int, seed: int, slates: bool) -> None:
        self._names = names
        self._measures = {name.key: tuple(dict.fromkeys(_measures(places, slates=slates))) for name in names}
        self._columns: dict[Column, int] = {column: number for number, column in enumerate(self._all_columns())}
        self._segments = {segment: Resampling(len(self._columns), seed=seed) for segment in _SEGMENTS}
        self._covered: dict[tuple[str, int], set[ProductId]] = {
            (name.key, cut): set() for name in names if slates and Scope.ALL in name.scopes for cut in CUTS
        }
        self._counts = dict.fromkeys(("looked_up", "cold", "targets_new", "targets_repeat", "never_sold", *Scope), 0)
        self._against = {name.key: name.against for name in names}
        self._of = {name.key: name.of for name in names}

    def add(self, page: Sequence[Shopper], lists: Lists) -> None:
        """Add the customers of one page."""
        self._count(page)
        self._cover(lists)
        scored = [shopper for shopper in page if shopper.targets.of(Scope.ALL)]
        if scored:
            values = self._values(scored, lists)
            for segment, resampling in self._segments.items():
                resampling.add(values[[_is_in(shopper, segment) for shopper in scored]])

    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in the order of the lists."""
        return tuple(
            self._figure(column, segment, resampling)
            for column in self._columns
            for segment, resampling in self._segments.items()
        )

    def coverage(self, catalog: int) -> tuple[Coverage, ...]:
        """What the first places of all customers' lists cover of so many products."""
        return tuple(
            Coverage(name, cut, len(products), len(products) / catalog if catalog else 0.0)
            for (name, cut), products in self._covered.items()
        )

    def counted(self, catalog: int, sold_before: int) -> Counted:
        """Whom and what was met."""
        counts = self._counts
        return Counted(
            looked_up=counts["looked_up"],
            scored_new=counts[Scope.NEW],
            scored_repeat=counts[Scope.REPEAT],
            scored_all=counts[Scope.ALL],
            cold=counts["cold"],
            targets_new=counts["targets_new"],
            targets_repeat=counts["targets_repeat"],
            targets_never_sold=counts["never_sold"],
            catalog=catalog,
            sold_before=sold_before,
        )

    def _all_columns(self) -> Iterator[Column]:
        for name in self._names:
            for scope in name.scopes:
                yield from ((name.key, scope, at) for at in self._measures[name.key])

    def _values(self, scored: Sequence[Shopper], lists: Lists) -> Matrix:
        """A row for each customer, a column for each list, scope and measure."""
        empty: Ranked = {}
        parts = [
            measured(_targets(scored, name, scope, lists), lists.get((name.key, scope), empty), at)
            for name, at in zip(self._names, self._measures.values(), strict=True)
            for scope in name.scopes
        ]
        return np.concatenate(parts, axis=1)

    def _count(self, page: Sequence[Shopper]) -> None:
        counts = self._counts
        for shopper in page:
            targets = shopper.targets
            counts["never_sold"] += shopper.never_sold
            if targets.segment is Segment.COLD:
                counts["cold"] += bool(targets.new)
                continue
            counts["looked_up"] += 1
            counts["targets_new"] += len(targets.new)
            counts["targets_repeat"] += len(targets.repeat)
            for scope in Scope:
                counts[scope] += bool(targets.of(scope))

    def _cover(self, lists: Lists) -> None:
        for name, cut in self._covered:
            ranked = lists.get((name, Scope.ALL), {})
            self._covered[name, cut].update(chain.from_iterable(products[:cut] for products in ranked.values()))

    def _figure(self, column: Column, segment: Segment, resampling: Resampling) -> Figure:
        name, scope, at = column
        estimate = resampling.estimate(self._columns[column])
        return Figure(
            list=name,
            scope=scope,
            segment=segment,
            measure=at.measure,
            places=at.places,
            customers=estimate.customers,
            value=_interval(estimate),
            less=dict(self._less(column, resampling)),
        )

    def _less(self, column: Column, resampling: Resampling) -> Iterator[tuple[str, Interval]]:
        name, scope, at = column
        for baseline in self._against[name]:
            other = self._columns.get((baseline, scope, at))
            if other is not None:
                same = self._of[name] == self._of[baseline]
                difference = resampling.difference if same else resampling.difference_of_groups
                yield baseline, _interval(difference(self._columns[column], other))


def _targets(
    scored: Sequence[Shopper], name: ListName, scope: Scope, lists: Lists
) -> Mapping[CustomerId, frozenset[ProductId]]:
    """What each of them purchased; nothing where he does not count for this list."""
    counted = None if name.of is None else lists[name.of, Scope.ALL]
    nothing: frozenset[ProductId] = frozenset()
    return {
        it.customer_id: it.targets.of(scope) if counted is None or it.customer_id in counted else nothing
        for it in scored
    }


def _measures(places: int, *, slates: bool) -> Iterator[At]:
    yield At(Measure.RECALL, places)
    if slates:
        yield from slate_measures()


def _is_in(shopper: Shopper, segment: Segment) -> bool:
    own = shopper.targets.segment
    return own is not Segment.COLD if segment is Segment.ALL else own is segment


def _interval(estimate: Estimate) -> Interval:
    return Interval(estimate.mean, estimate.low, estimate.high)
