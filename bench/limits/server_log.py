"""Reads what the limited server wrote down: the judge of every figure, whoever was the client."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request as the server saw it.

    `refused` by a limit, in whatever form; tokens as it counts them; `objects` are the recommendations that it sent,
    and `ended` is how the answer did, in the server's word.
    """

    customer: str
    refused: bool
    received_at: float
    ended_at: float
    prompt_tokens: int
    cached_tokens: int
    charged_tokens: int
    sent_tokens: int
    objects: Sequence[str] = ()
    ended: str = ""


@dataclass(frozen=True, slots=True)
class ServerLog:
    """All requests of one server, in the order in which they came in."""

    requests: Sequence[ServedRequest]

    @property
    def refused(self) -> int:
        """How many were refused by a limit."""
        return sum(request.refused for request in self.requests)

    @property
    def refused_share(self) -> float:
        """Their share of all; 0 where nobody asked."""
        return self.refused / len(self.requests) if self.requests else 0.0

    @property
    def tokens_used(self) -> int:
        """Prompts read and answers written, of all that was let in."""
        return self.tokens_in + self.tokens_out

    @property
    def tokens_in(self) -> int:
        """Tokens of the prompts that were let in."""
        return sum(request.prompt_tokens for request in self.requests if not request.refused)

    @property
    def tokens_out(self) -> int:
        """Tokens of the answers, as far as they were sent."""
        return sum(request.sent_tokens for request in self.requests)

    def needed_charges(self) -> list[int]:
        """What the first request that was let in counted for, of each customer: more than one is not needed."""
        first: dict[str, int] = {}
        for request in self.requests:
            if not request.refused:
                first.setdefault(request.customer, request.charged_tokens)
        return list(first.values())


def read_server_log(path: Path) -> ServerLog:
    """The log of a server that has ended."""
    with path.open(encoding="utf-8") as lines:
        return ServerLog(sorted(_requests(lines), key=lambda request: request.received_at))


def answered(path: Path) -> int:
    """How many requests a server that goes on has answered so far, refusals not counted."""
    if not path.exists():
        return 0
    with path.open(encoding="utf-8") as lines:
        return sum(f'"ended": "{_REFUSED}"' not in line for line in lines if line.endswith("\n"))


def _requests(lines: Iterator[str]) -> Iterator[ServedRequest]:
    for line in lines:
        told = json.loads(line)
        yield ServedRequest(
            customer=next(iter(told["candidates"].values()), "").partition(" ")[0],
            refused=told["limited"] is not None,
            received_at=told["received_at"],
            ended_at=told["ended_at"],
            prompt_tokens=told["prompt_tokens"],
            cached_tokens=told["cached_tokens"] or 0,
            charged_tokens=told["charged_tokens"],
            sent_tokens=told["sent_tokens"],
            objects=[entry["text"] for entry in told["objects"]],
            ended=told["ended"],
        )
