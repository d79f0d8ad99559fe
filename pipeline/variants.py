"""The variants that a run tries against each other, and which of them a customer gets.

**Who gets what.** Every variant draws a number for the customer, exponentially distributed with its share as the rate;
the smallest wins. A variant's chance to win is then its share exactly. The draw is a digest of the names of all
variants, of the variant's own and of the customer's id: the same on every machine and every night. Shares are not in
it. So where one share changes by d, the chance that a customer changes his variant is at most 2·d, however many
variants there are; with d = 0 nobody does, in whatever order they are written. Other names are another experiment:
everybody is drawn anew, independently of the former one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import log
from pathlib import Path

from pipeline.domain import CustomerId
from pipeline.prompts import Templates, load_templates
from pipeline.variant_entries import CONTROL, VariantEntry, share_left

Definition = dict[str, str | float | None]
"""A variant as the ledger keeps it: JSON."""
_DRAWS = 2**64


@dataclass(frozen=True, slots=True)
class Variant:
    """What some of a run's customers get. `model` and `temperature` are None where they are the run's own."""

    name: str
    share: float
    templates: Templates
    model: str | None = None
    temperature: float | None = None

    @property
    def definition(self) -> Definition:
        """What makes this variant, with the version of its prompt; null is the run's own."""
        return {
            "name": self.name,
            "share": self.share,
            "model": self.model,
            "temperature": self.temperature,
            "prompt_version": self.templates.version,
        }


def load_variants(prompt: Path | None, entries: Sequence[VariantEntry] = ()) -> tuple[Variant, ...]:
    """The control, which has the run's own `prompt`, and then every variant that the settings name.

    Raises:
        ConfigurationError: a prompt's templates cannot be used.
    """
    control = Variant(CONTROL, share_left(entries), load_templates(prompt))
    others = (
        Variant(
            entry.name,
            entry.share,
            control.templates if entry.prompt is None else load_templates(entry.prompt),
            entry.model,
            entry.temperature,
        )
        for entry in entries
    )
    return (control, *others)


def variant_of(customer_id: CustomerId, variants: Sequence[Variant]) -> Variant:
    """The variant that this customer gets: always the same one while names and shares are the same."""
    if len(variants) == 1:
        return variants[0]
    names = "\x1f".join(sorted(variant.name for variant in variants))
    salt = blake2b(names.encode(), digest_size=16).digest()
    drawn = ((_draw(salt, variant, customer_id), variant) for variant in variants if variant.share)
    return min(drawn, key=lambda pair: pair[0])[1]


def definitions(variants: Sequence[Variant]) -> list[Definition]:
    """What a run keeps of its variants, in the order of their names; nothing where there is only the control."""
    if len(variants) == 1:
        return []
    return sorted((variant.definition for variant in variants), key=lambda definition: str(definition["name"]))


def _draw(salt: bytes, variant: Variant, customer_id: CustomerId) -> float:
    text = f"{variant.name}\x1f{customer_id}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(blake2b(text, digest_size=8, key=salt).digest(), "big")
    return -log((number + 0.5) / _DRAWS) / variant.share
