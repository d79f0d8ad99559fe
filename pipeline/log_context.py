"""Whose work a line of the log is about: the run, the shard and the customer, at the moment when it is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from pipeline.domain import CustomerId, RunId


@dataclass(frozen=True, slots=True)
class LogContext:
    """What is known of them; None where the line is about more than one, or about none. Shards count from 0."""

    run_id: RunId | None = None
    shard: int | None = None
    customer_id: CustomerId | None = None


_CONTEXT: ContextVar[LogContext] = ContextVar("recstream_log_context", default=LogContext())  # noqa: B039 - frozen


def log_context() -> LogContext:
    """What a line that is written here is about."""
    return _CONTEXT.get()


@contextmanager
def about_shard(run_id: RunId, shard: int) -> Iterator[None]:
    """Lines that are written inside are about this shard of this run."""
    token = _CONTEXT.set(LogContext(run_id, shard))
    try:
        yield
    finally:
        _CONTEXT.reset(token)


@contextmanager
def about_run(run_id: RunId) -> Iterator[None]:
    """Lines that are written inside are about this run."""
    token = _CONTEXT.set(LogContext(run_id))
    try:
        yield
    finally:
        _CONTEXT.reset(token)


@contextmanager
def about_customer(customer_id: CustomerId) -> Iterator[None]:
    """Lines that are written inside are about this customer of the run and shard that they were about before."""
    token = _CONTEXT.set(replace(_CONTEXT.get(), customer_id=customer_id))
    try:
        yield
    finally:
        _CONTEXT.reset(token)
