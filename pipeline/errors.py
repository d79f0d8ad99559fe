"""Every error that recstream raises, in one tree.

    RecstreamError
    ├── ConfigurationError            a setting, flag or environment variable is wrong or missing
    ├── InputError                    a file, an id or a parameter that a person gave cannot be used
    │   └── UnknownCustomerError
    ├── UnfinishedRunError            a run broke off with the database it stands in; `resume` goes on with it
    ├── RunConflictError              another run holds the night, or the run is in the wrong state
    ├── DatabaseError                 Postgres refused a statement that should have worked
    │   ├── DatabaseUnavailableError  nobody answers at the database's address, or it went away
    │   ├── RowRefusedError           Postgres refuses one row; its neighbours are not touched
    │   └── SchemaError               the tables are missing, older or newer than this code
    └── AnswerError                   an attempt at an answer did not end well; items before it stand
        ├── EndpointUnreachableError  no connection, reset, or a time-out before the first byte
        ├── EndpointRefusedError      the endpoint answered with an error status or an error event
        │   ├── RateLimitedError      429, or its equal inside the stream
        │   ├── PromptRefusedError    this prompt is refused, and would be again; another's may pass
        │   └── EndpointFatalError    wrong key, unknown model, no quota: no retry can help
        ├── AnswerCutError            the stream broke off, stalled, or outlasted its time
        ├── AnswerLimitError          the model stopped at its length limit
        ├── AnswerRefusedError        the model or a content filter declined
        └── AnswerShortError          the answer ended well formed, but with fewer than was asked for

Foreign exceptions (openai, aiohttp, sqlalchemy, psycopg, pydantic, OS) are translated into these once, at the edge
where they appear. Each message is one line: what, where, what to do.
"""


class RecstreamError(Exception):
    """The root: `except RecstreamError` catches all that recstream raises on purpose."""


class ConfigurationError(RecstreamError):
    """A setting, flag or environment variable is wrong or missing."""


class InputError(RecstreamError):
    """A file, an id or a parameter that a person gave cannot be used."""


class UnknownCustomerError(InputError):
    """No such customer in the database."""


class UnfinishedRunError(RecstreamError):
    """A run broke off together with the database it stands in; `resume` goes on with it."""


class RunConflictError(RecstreamError):
    """Another run holds the night, or the run is not in a state that allows this."""


class DatabaseError(RecstreamError):
    """Postgres refused a statement that should have worked."""


class DatabaseUnavailableError(DatabaseError):
    """Nobody answers at the database's address, or the connection was lost."""


class RowRefusedError(DatabaseError):
    """Postgres refuses this one row; its neighbours are not touched."""


class SchemaError(DatabaseError):
    """The tables are missing, older or newer than this code."""


class AnswerError(RecstreamError):
    """An attempt at an answer did not end well. What it yielded before stands."""


class EndpointUnreachableError(AnswerError):
    """No connection to the endpoint, or nothing came before the time-out."""


class EndpointRefusedError(AnswerError):
    """The endpoint answered with an error.

    `status` is the HTTP status, or None for an error inside a stream. `retry_after` is in seconds, None if unsaid.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class RateLimitedError(EndpointRefusedError):
    """Too many requests or tokens; worth another try after a wait."""


class PromptRefusedError(EndpointRefusedError):
    """This prompt is refused (too long, say), and would be again; another customer's may pass."""


class EndpointFatalError(EndpointRefusedError):
    """Wrong key, unknown model, no quota: no retry can help, for no customer."""


class AnswerCutError(AnswerError):
    """The stream broke off, stalled, or outlasted its time."""


class AnswerLimitError(AnswerError):
    """The model stopped at its length limit before the last item."""


class AnswerRefusedError(AnswerError):
    """The model or a content filter declined to answer."""


class AnswerShortError(AnswerError):
    """The answer ended well formed, but with fewer valid recommendations than were asked for."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text: the rest is for debuggers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
