"""One request under way as the gate remembers it, and what its answer tells of limits and speed."""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.domain import AnswerRecord
from pipeline.limits.notices import NO_NOTICE, Notice
from pipeline.limits.rate import Sent

_TELLING_TOKENS = 8  # an answer with fewer says nothing of its speed


@dataclass(slots=True, eq=False)
class Request:
    """`tokens` as estimated, `at` when it was sent, the last of `among` under way; `heard` counts its answers' heads.

    `answering` is true once it was let in.
    """

    tokens: float
    requests_sent: Sent
    tokens_sent: Sent
    at: float
    among: int
    answering: bool = False
    heard: int = 0
    notice: Notice = field(default=NO_NOTICE)


def about(request: Request) -> Literal["requests", "tokens"] | None:
    """Which limit the headers of a refusal say is used up; None if neither, or both."""
    requests, tokens = request.notice.requests, request.notice.tokens
    no_requests = requests is not None and requests.remaining is not None and requests.remaining < 1
    no_tokens = tokens is not None and tokens.remaining is not None and tokens.remaining < request.tokens
    if no_requests == no_tokens:
        return None
    return "requests" if no_requests else "tokens"


def speed(record: AnswerRecord) -> float | None:
    """Tokens per second after the first byte, None if that is unknown."""
    if record.whole_s is None or record.first_byte_s is None or record.usage.tokens_out < _TELLING_TOKENS:
        return None
    streamed_s = record.whole_s - record.first_byte_s
    return record.usage.tokens_out / streamed_s if streamed_s > 0 else None
