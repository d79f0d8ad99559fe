"""How providers name their limits in the headers of an answer, as data: the only place that knows these names."""

from typing import Final, Literal, NamedTuple

Kind = Literal["requests", "tokens"]


class Names(NamedTuple):
    """The headers of one limit, in lower case. `window_s` where the name says it, None where it must be found out."""

    limit: str
    remaining: str
    reset: str
    window_s: float | None = None


# The first that has a limit a minute counts.
DIALECTS: Final[dict[Kind, tuple[Names, ...]]] = {
    "requests": (
        # OpenAI ("reset-requests: 1s", platform.openai.com/docs/guides/rate-limits), Azure, Fireworks, vLLM's gateways;
        # Groq's under the same name is a day's, with a reset such as "2m59.56s" (console.groq.com/docs/rate-limits).
        Names("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        # Dates as in RFC 3339 (docs.anthropic.com/en/api/rate-limits).
        Names(
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
            60,
        ),
        Names(  # Mistral
            "x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", "x-ratelimit-reset-req-minute", 60
        ),
        Names(  # Cerebras: seconds as a plain number (inference-docs.cerebras.ai/support/rate-limits)
            "x-ratelimit-limit-requests-minute",
            "x-ratelimit-remaining-requests-minute",
            "x-ratelimit-reset-requests-minute",
            60,
        ),
        Names(
            "x-ratelimit-limit-requests-day",
            "x-ratelimit-remaining-requests-day",
            "x-ratelimit-reset-requests-day",
            86_400,
        ),
        # draft-ietf-httpapi-ratelimit-headers-06: seconds; the window stands in the limit, "100, 100;w=60".
        Names("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
    ),
    "tokens": (
        Names("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        # The most restrictive of its limits on tokens; the next two where a proxy leaves it out.
        Names(
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
            60,
        ),
        Names(
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
            60,
        ),
        Names(  # Cerebras, Mistral
            "x-ratelimit-limit-tokens-minute",
            "x-ratelimit-remaining-tokens-minute",
            "x-ratelimit-reset-tokens-minute",
            60,
        ),
        Names("x-ratelimitbysize-limit-minute", "x-ratelimitbysize-remaining-minute", "ratelimitbysize-reset", 60),
    ),
}
