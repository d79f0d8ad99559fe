"""What recommendations cost in tokens: the answer by number beside the full object, and what prompts have in common.

Tokens are counted twice, for no vocabulary lies at hand: by the server's rule (four characters) and by our estimate,
which follows how today's vocabularies cut text.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import psycopg

from bench.limits.server_log import ServerLog
from pipeline.database import libpq_url
from pipeline.offline_ranker.answers import token_count
from pipeline.offline_ranker.prompt_cache import PromptCache
from pipeline.pricing.token_counts import estimated_tokens
from pipeline.prompts import Prompt

_ROWS = "SELECT product_id, product_name, relevance_score FROM recommendations WHERE run_id = %s"
_COUNTS: tuple[Callable[[str], int], ...] = (token_count, estimated_tokens)


@dataclass(frozen=True, slots=True)
class OutputTokens:
    """Tokens per recommendation, by number and as the full object; each by the server's rule and by our estimate."""

    compact: tuple[float, float]
    full: tuple[float, float]

    @property
    def worst_share(self) -> float:
        """The compact form's, of the full one's: the worse of both counts."""
        return max(compact / full for compact, full in zip(self.compact, self.full, strict=True))


def output_tokens(url: str, run: str, log: ServerLog) -> OutputTokens:
    """The answers as they were sent, beside the same recommendations written in full."""
    sent = [text for request in log.requests for text in request.objects]
    with psycopg.connect(libpq_url(url)) as connection:
        full = [_full(*row) for row in connection.execute(_ROWS, [run])]
    return OutputTokens(_tokens_each(sent), _tokens_each(full))


def _full(product_id: str, product_name: str, score: float) -> str:
    document = {"product_id": product_id, "product_name": product_name, "relevance_score": round(score, 2)}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _tokens_each(objects: Sequence[str]) -> tuple[float, float]:
    text = ",".join(objects)
    by_rule, by_estimate = (count(text) / len(objects) for count in _COUNTS)
    return by_rule, by_estimate


@dataclass(frozen=True, slots=True)
class Shared:
    """Shares of the input: what all prompts begin with, and what a provider's cache would know of each."""

    in_common_prefix: float
    cached: float


def shared(prompts: Iterable[Prompt]) -> Shared:
    """What these prompts have in common, in the order in which they are asked."""
    texts = [f"{prompt.system}\n\n{prompt.customer}" for prompt in prompts]
    whole = sum(map(len, texts))
    cache = PromptCache()
    cached = sum(cache.cached_tokens(text) for text in texts)
    return Shared(_common_characters(texts) * len(texts) / whole, cached / sum(map(token_count, texts)))


def _common_characters(texts: Sequence[str]) -> int:
    """With how many characters all of them begin: the first and the last in their order differ soonest."""
    pairs = zip(min(texts), max(texts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
