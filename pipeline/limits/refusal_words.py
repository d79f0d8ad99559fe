"""Reads what a refusal is about from its words: requests a minute, tokens a minute, or requests at a time."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.limits.notices import MINUTE_S, MOST_ALLOWED, Allowance

About = Literal["requests", "tokens", "concurrency"]

# Made for OpenAI's ("Rate limit reached for M in organization O on tokens per min (TPM): Limit 10000, Used 9500,
# Requested 1200."), Groq's (the same with RPD, TPD), Anthropic's ("number of input tokens has exceeded your per-minute
# rate limit", "Number of concurrent connections has exceeded your rate limit"), DeepSeek's and vLLM gateways'.
_CONCURRENCY = re.compile(
    r"concurren|at a time|at once|simultaneous|in[ -]parallel|parallel requests|in[ -]flight", re.IGNORECASE
)
_TOKENS = re.compile(
    r"\btokens?[ _-]per\b|\bTPM\b|\bTPD\b|number of (?:\w+ )?tokens|token rate|token limit|tokens/",
    re.IGNORECASE,
)
_REQUESTS = re.compile(
    r"\brequests?[ _-]per\b|\bRPM\b|\bRPD\b|\bRPS\b|number of requests?\b|request rate|requests/",
    re.IGNORECASE,
)
_PER_MINUTE = re.compile(r"per[ _-]?min|/ ?min|\bRPM\b|\bTPM\b", re.IGNORECASE)
# A whole number with or without its thousands set apart, or a fraction; "90k", "9,00" and "90.000" say nothing sure.
_LIMIT = re.compile(
    r"\blimit:? (\d{1,3}(?:[,_]\d{3}){1,4}|\d{1,12}(?:\.\d{1,2})?)(?![,._]*\w)", re.IGNORECASE | re.ASCII
)
_MAX_LENGTH: Final = 2_000


@dataclass(frozen=True, slots=True)
class Cause:
    """What a refusal is about, None if it does not say; with the limit a minute where it names it."""

    about: About | None = None
    allowance: Allowance | None = None


def cause_in(words: str) -> Cause:
    """What these words, an endpoint's own, say of the limit in the way."""
    text = words[:_MAX_LENGTH]
    if _CONCURRENCY.search(text):
        return Cause("concurrency")
    if _TOKENS.search(text):
        return Cause("tokens", _allowance(text))
    if _REQUESTS.search(text):
        return Cause("requests", _allowance(text))
    return Cause()


def _allowance(text: str) -> Allowance | None:
    limit = _LIMIT.search(text)
    if limit is None or not _PER_MINUTE.search(text):
        return None
    return Allowance(limit=min(float(limit[1].replace(",", "").replace("_", "")), MOST_ALLOWED), window_s=MINUTE_S)
