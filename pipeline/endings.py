"""How an attempt's ending is called in the ledger, by the error that ended it."""

from typing import Final

from pipeline.domain import Ending
from pipeline.errors import (
    AnswerCutError,
    AnswerEmptyError,
    AnswerError,
    AnswerFilteredError,
    AnswerLimitError,
    AnswerOverdueError,
    AnswerRefusedError,
    AnswerStalledError,
    EndpointFatalError,
    EndpointRefusedError,
    EndpointUnreachableError,
    RateLimitedError,
)

_ENDINGS: Final[tuple[tuple[type[AnswerError], Ending], ...]] = (
    (EndpointFatalError, Ending.FATAL),
    (RateLimitedError, Ending.RATE_LIMITED),
    (EndpointRefusedError, Ending.ENDPOINT_ERROR),
    (EndpointUnreachableError, Ending.UNREACHABLE),
    (AnswerStalledError, Ending.IDLE),
    (AnswerOverdueError, Ending.OVERDUE),
    (AnswerCutError, Ending.CUT),
    (AnswerLimitError, Ending.LENGTH_LIMIT),
    (AnswerFilteredError, Ending.CONTENT_FILTER),
    (AnswerRefusedError, Ending.REFUSED),
    (AnswerEmptyError, Ending.EMPTY),
)


def ending_of(error: AnswerError) -> Ending:
    """The ledger's word for what ended the answer to a request that was sent."""
    if isinstance(error, EndpointRefusedError) and error.in_band:
        return Ending.ERROR_IN_BAND
    return next(ending for kind, ending in _ENDINGS if isinstance(error, kind))
