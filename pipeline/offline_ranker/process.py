"""Starts an offline ranker as a child process and ends it, whatever happens to the code around it."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.child_process import child_process, end_child, first_line
from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.faults import FaultPlan
from pipeline.offline_ranker.limits import LimitPlan
from pipeline.offline_ranker.options import DEFAULT_TOKENS_PER_SECOND, Options

_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class OfflineRanker:
    """A running offline ranker. `base_url` ends with /v1, as the OpenAI client wants it."""

    base_url: str
    pid: int

    @property
    def faults_url(self) -> str:
        """Where a JSON FaultPlan can be read (GET) and put in force (PUT)."""
        return f"{self.base_url.removesuffix('/v1')}/faults"

    @property
    def limits_url(self) -> str:
        """Where a JSON LimitPlan can be read (GET) and put in force (PUT)."""
        return f"{self.base_url.removesuffix('/v1')}/limits"


@contextmanager
def offline_ranker(
    *,
    tokens_per_second: float = DEFAULT_TOKENS_PER_SECOND,
    faults: FaultPlan | None = None,
    limits: LimitPlan | None = None,
    api_key: str | None = None,
    port: int = 0,
    log: Path | None = None,
) -> Iterator[OfflineRanker]:
    """Run an offline ranker on 127.0.0.1 while the block runs.

    It starts in silence: whoever starts it says what it is. What it writes on stderr later goes to ours. It ends
    with the block, and also when this process dies without leaving the block.

    Raises:
        ConfigurationError: it does not listen within a minute, or ended before, with its own reason.
    """
    options = Options(
        port=port,
        tokens_per_second=tokens_per_second,
        api_key=api_key,
        log=None if log is None else log.resolve(),
        watch_stdin=True,
        quiet=True,
        faults=faults or FaultPlan(),
        limits=limits or LimitPlan(),
    )
    with child_process("pipeline.offline_ranker", options.flags()) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe
        assert process.stderr is not None  # noqa: S101 - a pipe
        ranker = _wait_until_it_listens(process.stdout, process.stderr)
        forwarding = threading.Thread(target=_forward, args=(process.stderr,), daemon=True)
        forwarding.start()
        try:
            yield ranker
        finally:
            end_child(process)
            forwarding.join()


def _wait_until_it_listens(stdout: IO[bytes], stderr: IO[bytes]) -> OfflineRanker:
    line = first_line(stdout, what="the offline ranker", within_s=_START_SECONDS)
    if not line:
        reason = stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        raise ConfigurationError(reason or "the offline ranker ended before it listened: start it again")
    document = json.loads(line)
    return OfflineRanker(base_url=document["base_url"], pid=document["pid"])


def _forward(stderr: IO[bytes]) -> None:
    """Pass the child's lines on until it ends."""
    for line in stderr:
        with suppress(ValueError, OSError):  # our own stderr is closed: nobody is left to be told
            print(line.decode(errors="replace"), end="", file=sys.stderr, flush=True)
