"""Tunes the recipe to the shop: chosen on an earlier window, confirmed on a later one, on neither that `eval` uses."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from math import nan
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from pipeline.candidates.recipe import CandidateRecipe
from pipeline.errors import InputError
from pipeline.evaluating.measuring_candidates import Way
from pipeline.evaluating.report import Interval
from pipeline.evaluating.resampling import Estimate, Matrix, Resampling
from pipeline.evaluating.searching import best_recipe
from pipeline.evaluating.splits import Span, Split, split_of
from pipeline.evaluating.trials import Trials

_ALL: Final = 0  # the columns of a trial
_NEW: Final = 1
_FEW: Final = 30  # customers whose interval is not to be trusted


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning came to.

    `gain` is what `found` finds more than `before` on the confirming window, as a share of all that a customer
    purchased; `gain_new` of what was new to him. Both are 0 where no better recipe was found to be confirmed.
    `loses_new`: it surely finds less of what is new, which no gain in what is bought again makes up for.
    """

    before: CandidateRecipe
    found: CandidateRecipe
    is_better: bool
    loses_new: bool
    chosen_on: Split
    confirmed_on: Split
    customers: int
    trials: int
    recall_before: float | None
    gain: Interval
    gain_new: Interval

    @property
    def recipe(self) -> CandidateRecipe:
        """The better one, if that is sure; else the one before."""
        return self.found if self.is_better else self.before

    @property
    def changed(self) -> dict[str, tuple[float, float]]:
        """The numbers that differ: before, and found."""
        before, found = self.before.model_dump(), self.found.model_dump()
        return {name: (before[name], found[name]) for name in before if before[name] != found[name]}


@dataclass(slots=True)
class Budget:
    """How long may be tried: a number of trials and of seconds, whichever is used up first."""

    trials: int
    seconds: float
    used: int = 0
    _began: float = 0.0

    def __post_init__(self) -> None:
        self._began = time.monotonic()

    def is_left(self) -> bool:
        """Whether another trial may begin; the last one may end later than the budget."""
        return self.used < self.trials and time.monotonic() - self._began < self.seconds


@dataclass(frozen=True, slots=True)
class Share:
    """How much a recipe finds of all purchases, and of those new to the customer (NaN: no such), from 0 to 1."""

    of_all: float
    of_new: float

    def worth_beside(self, before: "Share") -> float:
        """What it finds of all; nothing where it finds less of what is new than the recipe before."""
        return 0.0 if self.of_new < before.of_new else self.of_all


def share_found(recall: Matrix) -> Share:
    """The means over customers of a trial's two columns: each customer's recall of all, and of new ones or NaN."""
    new = recall[:, _NEW]
    new = new[~np.isnan(new)]
    return Share(float(recall[:, _ALL].mean()), float(new.mean()) if len(new) else nan)


def windows(span: Span, *, days: int, zone: ZoneInfo) -> tuple[Split, Split]:
    """Where to choose and where to confirm: the two windows before the last `days`, which are left to `eval`.

    Raises:
        InputError: the shop's history is too short for three windows, or reaches into the future.
    """
    if span.last + timedelta(days=1) - timedelta(days=3 * days) <= span.first:
        raise InputError(
            f"three windows of {days} days need purchases before them, and the first one is of {span.first:%Y-%m-%d}: "
            "take fewer --days"
        )
    last = split_of(span, begins=None, days=days, zone=zone)
    confirming = split_of(span, begins=last.begins - timedelta(days=days), days=days, zone=zone)
    choosing = split_of(span, begins=last.begins - timedelta(days=2 * days), days=days, zone=zone)
    return choosing, confirming


def tuned_recipe(
    url: str,
    way: Way,
    splits: tuple[Split, Split],
    *,
    zone: ZoneInfo,
    budget: Budget,
    seed: int,
    tell: Callable[[str], None],
) -> Tuned:
    """Look for a recipe that finds more than the one in force, and see whether it does on the later window too.

    Raises:
        InputError: a window has nobody to tune by.
        DatabaseError: a build failed, or the connection was lost. No build is left, also after an interruption.
    """
    choosing, confirming = splits
    with Trials(url, choosing, way, zone.key, tell) as trials:
        tell(f"trying recipes on {trials.customers:,} customers, {_told(choosing)}")
        found = best_recipe(way.recipe, _worth(trials, way.recipe, budget, tell), may_go_on=budget.is_left)
    if found == way.recipe:
        return _nothing_better(found, splits, budget)
    tell(f"confirming the best of {budget.used} on a later window, {_told(confirming)}")
    with Trials(url, confirming, way, zone.key, tell) as trials:
        sampled = _confirmed(trials.recall(way.recipe), trials.recall(found), seed)
    gain, gain_new = sampled.difference(2 + _ALL, _ALL), sampled.difference(2 + _NEW, _NEW)
    loses_new = gain_new.high is not None and gain_new.high < 0
    return Tuned(
        before=way.recipe,
        found=found,
        is_better=gain.low is not None and gain.low > 0 and gain.customers >= _FEW and not loses_new,
        loses_new=loses_new,
        chosen_on=choosing,
        confirmed_on=confirming,
        customers=gain.customers,
        trials=budget.used,
        recall_before=sampled.estimate(_ALL).mean,
        gain=_interval(gain),
        gain_new=_interval(gain_new),
    )


def _nothing_better(recipe: CandidateRecipe, splits: tuple[Split, Split], budget: Budget) -> Tuned:
    none = Interval(0.0, 0.0, 0.0)
    return Tuned(
        before=recipe,
        found=recipe,
        is_better=False,
        loses_new=False,
        chosen_on=splits[0],
        confirmed_on=splits[1],
        customers=0,
        trials=budget.used,
        recall_before=None,
        gain=none,
        gain_new=none,
    )


def _worth(
    trials: Trials, before: CandidateRecipe, budget: Budget, tell: Callable[[str], None]
) -> Callable[[CandidateRecipe], float]:
    found: list[Share] = []

    def worth(recipe: CandidateRecipe) -> float:
        budget.used += 1
        found.append(share_found(trials.recall(recipe)))
        told = f"{found[-1].of_all:.4f} of all purchases found, {found[-1].of_new:.4f} of new ones"
        tell(f"trial {budget.used}: {told}, {_difference(before, recipe)}")
        return found[-1].worth_beside(found[0])  # the recipe before is the first that is asked for

    return worth


def _confirmed(before: Matrix, found: Matrix, seed: int) -> Resampling:
    resampling = Resampling(4, seed=seed)
    resampling.add(np.concatenate((before, found), axis=1))
    return resampling


def _difference(before: CandidateRecipe, recipe: CandidateRecipe) -> str:
    was, now = before.model_dump(), recipe.model_dump()
    return ", ".join(f"{name} {now[name]:g}" for name in now if now[name] != was[name]) or "the recipe in force"


def _told(split: Split) -> str:
    return f"purchases from {split.begins:%Y-%m-%d} to {split.until:%Y-%m-%d}"


def _interval(estimate: Estimate) -> Interval:
    return Interval(estimate.mean, estimate.low, estimate.high)
