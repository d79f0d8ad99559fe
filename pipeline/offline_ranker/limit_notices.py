"""What the server tells about its limits: headers in the dialects of two providers, and refusals in OpenAI's form."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pipeline.offline_ranker.admission import Allowance, Limited, LimitRefusal
from pipeline.offline_ranker.limits import Dialect, LimitPlan
from pipeline.offline_ranker.wire import MODEL, WireError

_FAR_S = 365 * 86_400.0  # a date that a client can still read stands for never
_NAMES = {
    Limited.REQUESTS: "requests per min (RPM)",
    Limited.TOKENS: "tokens per min (TPM)",
    Limited.CONCURRENCY: "requests at a time",
}


def limit_headers(dialect: Dialect, allowances: Mapping[Limited, Allowance], wall_time: datetime) -> dict[str, str]:
    """The headers that tell of these rates; `wall_time` is now, for the dialect that gives dates."""
    headers: dict[str, str] = {}
    for limited, allowance in allowances.items() if dialect is not Dialect.OFF else ():
        values = {
            "limit": f"{math.floor(allowance.per_minute)}",
            "remaining": f"{math.floor(allowance.remaining + 1e-6)}",
            "reset": _reset(dialect, allowance.reset_s, wall_time),
        }
        for what, value in values.items():
            name = f"x-ratelimit-{what}-{limited}"
            headers[name if dialect is Dialect.OPENAI else f"anthropic-ratelimit-{limited}-{what}"] = value
    return headers


def limit_error(plan: LimitPlan, refusal: LimitRefusal) -> WireError:
    """The refusal as the wire has it: status 429, with as much about when to come back as the plan lets it say."""
    wait = refusal.wait_s if plan.retry_after_seconds is None else plan.retry_after_seconds
    return WireError(
        429,
        _message(refusal, wait),
        kind=str(refusal.limited),
        code="rate_limit_exceeded",
        headers=_retry_headers(plan, wait),
    )


def duration(seconds: float) -> str:
    """Seconds in OpenAI's form: 20ms, 1.2s, 6m0s, 1h0m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    if not minutes:
        return f"{round(rest, 3):g}s"
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{round(rest, 3):g}s"


def _reset(dialect: Dialect, seconds: float, wall_time: datetime) -> str:
    known = min(seconds, _FAR_S)
    if dialect is Dialect.OPENAI:
        return duration(known)
    return (wall_time + timedelta(seconds=known)).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _message(refusal: LimitRefusal, wait: float) -> str:
    limit, used, requested = (f"{amount:.0f}" for amount in (refusal.limit, refusal.used, refusal.requested))
    if refusal.limited is Limited.TOKENS and refusal.requested > refusal.limit > 0:
        return (
            f"Request too large for {MODEL} in organization offline on tokens per min (TPM): Limit {limit}, Requested "
            f"{requested}. The input or output tokens must be reduced in order to run successfully."
        )
    again = "Please try again later." if math.isinf(wait) else f"Please try again in {duration(wait)}."
    return (
        f"Rate limit reached for {MODEL} in organization offline on {_NAMES[refusal.limited]}: Limit {limit}, "
        f"Used {used}, Requested {requested}. {again}"
    )


def _retry_headers(plan: LimitPlan, wait: float) -> dict[str, str]:
    """Nothing about a wait without an end: the truth has no number for it."""
    if math.isinf(wait):
        return {}
    headers = {}
    if plan.retry_after:
        headers["retry-after"] = str(math.ceil(wait))
    if plan.retry_after_ms:
        headers["retry-after-ms"] = str(math.ceil(wait * 1000))
    return headers
