"""Reads the body of a chat completion request.

A request that asks for something which would change the shape of the answer (several choices, tools, log
probabilities, stop texts) is refused; parameters that only tune sampling (temperature, seed, penalties) are
accepted and have no effect, because nothing is sampled.
"""

import json
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from pipeline.offline_ranker.answers import token_count
from pipeline.offline_ranker.wire import MODEL, WireError, unknown_model


class TextPart(BaseModel):
    """One text of a message that is written in parts."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of the conversation."""

    role: str
    content: str | Sequence[TextPart] | None = None

    @property
    def text(self) -> str:
        """The whole text of the message."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or ())


class StreamOptions(BaseModel):
    """What a streamed answer carries beside its text."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions. Keys that are not named here have no effect."""

    model_config = ConfigDict(frozen=True)

    model: str
    messages: Sequence[Message] = Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    n: int | None = 1
    tools: JsonValue = None
    functions: JsonValue = None
    logprobs: JsonValue = None
    stop: JsonValue = None
    audio: JsonValue = None
    response_format: JsonValue = None
    user: str | None = None
    service_tier: str | None = None

    @property
    def token_limit(self) -> int | None:
        """The most tokens that the answer may have, None for no limit."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def prompt_text(self) -> str:
        """What the customer's messages say; all messages where there is none from the user."""
        chosen = [message for message in self.messages if message.role == "user"] or self.messages
        return "\n\n".join(message.text for message in chosen)

    @property
    def whole_text(self) -> str:
        """Every message, in order: what a cache of prompts compares."""
        return "\n\n".join(message.text for message in self.messages)

    @property
    def instructions(self) -> str:
        """All that may say how to write the answer: every message, and the schema that comes along."""
        schema = json.dumps(self.response_format, ensure_ascii=False)
        return "\n".join([*(message.text for message in self.messages), schema])


def read_chat_request(body: bytes) -> ChatRequest:
    """Read a request body; WireError with one sentence for a body that this server cannot answer."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise validation_refusal(error) from error
    if request.model != MODEL:
        raise unknown_model(request.model)
    _refuse_other_shapes(request)
    return request


def validation_refusal(error: ValidationError) -> WireError:
    """Turn the first complaint of a validation into a 400 of one sentence."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return WireError(400, f"The body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}.")
    param = ".".join(map(str, first["loc"])) or "body"
    return WireError(400, f"{param}: {first['msg']}.", param=param)


def prompt_token_count(request: ChatRequest) -> int:
    """Return the tokens of all messages, each of which begins with a token for its role."""
    return sum(1 + token_count(message.text) for message in request.messages)


def _refuse_other_shapes(request: ChatRequest) -> None:
    if request.n not in {None, 1}:
        raise WireError(400, f"n is {request.n}, but this server gives one choice; leave n out.", param="n")
    for key in ("tools", "functions", "logprobs", "stop", "audio"):
        if getattr(request, key):
            raise WireError(400, f"{key} is not supported by this server; leave it out.", param=key)
