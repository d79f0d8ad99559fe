"""What the model is told: templates in this folder, versioned by the hash of their content.

The static part comes first and is the same for every customer, so that a provider can cache it.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

from pipeline.domain import Product

MAX_LINE_CHARACTERS = 200
_UNSENDABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, halves of pairs


@dataclass(frozen=True, slots=True)
class Prompt:
    """The two messages of one request. `input_hash` tells whether two requests asked the same."""

    system: str
    customer: str

    @property
    def input_hash(self) -> str:
        """Sixteen hex digits over both messages."""
        return _digest(self.system, self.customer)


def compose(profile_text: str, candidates: Sequence[Product], asked: int) -> Prompt:
    """The prompt that asks for `asked` of the `candidates`, which are numbered from 1 in their order."""
    lines = (f"{number}. {catalog_line(product)}" for number, product in enumerate(candidates, start=1))
    customer = Template(_template("customer")).substitute(
        products="\n".join(lines), profile=_UNSENDABLE.sub(" ", profile_text).strip(), asked=asked
    )
    return Prompt(system=_template("system"), customer=customer)


def catalog_line(product: Product) -> str:
    """One product on one line: name, then brand, category and price where known; bounded in length."""
    price = None if product.price is None else f"{product.price:.2f}"
    fields = (product.name, product.brand, product.category, price)
    line = " | ".join(filter(None, (_one_line(field or "") for field in fields)))
    return line if len(line) <= MAX_LINE_CHARACTERS else f"{line[: MAX_LINE_CHARACTERS - 1]}…"


@cache
def prompt_version() -> str:
    """The version of the templates: the same text has the same version, everywhere."""
    return _digest(_template("system"), _template("customer"))


@cache
def _template(name: str) -> str:
    return (files("pipeline.prompts") / f"{name}.md").read_text(encoding="utf-8").strip()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\x1f".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _one_line(text: str) -> str:
    return " ".join(_UNSENDABLE.sub(" ", text).split())
