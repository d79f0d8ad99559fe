"""What an endpoint has been found to take, without I/O: how structured output is asked for, and some parameters.

A ladder: a strict JSON schema, any JSON object, the prompt alone. A refusal that says that a part is not supported
takes that part one step down, once for all streams of the endpoint. There is no way up: a process that lives for months
is restarted when its endpoint has learnt something.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock
from typing import Final, Literal
from urllib.parse import urlsplit

from pipeline.providers import (
    ABOUT_SOMETHING_ELSE,
    FORM_NOT_TAKEN,
    NOT_TAKEN,
    OUT_OF_RANGE,
    PART_NAMES,
    provider_at,
)
from pipeline.refusals import MOST_HEARD, bounded

_log = logging.getLogger(__name__)

MaxTokens = Literal["max_tokens", "max_completion_tokens"]
WantedOutput = Literal["auto", "json_schema", "json_object", "prompt"]
Part = Literal["structured_output", "stream_options", "temperature", "max_tokens", "service_tier"]
_PARTS: Final[tuple[Part, ...]] = ("structured_output", "stream_options", "temperature", "max_tokens", "service_tier")


class StructuredOutput(StrEnum):
    """How the endpoint is asked for JSON, the strictest way first."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    PROMPT = "prompt"


@dataclass(frozen=True, slots=True)
class Offer:
    """What one request offers: how it asks for JSON, and whether it names these parameters at all.

    `max_tokens` are the names by which the endpoint may take a limit of its answer's tokens, the first of which is used
    (none: no limit is named). `room` multiplies that limit, and `reasoning_tokens` are added to it.
    """

    structured_output: StructuredOutput
    stream_options: bool = True
    temperature: bool = True
    max_tokens: tuple[MaxTokens, ...] = ("max_tokens", "max_completion_tokens")
    service_tier: str | None = None
    room: int = 1
    reasoning_tokens: int = 0


