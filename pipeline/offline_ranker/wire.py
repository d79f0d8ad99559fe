"""Every document that this server sends on the OpenAI wire: answers whole and streamed, models, errors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

MODEL = "offline-ranker"
FINGERPRINT = "offline-ranker: word overlap, not a language model"
DONE = b"data: [DONE]\n\n"


class WireError(Exception):
    """A request that is answered with an error document."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.document = error_document(message, kind=kind, param=param, code=code)
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one exchange."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None

    def document(self) -> dict[str, JsonValue]:
        """Return the `usage` object, with the cached tokens where the server keeps a cache of prompts."""
        document: dict[str, JsonValue] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        if self.cached_tokens is not None:
            document["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        return document


def unknown_model(name: str) -> WireError:
    """Return the refusal of a model that is not here."""
    message = f"The model '{name}' does not exist here; the only one is '{MODEL}'."
    return WireError(404, message, param="model", code="model_not_found")


def error_document(
    message: str, *, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, JsonValue]:
    """Return an error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def model_document() -> dict[str, JsonValue]:
    """Return the one model that there is."""
    return {"id": MODEL, "object": "model", "created": 0, "owned_by": "recstream", "description": FINGERPRINT}


def completion_document(
    request_id: str, created: int, content: str, finish_reason: str, usage: Usage, service_tier: str | None
) -> dict[str, JsonValue]:
    """Return a whole answer."""
    choice: dict[str, JsonValue] = {
        "index": 0,
        "message": {"role": "assistant", "content": content, "refusal": None},
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    head = _head("chat.completion", request_id, created, service_tier)
    return {**head, "choices": [choice], "usage": usage.document()}


def event(document: Mapping[str, JsonValue]) -> bytes:
    """Return one server-sent event."""
    return f"data: {_compact(document)}\n\n".encode()


class ChunkWriter:
    """Writes the events of one streamed answer."""

    def __init__(self, request_id: str, created: int, *, include_usage: bool, service_tier: str | None) -> None:
        self._head = _head("chat.completion.chunk", request_id, created, service_tier)
        self._include_usage = include_usage
        # A stream has one event a token: all but the text is written once.
        before, after = self._chunk({"content": "\0"}, None).decode().split(json.dumps("\0"))
        self._before_text, self._after_text = before, after

    def opening(self) -> bytes:
        """Return the event that names the role."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def text(self, delta: str) -> bytes:
        """Return the event of one piece of the answer."""
        return f"{self._before_text}{json.dumps(delta, ensure_ascii=False)}{self._after_text}".encode()

    def closing(self, finish_reason: str, usage: Usage) -> bytes:
        """Return the events that end a stream: the reason, the usage where it was asked for, and [DONE]."""
        reason = self._chunk({}, finish_reason)
        if not self._include_usage:
            return reason + DONE
        return reason + event({**self._head, "choices": [], "usage": usage.document()}) + DONE

    def _chunk(self, delta: dict[str, JsonValue], finish_reason: str | None) -> bytes:
        choice: dict[str, JsonValue] = {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        usage: dict[str, JsonValue] = {"usage": None} if self._include_usage else {}
        return event({**self._head, "choices": [choice], **usage})


def _head(kind: str, request_id: str, created: int, service_tier: str | None) -> dict[str, JsonValue]:
    """The tier is told to those who asked for one: what was left to the server is its default."""
    tier: dict[str, JsonValue] = (
        {} if service_tier is None else {"service_tier": service_tier.replace("auto", "default")}
    )
    return {
        "id": f"chatcmpl-{request_id}",
        "object": kind,
        "created": created,
        "model": MODEL,
        "system_fingerprint": FINGERPRINT,
        **tier,
    }


def _compact(document: Mapping[str, JsonValue]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
