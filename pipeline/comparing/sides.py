"""Which two are compared: runs that are there, or variants of them, that can be held against each other."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import RunId
from pipeline.errors import InputError, RunConflictError
from pipeline.runs import Run, find_run


@dataclass(frozen=True, slots=True)
class SideName:
    """A run as it is named, and the variant of it; None is all of the run."""

    run_id: RunId
    variant: str | None = None

    def __str__(self) -> str:
        return str(self.run_id) if self.variant is None else f"{self.run_id}:{self.variant}"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared."""

    name: SideName
    run: Run

    @property
    def model(self) -> str:
        """The model that was asked: the variant's, if it has one of its own."""
        return str(self._own("model") or self.run.model)

    @property
    def prompt_version(self) -> str:
        """The version of the prompt: the variant's, if it has one of its own."""
        return str(self._own("prompt_version") or self.run.prompt_version)

    @property
    def temperature(self) -> float:
        """At which the model was asked: the variant's, if it has one of its own."""
        own = self._own("temperature")
        return self.run.temperature if own is None else float(own)

    def _own(self, key: str) -> str | float | None:
        mine = (definition for definition in self.run.variants if definition["name"] == self.name.variant)
        return next(mine, {}).get(key)


def read_name(text: str) -> SideName:
    """Read `RUN` or `RUN:VARIANT`.

    Raises:
        InputError: it is neither.
    """
    run_id, colon, variant = text.partition(":")
    try:
        name = SideName(RunId(UUID(run_id)), variant or None)
    except ValueError:
        raise InputError(f"{run_id!r} is no id of a run: `recstream runs` shows the last ones") from None
    if colon and not variant:
        raise InputError(f"{text!r} names no variant after the colon: write RUN:VARIANT, or RUN for all of the run")
    return name


async def find_sides(engine: AsyncEngine, first: SideName, second: SideName) -> tuple[Side, Side]:
    """Both runs, as they are now.

    Raises:
        InputError: one is not there, has no such variant, or both are the same or a part of each other.
        RunConflictError: the rows of one were pruned.
    """
    if first.run_id == second.run_id:
        _require_two_variants(first, second)
    return await find_side(engine, first), await find_side(engine, second)


def _require_two_variants(first: SideName, second: SideName) -> None:
    if first.variant == second.variant:
        what = "run" if first.variant is None else f"variant {first.variant!r} of run"
        raise InputError(f"both are the same {what} {first.run_id}: name two runs, or two variants as RUN:VARIANT")
    if first.variant is None or second.variant is None:
        raise InputError(f"{first} and {second}: one is a part of the other: name a variant of each as RUN:VARIANT")


async def find_side(engine: AsyncEngine, name: SideName) -> Side:
    """One run, or a variant of it, as it is now.

    Raises:
        InputError: it is not there, or has no such variant.
        RunConflictError: its rows were pruned.
    """
    run = await find_run(engine, name.run_id)
    if run is None:
        raise InputError(f"there is no run {name.run_id}: `recstream runs` shows the last ones")
    variants = [str(definition["name"]) for definition in run.variants]
    if name.variant is not None and name.variant not in variants:
        has = f"it has {', '.join(variants)}" if variants else "it has none"
        raise InputError(f"run {name.run_id} has no variant {name.variant!r}: {has}")
    if run.pruned_at is not None:
        raise RunConflictError(
            f"the rows of run {name.run_id} were pruned on {run.pruned_at:%Y-%m-%d}, but for slates that readers saw "
            "later than others: what is left says nothing of the whole; compare runs that still have theirs"
        )
    return Side(name, run)