# One schema for all customers and nights: candidates in it would defeat the caches of prompts and of grammars.
SCHEMA: Final[Mapping[str, object]] = {
    "type": "object",
    "properties": {
        "recommendations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"i": {"type": "integer"}, "s": {"type": "integer"}},
                "required": ["i", "s"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["recommendations"],
    "additionalProperties": False,
}
_FORMATS: Final[Mapping[StructuredOutput, Mapping[str, object]]] = {
    StructuredOutput.JSON_SCHEMA: {
        "type": "json_schema",
        "json_schema": {"name": "recommendations", "strict": True, "schema": SCHEMA},
    },
    StructuredOutput.JSON_OBJECT: {"type": "json_object"},
}
# Tokens of one object: {"i":12,"s":87}, has nine, laid out over lines seventeen; the full form of the product has 30.5.
_TOKENS_OF_ITEM: Final = 24
_TOKENS_OF_FULL_ITEM: Final = 48
_TOKENS_AROUND: Final = 64  # the list's own brackets, a fence, a sentence
_MOST_ROOM: Final = 8
_WITH_USAGE: Final[Mapping[str, object]] = {"include_usage": True}
_BELOW = {
    StructuredOutput.JSON_SCHEMA: StructuredOutput.JSON_OBJECT,
    StructuredOutput.JSON_OBJECT: StructuredOutput.PROMPT,
}

_REFUSING_STATUSES = {400, 404, 415, 422, 501, None}  # None: the error came in the stream
_NEAR = 90  # characters between a part's name and the words that refuse it
_NAMES = {part: re.compile(rf"(?<![a-z])(?:{names})(?![a-z])") for part, names in PART_NAMES.items()}
_NOT_TAKEN = re.compile(rf"{NOT_TAKEN}|(?P<form>{FORM_NOT_TAKEN})|(?P<range>{OUT_OF_RANGE})")
_TAKES_FORMS: Final = frozenset({"structured_output", "service_tier"})  # parts that are one of several forms
_ELSE = re.compile(ABOUT_SOMETHING_ELSE)
_SENTENCES = re.compile(r"(?<=[.!?;])\s+|\n+")
_QUOTED = re.compile(r"""(?<!\w)(?P<mark>["'`])(?P<quote>[^"'`]*)(?P=mark)(?!\w)|“[^”]*”|«[^»]*»""")
_IS_MESSAGE = re.compile(r"""(?:msg|message|error|detail|description|reason)\\?["']?\s*[:=]\s*\Z""")


def parameters(offer: Offer, asked: int | None = None) -> Mapping[str, object]:
    """The arguments of a request that the offer stands for; none that it does not name.

    `asked` is how many recommendations are asked for; None names no limit of the answer. What is in the arguments is
    shared by all requests: it is to be read only.
    """
    arguments: dict[str, object] = {}
    if offer.structured_output in _FORMATS:
        arguments["response_format"] = _FORMATS[offer.structured_output]
    if offer.stream_options:
        arguments["stream_options"] = _WITH_USAGE
    if asked is not None and (most := most_output_tokens(offer, asked)) is not None:
        arguments[offer.max_tokens[0]] = most
    if offer.service_tier is not None:
        arguments["service_tier"] = offer.service_tier
    return arguments


def most_output_tokens(offer: Offer, asked: int) -> int | None:
    """The limit of its answer that a request for so many recommendations names; None where it names none."""
    if not offer.max_tokens:
        return None
    is_compact = offer.structured_output is StructuredOutput.JSON_SCHEMA
    of_item = _TOKENS_OF_ITEM if is_compact else _TOKENS_OF_FULL_ITEM
    return (_TOKENS_AROUND + asked * of_item) * offer.room + offer.reasoning_tokens * offer.room


class Terms:
    """What one endpoint takes. All streams of the endpoint share one, whatever their loop or thread."""

    def __init__(
        self,
        base_url: str,
        wanted: StructuredOutput | WantedOutput = "auto",
        *,
        service_tier: str | None = None,
        reasoning_tokens: int = 0,
    ) -> None:
        provider = provider_at(base_url)
        first = StructuredOutput(provider.structured_output if wanted == "auto" else wanted)
        self._host = _host(base_url)
        self._offer = Offer(
            first,
            stream_options=provider.stream_options,
            max_tokens=provider.max_tokens,
            service_tier=service_tier,
            reasoning_tokens=reasoning_tokens,
        )
        self._lock = Lock()

    def offer(self) -> Offer:
        """What to offer in the next request."""
        return self._offer

    def more_room(self, offered: Offer) -> bool:
        """Take in that an answer ended at the limit that it was offered; True if the next may be longer.

        Streams that report the same offer cause one step, as in `step_down`.
        """
        with self._lock:
            if self._offer.room == offered.room < _MOST_ROOM and offered.max_tokens:
                self._offer = replace(self._offer, room=offered.room * 2)
                _log.warning("an answer of %s ended at its limit: the next may be twice as long", self._host)
            return self._offer.room > offered.room

    def step_down(self, offered: Offer, status: int | None, words: str) -> bool:
        """Take in a refusal; True if the request is worth sending again, with what `offer` says now.

        `status` is the HTTP status, None for an error inside a stream; `words` are the endpoint's own. Streams that
        report the same refusal of the same offer cause one step. Each True means that the offer is lower than the
        one refused, so asking again comes to an end after seven refusals.
        """
        if status not in _REFUSING_STATUSES:
            return False
        named = _refused_parts(words)
        refused = [part for part in _PARTS if part in named and _has(offered, part)]
        with self._lock:
            for part in refused:
                if getattr(self._offer, part) == getattr(offered, part):
                    self._offer = _without(self._offer, part)
                    _log.warning("%s refuses %s: %s", self._host, _step(offered, self._offer, part), bounded(words))
        return bool(refused)


def _host(base_url: str) -> str:
    """The endpoint's host for the log: an address may hold a password."""
    try:
        return urlsplit(base_url).hostname or "the endpoint"
    except ValueError:
        return "the endpoint"


def _has(offer: Offer, part: Part) -> bool:
    value = getattr(offer, part)
    return bool(value) if part != "structured_output" else value in _BELOW


def _without(offer: Offer, part: Part) -> Offer:
    match part:
        case "structured_output":
            return replace(offer, structured_output=_BELOW[offer.structured_output])
        case "stream_options":
            return replace(offer, stream_options=False)
        case "temperature":
            return replace(offer, temperature=False)
        case "max_tokens":
            return replace(offer, max_tokens=offer.max_tokens[1:])
        case "service_tier":
            return replace(offer, service_tier=None)


def _step(offered: Offer, now: Offer, part: Part) -> str:
    if part == "structured_output":
        return f"{offered.structured_output}, so it is asked by {now.structured_output} from now on"
    if part == "max_tokens" and now.max_tokens:
        return f"{offered.max_tokens[0]}, so it is asked by {now.max_tokens[0]} from now on"
    return f"{part}, so it is asked without from now on"


def _refused_parts(words: str) -> set[str]:
    """The parts of the request that these words say are not taken; none if the refusal is about something else."""
    said = _without_quotes(words[:MOST_HEARD].lower())
    if _ELSE.search(said):
        return set()
    return {part for sentence in _SENTENCES.split(said) for part in _refused_in(sentence)}


def _refused_in(sentence: str) -> Iterator[str]:
    """For each refusal in the sentence, the part whose name stands nearest to it."""
    names = [(part, name) for part, pattern in _NAMES.items() for name in pattern.finditer(sentence)]
    for refusal in _NOT_TAKEN.finditer(sentence) if names else ():
        distance, part = min((_distance(name, refusal), part) for part, name in names)
        if distance <= _NEAR and _can_be_refused_so(part, refusal):
            yield part


def _can_be_refused_so(part: str, refusal: re.Match[str]) -> bool:
    if refusal["form"]:
        return part in _TAKES_FORMS
    return part == "max_tokens" or not refusal["range"]


def _distance(name: re.Match[str], refusal: re.Match[str]) -> int:
    return max(refusal.start() - name.end(), name.start() - refusal.end(), 0)


def _without_quotes(words: str) -> str:
    """The words without what they quote: sentences between marks may be the customer's, echoed by the endpoint."""
    return "".join(_own_words(words))


def _own_words(words: str) -> Iterator[str]:
    end = 0
    for quote in _QUOTED.finditer(words):
        yield words[end : quote.start()]
        end = quote.end()
        is_name = not re.search(r"\s", quote[0])
        if is_name or _IS_MESSAGE.search(words, max(0, quote.start() - 30), quote.start()):
            yield quote[0]
    yield words[end:]
