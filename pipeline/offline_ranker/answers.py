"""Writes a ranking as the text of an answer, and knows where each object of it ends.

Tokens are counted offline, by a rule: four characters are one token.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

CHARACTERS_PER_TOKEN = 4

_OPENING = '{"recommendations":['
_CLOSING = "]}"


class AnswerForm(StrEnum):
    """How an object is written: number and score from 0 to 100, or id, name and score from 0 to 1."""

    COMPACT = "compact"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class AnswerObject:
    """One recommendation as it is written. `spoiled` names the fault that was put into it, if any."""

    candidate: str
    name: str
    score: int
    text: str
    spoiled: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerText:
    """The text of an answer, and the offset just after each object that the length limit leaves whole."""

    text: str
    objects: tuple[AnswerObject, ...]
    ends: tuple[int, ...]
    finish_reason: str

    def complete_objects(self, length: int) -> tuple[AnswerObject, ...]:
        """Return the objects that lie wholly in the first `length` characters."""
        return self.objects[: sum(end <= length for end in self.ends)]


def asked_form(instructions: str) -> AnswerForm:
    """Return the form that is asked for: compact where the keys "i" and "s" are named, else full."""
    return AnswerForm.COMPACT if '"i"' in instructions and '"s"' in instructions else AnswerForm.FULL


def object_text(form: AnswerForm, candidate: str, name: str, score: str | None) -> str:
    """Write one object with `score` as the JSON text of its score, without one for None."""
    fields: dict[str, str] = {}
    if form is AnswerForm.COMPACT:
        fields["i"] = candidate if _is_plain_number(candidate) else _quoted(candidate)
        score_key = "s"
    else:
        fields["product_id"] = _quoted(candidate)
        fields["product_name"] = _quoted(name)
        score_key = "relevance_score"
    if score is not None:
        fields[score_key] = score
    return "{" + ",".join(f'"{key}":{value}' for key, value in fields.items()) + "}"


def score_text(form: AnswerForm, score: int) -> str:
    """Write a score from 0 to 100 as the number that the form wants."""
    return str(score) if form is AnswerForm.COMPACT else f"{score / 100:.2f}"


def answer_text(
    objects: Sequence[AnswerObject], *, before: str = "", after: str = "", max_tokens: int | None = None
) -> AnswerText:
    """Join objects into an answer of at most `max_tokens` tokens, with prose before and after the JSON."""
    text = before + _OPENING
    ends: list[int] = []
    for index, entry in enumerate(objects):
        text += ("," if index else "") + entry.text
        ends.append(len(text))
    text += _CLOSING + after
    limit = len(text) if max_tokens is None else max_tokens * CHARACTERS_PER_TOKEN
    return AnswerText(
        text=text[:limit],
        objects=tuple(objects),
        ends=tuple(end for end in ends if end <= limit),
        finish_reason="stop" if len(text) <= limit else "length",
    )


def tokens(text: str) -> Iterator[str]:
    """Cut text into what this server counts as tokens: four characters each, the last one shorter."""
    return (text[at : at + CHARACTERS_PER_TOKEN] for at in range(0, len(text), CHARACTERS_PER_TOKEN))


def token_count(text: str) -> int:
    """Return how many pieces `tokens` gives."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _is_plain_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or not text.startswith("0"))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
