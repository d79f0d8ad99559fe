"""What one event of a chat completion says, without I/O: text, usage, an ending, or an error.

Wire: OpenAI's `chat.completion.chunk` and `chat.completion` objects, and the `{"error": ...}` object instead of either.
Only choice 0 is ours. Reasoning fields are never read as answer.
"""

import re
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from pipeline.domain import Usage
from pipeline.errors import (
    AnswerCutError,
    EndpointFatalError,
    EndpointRefusedError,
    PromptRefusedError,
    RateLimitedError,
)

DONE = b"[DONE]"
MAX_WORDS = 300
MAX_TOKENS = 10**9  # no answer has more: a greater count is a mistake
_FATAL_STATUSES = {401, 402, 403, 404}
_FATAL_CODES = {"insufficient_quota", "invalid_api_key", "model_not_found", "account_deactivated"}
_ONE_PROMPT_CODES = {"context_length_exceeded", "string_above_max_length", "content_filter", "content_policy_violation"}
_ADVICE = {
    401: "check OPENAI_API_KEY",
    403: "check what OPENAI_API_KEY may do",
    404: "check RECSTREAM_MODEL and OPENAI_BASE_URL",
    429: "wait, or ask for less at a time",
}


@dataclass(frozen=True, slots=True)
class Delta:
    """What one event adds; empty where it says nothing."""

    text: str = ""
    refusal: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None


def read_delta(data: bytes) -> Delta:
    """Read one event's data, or the whole body of an answer that did not stream.

    Raises:
        EndpointRefusedError: the event carries an error.
        AnswerCutError: the data is not the JSON object it should be.
    """
    try:
        body = from_json(data)
    except ValueError as error:
        raise AnswerCutError(f"the endpoint sent something that is not JSON: {_bounded(data)!r}") from error
    if not isinstance(body, dict):
        raise AnswerCutError(f"the endpoint sent something that is not a JSON object: {_bounded(data)!r}")
    if body.get("error"):
        raise refusal_of(body["error"], status=None, retry_after=None)
    choice = _own_choice(body)
    message = _mapping(choice.get("delta")) or _mapping(choice.get("message"))
    return Delta(
        text=_text(message.get("content")),
        refusal=_text(message.get("refusal")),
        finish_reason=_text(choice.get("finish_reason")) or None,
        usage=_usage(body.get("usage")),
        model=_text(body.get("model")) or None,
    )


def refusal_of(error: object, *, status: int | None, retry_after: float | None) -> EndpointRefusedError:
    """Our error for an endpoint's error object, with its own words (bounded)."""
    fields = error if isinstance(error, dict) else {"message": str(error)}
    code = fields.get("code")
    words = _bounded(str(fields.get("message") or code or error))
    status = _status_in(code) if status is None else status
    where = f"the endpoint answered {status}" if status is not None else "the endpoint sent an error in its stream"
    advice = "" if status not in _ADVICE else f" ({_ADVICE[status]})"
    kind = _refusal_kind(status, {str(code), str(fields.get("type"))})
    return kind(f"{where}: {words}{advice}", status=status, retry_after=retry_after)


def _status_in(code: object) -> int | None:
    """The HTTP status that some endpoints give as an error's code."""
    return int(str(code)) if re.fullmatch(r"[45]\d\d", str(code), re.ASCII) else None


def _refusal_kind(status: int | None, codes: set[str]) -> type[EndpointRefusedError]:
    if status in _FATAL_STATUSES or codes & _FATAL_CODES:
        return EndpointFatalError
    if codes & _ONE_PROMPT_CODES:
        return PromptRefusedError
    if status == 429 or any("rate_limit" in code for code in codes):
        return RateLimitedError
    if status is not None and status not in {408, 409, 425} and status < 500:
        return PromptRefusedError
    return EndpointRefusedError


def _own_choice(body: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    if not isinstance(choices, list):
        return {}
    return next((choice for choice in choices if isinstance(choice, dict) and not choice.get("index")), {})


def _usage(reported: object) -> Usage | None:
    if not isinstance(reported, dict):
        return None
    details = _mapping(reported.get("prompt_tokens_details"))
    return Usage(
        tokens_in=_count(reported.get("prompt_tokens")),
        tokens_out=_count(reported.get("completion_tokens")),
        tokens_cached=_count(details.get("cached_tokens")),
    )


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= MAX_TOKENS else 0


def _bounded(words: str | bytes) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    text = " ".join(text.split())
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"
