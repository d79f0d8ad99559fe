"""What a run's lines look like, and what becomes of a storm of them."""

import logging
from collections.abc import Iterator
from uuid import UUID

import pytest

from flows.run_logs import STORM_S, RunLines, run_logs
from pipeline.domain import CustomerId, RunId
from pipeline.log_context import about_customer, about_run, about_shard, log_context

RUN_ID = RunId(UUID("0c0159c3-d96e-435b-acf6-d63649d8a9b8"))
OTHER = RunId(UUID("1c0159c3-d96e-435b-acf6-d63649d8a9b8"))


class Page(logging.Handler):
    """Keeps what a page would show."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def page() -> Iterator[Page]:
    handler, loggers = Page(), [logging.getLogger(name) for name in ("pipeline", "flows")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("pipeline.of_a_test")


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def warning(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("pipeline.x", logging.WARNING, __file__, 1, text, args, None)


def test_a_line_says_whose_work_it_is_about(page: Page, log: logging.Logger) -> None:
    with run_logs(RUN_ID):
        log.info("planned")
        with about_shard(RUN_ID, 2):
            log.info("begun")
            with about_customer(CustomerId("c-1")):
                log.warning("no slate: %s", "HTTP 500")
    assert page.lines == [
        "run 0c0159c3: planned",
        "run 0c0159c3 · shard 3: begun",
        "run 0c0159c3 · shard 3 · customer c-1: no slate: HTTP 500",
    ]


def test_a_line_of_another_run_or_of_none_is_left_as_it_is(page: Page, log: logging.Logger) -> None:
    with run_logs(RUN_ID), about_run(OTHER):
        log.warning("its own")
    log.warning("nobody's")
    assert page.lines == ["its own", "nobody's"]
    assert log_context().run_id is None


def test_two_handlers_show_the_same_line_once_named(page: Page, log: logging.Logger) -> None:
    second = Page()
    logging.getLogger("pipeline").addHandler(second)
    try:
        with run_logs(RUN_ID):
            log.info("planned")
    finally:
        logging.getLogger("pipeline").removeHandler(second)
    assert page.lines == second.lines == ["run 0c0159c3: planned"]


def test_levels_are_as_they_were_afterwards(log: logging.Logger) -> None:
    before = logging.getLogger("pipeline").level
    with run_logs(RUN_ID):
        assert log.isEnabledFor(logging.INFO)
    assert logging.getLogger("pipeline").level == before


def test_a_storm_of_the_same_warning_is_told_once_a_minute_with_its_count() -> None:
    clock = Clock()
    lines = RunLines(RUN_ID, clock)
    with about_run(RUN_ID):
        told = [lines.filter(warning("customer %d has none", number)) for number in range(500)]
        other = warning("another matter")
        clock.now = STORM_S
        later = warning("customer %d has none", 500)
        assert lines.filter(other)
        assert lines.filter(later)
    assert told == [True] + [False] * 499
    assert later.getMessage() == "run 0c0159c3: customer 500 has none (and 499 more like this since it was told last)"


def test_what_was_held_back_last_is_told_at_the_end(page: Page, log: logging.Logger) -> None:
    with run_logs(RUN_ID):
        for number in range(3):
            log.warning("customer %d has none", number)
    assert page.lines == [
        "run 0c0159c3: customer 0 has none",
        "run 0c0159c3: 2 more like this since it was told last: pipeline.of_a_test: customer %d has none",
    ]


def test_what_prefect_tells_of_each_of_its_runs_is_never_held_back() -> None:
    lines = RunLines(RUN_ID)
    with about_run(RUN_ID):
        for _ in range(2):
            ended = logging.LogRecord("prefect.task_runs", logging.ERROR, __file__, 1, "Finished", (), None)
            assert lines.filter(ended)


def test_news_that_are_no_warnings_are_told_each_time() -> None:
    lines = RunLines(RUN_ID)
    news = logging.LogRecord("pipeline.x", logging.INFO, __file__, 1, "a thousand more", (), None)
    with about_run(RUN_ID):
        assert lines.filter(news)
        assert lines.filter(logging.makeLogRecord(news.__dict__ | {"recstream_told": None}))
