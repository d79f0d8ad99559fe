"""The flags of the limits, both ways: a plan as a command line, and a command line as a plan."""

import argparse

from pydantic import ValidationError

from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.limits import Dialect, LimitChange, LimitPlan

_FLAGS = {
    "requests_per_minute": "--requests-per-minute",
    "tokens_per_minute": "--tokens-per-minute",
    "concurrency": "--concurrency",
    "burst_seconds": "--burst",
    "window_seconds": "--window",
    "headers": "--limit-headers",
    "retry_after": "--limit-retry-after",
    "retry_after_ms": "--limit-retry-after-ms",
    "retry_after_seconds": "--limit-retry-after-says",
    "in_band": "--limit-in-band",
    "shared_tokens_per_second": "--shared-tokens-per-second",
    "prompt_cache": "--prompt-cache",
}
_CHANGE_FLAG = "--limit-change"
_CHANGES = ("requests_per_minute", "tokens_per_minute", "concurrency")


def limit_flags(plan: LimitPlan) -> list[str]:
    """Return the flags that give this plan."""
    values = plan.model_dump(mode="json", exclude={"changes"}, exclude_unset=True)
    named = [f"{_FLAGS[name]}={_as_text(value)}" for name, value in values.items()]
    return [*named, *(f"{_CHANGE_FLAG}={_change_text(change)}" for change in plan.changes)]


def limits_given(given: argparse.Namespace) -> LimitPlan:
    """Return the plan of a command line; ConfigurationError for a wrong value."""
    values: dict[str, str | None] = {
        name: (None if text == "none" else text)
        for name, flag in _FLAGS.items()
        if (text := getattr(given, flag[2:].replace("-", "_"))) is not None
    }
    changes = [_change(text) for text in given.limit_change]
    try:
        return LimitPlan.model_validate({**values, "changes": changes} if changes else values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        flag = _FLAGS.get(str(first["loc"][0]), _CHANGE_FLAG) if first["loc"] else _CHANGE_FLAG
        raise ConfigurationError(f"{flag}: {first['input']!r} cannot be used: {first['msg']}") from error


def add_limit_flags(parser: argparse.ArgumentParser) -> None:
    """Add the group of flags to a parser."""
    group = parser.add_argument_group("limits", "can be changed while it runs with PUT /limits")
    group.add_argument("--requests-per-minute", metavar="N", help="answer 429 to more; 0 lets nobody in")
    group.add_argument("--tokens-per-minute", metavar="N", help="the same, of prompt and most answer tokens together")
    group.add_argument("--concurrency", metavar="N", help="answer 429 to more requests at a time")
    group.add_argument("--burst", metavar="SECONDS", help="how many seconds' worth may come at once (1)")
    group.add_argument("--window", metavar="SECONDS", help="count in fixed windows of this length instead")
    group.add_argument("--limit-headers", metavar="DIALECT", help=f"tell of the limits: {', '.join(Dialect)} (off)")
    group.add_argument("--limit-retry-after", metavar="on|off", help="say in whole seconds when to come back (on)")
    group.add_argument("--limit-retry-after-ms", metavar="on|off", help="say it in milliseconds (off)")
    group.add_argument("--limit-retry-after-says", metavar="SECONDS", help="say this in place of the truth")
    group.add_argument("--limit-in-band", metavar="on|off", help="refuse inside a stream of status 200 (off)")
    group.add_argument("--shared-tokens-per-second", metavar="RATE", help="what all streams have together")
    group.add_argument("--prompt-cache", metavar="on|off", help="report what prompts have in common as cached (off)")
    group.add_argument(
        "--limit-change",
        action="append",
        default=[],
        metavar="AFTER:NAME=N",
        help=f"change limits so many seconds after the first request; any of {', '.join(_CHANGES)}, comma between",
    )


def _as_text(value: bool | float | str | None) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)


def _change_text(change: LimitChange) -> str:
    values = change.model_dump(exclude_unset=True, exclude={"after_seconds"})
    return f"{change.after_seconds}:" + ",".join(f"{name}={_as_text(value)}" for name, value in values.items())


def _change(text: str) -> dict[str, str | None]:
    after, _, rest = text.partition(":")
    values = dict(entry.partition("=")[::2] for entry in rest.split(","))
    if not set(values) <= set(_CHANGES) or not all(values.values()):
        raise ConfigurationError(f"{_CHANGE_FLAG} {text}: write AFTER:NAME=N, with names of {', '.join(_CHANGES)}")
    return {"after_seconds": after, **{name: None if value == "none" else value for name, value in values.items()}}
