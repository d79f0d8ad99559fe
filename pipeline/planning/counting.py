"""How many tokens a prompt and its answer have, as far as anybody can tell who has not asked yet."""

from pipeline.pricing.token_counts import estimated_request_tokens, estimated_tokens
from pipeline.prompts import Prompt


def prompt_tokens(prompt: Prompt) -> int:
    """About how many tokens a request with this prompt has."""
    return estimated_request_tokens(prompt.system, prompt.customer)


def answer_tokens(rows: int) -> int:
    """About how many tokens an answer of so many rows has, in the form that the prompt asks for."""
    return estimated_tokens(compact_answer(rows))


def compact_answer(rows: int) -> str:
    """An answer of so many rows, by number and score."""
    return '{"recommendations":[' + ",".join(f'{{"i":{1 + row * 7 % 50},"s":{95 - row}}}' for row in range(rows)) + "]}"
