"""The lines that a run has on Prefect's page: each says whose work it is about, and a storm of one warning is one line.

Prefect's own loggers and recstream's go there alike: inside a run always, before and after it where
`PREFECT_LOGGING_EXTRA_LOGGERS=pipeline,flows` is set.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from prefect.context import FlowRunContext, TaskRunContext

from pipeline.domain import RunId
from pipeline.log_context import LogContext, about_run, log_context

STORM_S: Final = 60.0
"""The same warning is told once in so many seconds, with its count."""

_OURS: Final = ("pipeline", "flows")
_POOLS: Final = "pipeline.database"  # SQLAlchemy tells there of each pool that is opened and closed
_ON_THE_PAGE: Final = (*_OURS, "prefect.flow_runs", "prefect.task_runs", "")
_log = logging.getLogger(__name__)


@contextmanager
def run_logs(run_id: RunId) -> Iterator[None]:
    """Lines written inside are about this run; what was held back of a storm is told at the end."""
    lines = RunLines(run_id)
    with _on_the_page(), _filtered_by(lines), about_run(run_id), _told_from(logging.INFO):
        try:
            yield
        finally:
            for line in lines.held_back():
                _log.warning("%s", line)


@dataclass(slots=True)
class _Storm:
    """One warning that comes again and again: since when its count runs, and how many were not told."""

    since: float
    held: int = 0


class RunLines(logging.Filter):
    """Begins each line about this run with its ids, and holds back what was told a moment ago."""

    def __init__(self, run_id: RunId, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._run_id, self._clock = run_id, clock
        self._storms: dict[tuple[str, str], _Storm] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Judge a line once, however many handlers have it: the second is told what the first was."""
        context = log_context()
        if context.run_id != self._run_id:
            return True
        judged: bool | None = getattr(record, "recstream_told", None)
        if judged is None:
            judged = self._judge(record)
            record.recstream_told = judged
            _name(record, context)
        return judged

    def held_back(self) -> Iterator[str]:
        """What was not told, a line for each storm."""
        for (name, template), storm in self._storms.items():
            if storm.held:
                yield f"{storm.held:,} more like this since it was told last: {name}: {template}"

    def _judge(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.name == __name__ or record.name.split(".")[0] not in _OURS:
            return True  # Prefect tells of each of its runs how it ended
        now, key = self._clock(), (record.name, str(record.msg))
        storm = self._storms.get(key)
        if storm is not None and now - storm.since < STORM_S:
            storm.held += 1
            return False
        if storm is not None and storm.held:
            record.msg = f"{record.getMessage()} (and {storm.held:,} more like this since it was told last)"
            record.args = None
        self._storms[key] = _Storm(now)
        return True


def _name(record: logging.LogRecord, context: LogContext) -> None:
    """The ids before the text, and whole as the record's own, for who formats it otherwise."""
    record.run_id, record.shard, record.customer_id = context.run_id, context.shard, context.customer_id
    about = [f"run {str(context.run_id)[:8]}"]
    if context.shard is not None:
        about.append(f"shard {context.shard + 1}")
    if context.customer_id is not None:
        about.append(f"customer {context.customer_id}")
    record.msg, record.args = f"{' · '.join(about)}: {record.getMessage()}", None


@contextmanager
def _on_the_page() -> Iterator[None]:
    """What our loggers tell inside goes to Prefect as well, where the environment has not seen to it."""
    to_prefect = logging.getLogger("prefect.extra").handlers if FlowRunContext.get() or TaskRunContext.get() else []
    added = [
        (logger, handler)
        for logger in map(logging.getLogger, _OURS)
        for handler in to_prefect
        if handler not in logger.handlers
    ]
    for logger, handler in added:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, handler in added:
            logger.removeHandler(handler)


@contextmanager
def _filtered_by(lines: RunLines) -> Iterator[None]:
    handlers = {handler for name in _ON_THE_PAGE for handler in logging.getLogger(name).handlers}
    for handler in handlers:
        handler.addFilter(lines)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(lines)


@contextmanager
def _told_from(level: int) -> Iterator[None]:
    """Our loggers tell lines of this level inside, where nobody has set theirs."""
    levels = {**dict.fromkeys(_OURS, level), _POOLS: logging.WARNING}
    unset = [logger for logger in map(logging.getLogger, levels) if logger.level == logging.NOTSET]
    for logger in unset:
        logger.setLevel(levels[logger.name])
    try:
        yield
    finally:
        for logger in unset:
            logger.setLevel(logging.NOTSET)
