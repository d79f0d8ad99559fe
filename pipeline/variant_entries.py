"""Reads `[[variants]]` of the settings: what each is called, how many customers it gets, and what it has of its own."""

from collections.abc import Sequence
from difflib import get_close_matches
from math import fsum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

CONTROL = "control"
"""The variant of whoever no other gets: the run's own model, prompt and temperature."""
_ROUNDING = 1e-9  # 0.1 + 0.2 + 0.7 is a little more than 1
_FORM = "write each as [[variants]] with name, share and any of model, prompt, temperature"


class VariantEntry(BaseModel):
    """One variant as a person writes it. What it does not name it has from the run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")]
    share: float = Field(gt=0, le=1, allow_inf_nan=False, strict=True)
    model: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    prompt: Path | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False, strict=True)


def read_entries(given: object) -> tuple[VariantEntry, ...]:
    """The variants that a settings file names.

    Raises:
        ValueError: one line that says which entry is wrong, and how.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError(_FORM)  # noqa: TRY004 - pydantic turns a ValueError into a setting's problem
    entries = tuple(_entry(number, one) for number, one in enumerate(given, start=1))
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there {names.count(name)} times: give each variant a name of its own")
    total = fsum(entry.share for entry in entries)
    if total > 1 + _ROUNDING:
        raise ValueError(f"their shares come to {total:g}, more than 1: lower some, {CONTROL!r} gets what they leave")
    return entries


def share_left(entries: Sequence[VariantEntry]) -> float:
    """The share of customers that these variants leave to the control."""
    left = 1 - fsum(entry.share for entry in entries)
    return left if left > _ROUNDING else 0.0


def _entry(number: int, given: object) -> VariantEntry:
    if isinstance(given, VariantEntry):
        return given
    try:
        entry = VariantEntry.model_validate(given)
    except ValidationError as error:
        raise ValueError(f"entry {number}: {_first_problem(error)}") from None
    if entry.name == CONTROL:
        raise ValueError(f"entry {number}: {CONTROL!r} is the name of those that no variant gets: take another")
    return entry


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    if not problem["loc"]:
        return _FORM
    key = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"it has no {key}: {_FORM}"
    if problem["type"] == "extra_forbidden":
        known = list(VariantEntry.model_fields)
        near = get_close_matches(key, known, n=1)
        meant = f"did you mean {near[0]!r}" if near else f"it may have {', '.join(known)}"
        return f"unknown key {key!r}: {meant}?" if near else f"unknown key {key!r}: {meant}"
    if problem["type"] == "string_pattern_mismatch":
        return f"{key}: at most 40 letters, digits, '-', '_' and '.', a letter or digit first"
    return f"{key}: {problem['msg']}"
