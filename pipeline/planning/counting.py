"""How many tokens a prompt and its answer have, as far as anybody can tell who has not asked yet."""

from collections.abc import Callable
from typing import Final

from pipeline.domain import Provenance
from pipeline.offline_ranker.answers import token_count
from pipeline.pricing.token_counts import estimated_request_tokens, estimated_tokens
from pipeline.prompts import Prompt

_ROLE_TOKENS: Final = 1  # the offline ranker's, of each message


def prompt_tokens(prompt: Prompt, ranked_by: str) -> int:
    """About how many tokens a request with this prompt has; exactly, where the offline ranker is asked."""
    if ranked_by == Provenance.OFFLINE_RANKER:
        return sum(_ROLE_TOKENS + token_count(message) for message in (prompt.system, prompt.customer))
    return estimated_request_tokens(prompt.system, prompt.customer)


def answer_tokens(rows: int, ranked_by: str) -> int:
    """About how many tokens an answer of so many rows has, in the form that the prompt asks for."""
    count: Callable[[str], int] = token_count if ranked_by == Provenance.OFFLINE_RANKER else estimated_tokens
    return count(compact_answer(rows))


def compact_answer(rows: int) -> str:
    """An answer of so many rows, by number and score."""
    return '{"recommendations":[' + ",".join(f'{{"i":{1 + row * 7 % 50},"s":{95 - row}}}' for row in range(rows)) + "]}"
