"""Makes the prompt of one request out of templates, a profile and candidates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from pipeline.domain import Product
from pipeline.prompts.digest import digest
from pipeline.prompts.templates import Templates

MAX_LINE_CHARACTERS = 200
_UNSENDABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, halves of pairs


@dataclass(frozen=True, slots=True)
class Prompt:
    """The two messages of one request, which asks for `asked` recommendations.

    `input_hash` tells whether two requests asked the same.
    """

    system: str
    customer: str
    asked: int = 10

    @property
    def input_hash(self) -> str:
        """Sixteen hex digits over both messages."""
        return digest(self.system, self.customer)


def compose(templates: Templates, profile_text: str, candidates: Sequence[Product], asked: int) -> Prompt:
    """The prompt that asks for `asked` of the `candidates`, which are numbered from 1 in their order."""
    lines = (f"{number}. {catalog_line(product)}" for number, product in enumerate(candidates, start=1))
    customer = Template(templates.customer).substitute(
        products="\n".join(lines), profile=_UNSENDABLE.sub(" ", profile_text).strip(), asked=asked
    )
    return Prompt(templates.system, customer, asked)


def catalog_line(product: Product) -> str:
    """One product on one line: name, then brand, category and price where known; bounded in length."""
    price = None if product.price is None else f"{product.price:.2f}"
    fields = (product.name, product.brand, product.category, price)
    line = " | ".join(filter(None, (_one_line(field or "") for field in fields)))
    return line if len(line) <= MAX_LINE_CHARACTERS else f"{line[: MAX_LINE_CHARACTERS - 1]}…"


def _one_line(text: str) -> str:
    return " ".join(_UNSENDABLE.sub(" ", text).split())
