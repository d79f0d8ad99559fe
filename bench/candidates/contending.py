"""implicit's models beside ours: the best of a small grid of each, on the same purchases and targets.

Its best setting is chosen on the very split that it is reported on, which is kinder to it than to us.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.candidates.held_out import HeldOut
from bench.folders import ROOT
from bench.stream.environments import environment_of
from pipeline.errors import UnfinishedRunError

_PROGRAM = ROOT / "bench" / "candidates" / "contenders" / "implicit_grid.py"
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Contender:
    """One model with its settings, and the recall of new products in its first hundred."""

    model: str
    settings: str
    recall: float

    def __str__(self) -> str:
        return f"  {self.model:<5}{self.recall:.4f}  {self.settings}"


def best_of_each(held_out: HeldOut, *, quick: bool) -> list[Contender]:
    """The best setting of each of implicit's models, best model first.

    Raises:
        ConfigurationError: its environment cannot be made.
        UnfinishedRunError: its program ended early.
    """
    best: dict[str, Contender] = {}
    for one in _try_all(environment_of("implicit"), question(held_out, quick=quick)):
        if one.model not in best or one.recall > best[one.model].recall:
            best[one.model] = one
    return sorted(best.values(), key=lambda one: one.recall, reverse=True)


def question(held_out: HeldOut, *, quick: bool) -> str:
    """What the program is asked: customers and products as numbers, in the order in which they first came."""
    customers = {one: number for number, one in enumerate(dict.fromkeys(one.customer for one in held_out.known))}
    products = {one: number for number, one in enumerate(dict.fromkeys(one.product for one in held_out.known))}
    wanted = {customers[one]: [products[product] for product in hits] for one, hits in held_out.new.items()}
    return json.dumps(
        {
            "customers": [customers[one.customer] for one in held_out.known],
            "products": [products[one.product] for one in held_out.known],
            "days": [one.days for one in held_out.known],
            "wanted": wanted,
            "quick": quick,
        }
    )


def _try_all(python: Path, asked: str) -> Iterator[Contender]:
    ended = subprocess.run(
        [python, _PROGRAM],
        input=asked,
        stdout=subprocess.PIPE,
        env={**os.environ, **_ONE_THREAD},
        text=True,
        check=False,
    )
    if ended.returncode:
        raise UnfinishedRunError(f"implicit ended with status {ended.returncode}: its own words stand above")
    for line in ended.stdout.splitlines():
        told = json.loads(line)
        model, held = told.pop("model"), told.pop("recall")
        yield Contender(model, ", ".join(f"{name} {value}" for name, value in told.items()), held)
