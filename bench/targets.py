"""How a bench shows its figures: a table of those that must reach something, and one JSON object of all."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class Target:
    """One figure's bound: at most that, or at least that."""

    key: str
    what: str
    bound: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """True where `value` keeps the bound. What could not be measured does not."""
        return isfinite(value) and (value >= self.bound if self.at_least else value <= self.bound)

    def line(self, value: float) -> str:
        """The figure beside its bound."""
        sign = ">=" if self.at_least else "<="
        verdict = "met" if self.is_met(value) else "MISSED"
        return f"{self.key:<24}{value:>10.4g}  {sign} {self.bound:<7g}{verdict:<8}{self.what}"


def table(targets: Sequence[Target], figures: Mapping[str, float]) -> Iterator[str]:
    """A heading, and a line for each target."""
    yield f"{'figure':<24}{'value':>10}  target"
    for target in targets:
        yield target.line(figures[target.key])


def last_line(targets: Sequence[Target], figures: Mapping[str, float]) -> str:
    """All figures as one JSON object: those with a target first, in their order."""
    with_target = {target.key: figures[target.key] for target in targets}
    return json.dumps({key: _rounded(value) for key, value in {**with_target, **figures}.items()})


def _rounded(value: float) -> float | None:
    """Four significant digits; null for what could not be measured."""
    return float(f"{value:.4g}") if isfinite(value) else None
