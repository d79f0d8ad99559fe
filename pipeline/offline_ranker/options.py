"""The command line of the offline ranker: one flag for each thing that can be set, both ways."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.faults import Fault, FaultPlan
from pipeline.offline_ranker.limit_flags import add_limit_flags, limit_flags, limits_given
from pipeline.offline_ranker.limits import LimitPlan

DEFAULT_TOKENS_PER_SECOND = 50.0

_PLAN_FLAGS = {
    "seed": "--seed",
    "retry_after_seconds": "--retry-after",
    "delay_seconds": "--delay",
    "cut_after_objects": "--cut-after-objects",
    "cut_at_share": "--cut-at-share",
    "error_after_objects": "--error-after-objects",
    "hold_after_objects": "--hold-after-objects",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is started. `port` 0 takes a free one; `tokens_per_second` 0 is as fast as it goes."""

    host: str = "127.0.0.1"
    port: int = 0
    tokens_per_second: float = DEFAULT_TOKENS_PER_SECOND
    api_key: str | None = None
    log: Path | None = None
    watch_stdin: bool = False
    quiet: bool = False
    faults: FaultPlan = field(default_factory=FaultPlan)
    limits: LimitPlan = field(default_factory=LimitPlan)

    def flags(self) -> list[str]:
        """Return the command line that `read_options` turns into these options."""
        flags = [
            f"--host={self.host}",
            f"--port={self.port}",
            f"--tokens-per-second={self.tokens_per_second}",
        ]
        if self.api_key is not None:
            flags.append(f"--api-key={self.api_key}")
        if self.log is not None:
            flags.append(f"--log={self.log}")
        if self.watch_stdin:
            flags.append("--watch-stdin")
        if self.quiet:
            flags.append("--quiet")
        return flags + plan_flags(self.faults) + limit_flags(self.limits)


def plan_flags(plan: FaultPlan) -> list[str]:
    """Return the flags that give this plan."""
    values = plan.model_dump(exclude={"shares"}, exclude_unset=True)
    named = [f"{_PLAN_FLAGS[name]}={'none' if value is None else value}" for name, value in values.items()]
    return [*named, *(f"--fault={fault}={share}" for fault, share in plan.shares.items())]


def read_options(arguments: Sequence[str]) -> Options:
    """Read a command line. ConfigurationError for a wrong value, SystemExit 2 for an unknown flag."""
    given = _parser().parse_args(arguments)
    if not 0 <= given.port <= 65_535:
        raise ConfigurationError(f"--port {given.port} is not a port: give 0 to 65535 (0 takes a free one)")
    if not 0 <= given.tokens_per_second < float("inf"):
        raise ConfigurationError(
            f"--tokens-per-second {given.tokens_per_second} is no pace: give 0 (as fast as it goes) or more"
        )
    return Options(
        host=given.host,
        port=given.port,
        tokens_per_second=given.tokens_per_second,
        api_key=given.api_key,
        log=given.log,
        watch_stdin=given.watch_stdin,
        quiet=given.quiet,
        faults=_plan(given),
        limits=limits_given(given),
    )


def _plan(given: argparse.Namespace) -> FaultPlan:
    values: dict[str, str | None] = {
        name: (None if text == "none" else text)
        for name, flag in _PLAN_FLAGS.items()
        if (text := getattr(given, flag[2:].replace("-", "_"))) is not None
    }
    shares = dict(_named_share(text) for text in given.fault)
    try:
        return FaultPlan.model_validate({**values, "shares": shares})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        flag = _PLAN_FLAGS.get(str(first["loc"][0]), "--fault") if first["loc"] else "--fault"
        raise ConfigurationError(f"{flag}: {first['input']!r} cannot be used: {first['msg']}") from error


def _named_share(text: str) -> tuple[str, str]:
    name, separator, share = text.partition("=")
    if not separator or name not in set(Fault):
        raise ConfigurationError(
            f"--fault {text}: write NAME=SHARE, a share from 0 to 1 and a name of {', '.join(Fault)}"
        )
    return name, share


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recstream offline-ranker",
        description="Serve the OpenAI wire with a ranking by word overlap. It is not a language model.",
        epilog="example: recstream offline-ranker --port 8123 --fault cut=0.1 --fault refused-429=0.05",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0, the default, takes a free one")
    parser.add_argument(
        "--tokens-per-second",
        type=float,
        default=DEFAULT_TOKENS_PER_SECOND,
        metavar="RATE",
        help="pace of each stream (50); 0 is as fast as it goes",
    )
    parser.add_argument("--api-key", metavar="KEY", help="refuse requests that do not bring this key")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append one JSON line for each answer")
    parser.add_argument("--watch-stdin", action="store_true", help="end when standard input ends")
    parser.add_argument("--quiet", action="store_true", help="leave out the line on stderr that says what this is")
    _add_fault_flags(parser)
    add_limit_flags(parser)
    return parser


def _add_fault_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("misbehaviour", "can be changed while it runs with PUT /faults")
    group.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help=f"let this share of requests (0 to 1) suffer a fault; any of {', '.join(Fault)}",
    )
    group.add_argument("--seed", help="decides which requests suffer (0)")
    group.add_argument("--retry-after", metavar="SECONDS", help="what a 429 asks to wait (1); none leaves it out")
    group.add_argument("--delay", metavar="SECONDS", help="how late a delayed answer begins (1)")
    group.add_argument("--cut-after-objects", metavar="N", help="cut an answer after N recommendations")
    group.add_argument("--cut-at-share", metavar="SHARE", help="cut an answer after this share of its text (0.5)")
    group.add_argument("--error-after-objects", metavar="N", help="send an error event after N recommendations (2)")
    group.add_argument("--hold-after-objects", metavar="N", help="hold an answer after N recommendations (1)")
