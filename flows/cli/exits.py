"""Exit statuses, and the one place where an error becomes a line on stderr.

0 all done · 1 a run that did not finish every customer or is not published, or a load that refused rows ·
2 wrong use or configuration · 130 interrupted
"""

import errno
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from pipeline.errors import (
    AnswerError,
    EndpointFatalError,
    EndpointUnreachableError,
    RecstreamError,
    RunHaltedError,
    UnfinishedRunError,
)

UNFINISHED = 1
WRONG_USE = 2
INTERRUPTED = 130

P = ParamSpec("P")


def guarded(command: Callable[P, int | None]) -> Callable[P, None]:
    """A command whose result is its exit status, and whose errors are one line each."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            status = command(*args, **kwargs) or 0
            sys.stdout.flush()
        except RecstreamError as error:
            status = _explain(error)
        except KeyboardInterrupt:
            print("recstream: interrupted; what was committed stays", file=sys.stderr)
            status = INTERRUPTED
        except BrokenPipeError:
            status = _reader_gone()
        except OSError as error:
            status = _cannot_write(error)
        raise typer.Exit(status)

    return run


def _explain(error: RecstreamError) -> int:
    print(f"recstream: {error}", file=sys.stderr)
    if isinstance(error, (EndpointFatalError, EndpointUnreachableError)):
        return WRONG_USE
    return UNFINISHED if isinstance(error, (AnswerError, RunHaltedError, UnfinishedRunError)) else WRONG_USE


def _reader_gone() -> int:
    """`recstream … | head`: the reader has what it wanted."""
    _drop_what_is_not_written()
    return 0


def _cannot_write(error: OSError) -> int:
    """A full disk under stdout, say: the one place that no edge of the pipeline translates."""
    if error.filename is None and error.errno not in {errno.ENOSPC, errno.EIO, errno.EDQUOT}:
        raise error  # nothing that a person could mend: a defect of ours, to be seen whole
    _drop_what_is_not_written()
    where = error.filename or "standard output"
    print(f"recstream: {where} cannot be written ({error.strerror}): make room, or write elsewhere", file=sys.stderr)
    return WRONG_USE


def _drop_what_is_not_written() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
