"""Every error that recstream raises, in one tree.

    RecstreamError
    ├── ConfigurationError            a setting, flag or environment variable is wrong or missing
    ├── InputError                    a file, an id or a parameter that a person gave cannot be used
    │   └── UnknownCustomerError
    ├── UnfinishedRunError            a run broke off with the database it stands in; `resume` goes on with it
    ├── RunConflictError              the run is in the wrong state
    │   ├── NightTakenError           another nightly run is going on
    │   └── NightPassedError          the night comes too late, or a later one is due already
    ├── BuildFailedError              candidates could not be built; those in service stay
    ├── RunHaltedError                the run is to take no more customers: drained or cancelled by a person
    │   ├── BudgetSpentError          the next request could pass a cap on money or tokens
    │   └── CalledOffError            a person ended this piece of the run alone: nobody takes it up again
    ├── ShutDownError                 the process ends, and this with it: somebody else may take it up
    ├── DatabaseError                 Postgres refused a statement that should have worked
    │   ├── DatabaseUnavailableError  nobody answers at the database's address, or it went away
    │   ├── RowRefusedError           Postgres refuses one row; its neighbours are not touched
    │   ├── SlateTakenOverError       another attempt has opened the slate since: this one writes no more
    │   ├── ShardTakenOverError       the shard was offered anew since: this attempt at it serves no more
    │   └── SchemaError               the tables are missing, older or newer than this code
    └── AnswerError                   an attempt at an answer did not end well; items before it stand
        ├── EndpointUnreachableError  no connection, or it ended before an answer began
        ├── EndpointClosedError       nobody may ask this endpoint for longer than we wait
        ├── EndpointRefusedError      the endpoint answered with an error status or an error event
        │   ├── RateLimitedError      429, or its equal inside the stream
        │   ├── PromptRefusedError    this prompt is refused, and would be again; another's may pass
        │   └── EndpointFatalError    wrong key, unknown model, no quota: no retry can help
        ├── AnswerCutError            the stream or its text broke off
        │   ├── AnswerStalledError    nothing came for too long
        │   └── AnswerOverdueError    the whole answer took too long
        ├── AnswerLimitError          the model stopped at its length limit
        ├── AnswerRefusedError        the model declined
        │   └── AnswerFilteredError   the endpoint's content filter did
        └── AnswerEmptyError          the answer ended well, without one recommendation

Foreign exceptions (openai, aiohttp, sqlalchemy, psycopg, pydantic, OS) are translated into these once, at the edge
where they appear. Each message is one line: what, where, what to do.
"""

from asyncio import CancelledError


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
    """The run is not in a state that allows this."""


class NightTakenError(RunConflictError):
    """Another nightly run is going on."""


class NightPassedError(RunConflictError):
    """The night comes too late, or a later one is due already: it is not begun."""


class BuildFailedError(RecstreamError):
    """Candidates could not be built, for a reason that is not the database's; those in service stay."""


class RunHaltedError(RecstreamError):
    """The run is to take no more customers. `drained` is true where what is in flight is finished before."""

    def __init__(self, message: str, *, drained: bool = False) -> None:
        super().__init__(message)
        self.drained = drained

    @property
    def short(self) -> str:
        """Why, as the ledger says it of each customer who was not served."""
        return str(self)


class BudgetSpentError(RunHaltedError):
    """The next request could pass a cap on money or tokens, and nothing in flight will make room for it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, drained=True)

    @property
    def short(self) -> str:
        """See above: in one word, to be counted by."""
        return "budget"


class CalledOffError(RunHaltedError):
    """A person ended this piece of the run alone, as one of its shards: nobody is to take it up again."""


class ShutDownError(RecstreamError):
    """The process is being shut down, and this ends with it: somebody else may take it up."""


class DatabaseError(RecstreamError):
    """Postgres refused a statement that should have worked."""


class DatabaseUnavailableError(DatabaseError):
    """Nobody answers at the database's address, or the connection was lost."""


class RowRefusedError(DatabaseError):
    """Postgres refuses this one row; its neighbours are not touched."""


class SlateTakenOverError(DatabaseError):
    """Another attempt has opened the slate since, or it is there no more: this one can write nothing to it."""


def taken_over(customer_id: str) -> SlateTakenOverError:
    """Our error for an attempt that does not hold its slate any more."""
    return SlateTakenOverError(
        f"the slate of customer {customer_id!r} was opened by another, or is there no more: this attempt ends"
    )


class ShardTakenOverError(DatabaseError):
    """The shard was offered anew since: this attempt at it opens no slate, and writes nothing to those it has."""


class SchemaError(DatabaseError):
    """The tables are missing, older or newer than this code."""


class AnswerError(RecstreamError):
    """An attempt at an answer did not end well. What it yielded before stands."""


class EndpointUnreachableError(AnswerError):
    """No connection to the endpoint, or it ended before an answer began.

    `sent` is true where the request may have gone out: then it may have been paid, and the fault may be its own.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class EndpointClosedError(AnswerError):
    """Nobody may ask this endpoint for longer than we wait."""


class EndpointRefusedError(AnswerError):
    """The endpoint answered with an error.

    `status` is the HTTP status, or the one that an error inside a stream gives as its code; None if there is none.
    `retry_after` is in seconds, None if unsaid. `in_band` is true of an error that came where the answer should be,
    after a good HTTP status. `words` are the endpoint's own, more than the message quotes; it may have none.
    `stepped_down` is true where the same may be asked for again, without the part that was refused.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        in_band: bool = False,
        words: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.in_band = in_band
        self.words = words
        self.stepped_down = False


class RateLimitedError(EndpointRefusedError):
    """Too many requests or tokens; worth another try after a wait."""


class PromptRefusedError(EndpointRefusedError):
    """This prompt is refused (too long, say), and would be again; another customer's may pass."""


class EndpointFatalError(EndpointRefusedError):
    """Wrong key, unknown model, no quota: no retry can help, for no customer."""


class AnswerCutError(AnswerError):
    """The stream broke off, or its text ended before it was whole."""


class AnswerStalledError(AnswerCutError):
    """The connection stood, but nothing came through it for too long."""


class AnswerOverdueError(AnswerCutError):
    """The whole answer was not there in the time that it may take."""


class AnswerLimitError(AnswerError):
    """The model stopped at its length limit before the last item."""


class AnswerRefusedError(AnswerError):
    """The model declined to answer."""


class AnswerFilteredError(AnswerRefusedError):
    """The endpoint's content filter stopped the answer."""


class AnswerEmptyError(AnswerError):
    """The answer ended well, but held not one valid recommendation."""


def cause_of(error: BaseException) -> BaseException:
    """Why something was cancelled, where its canceller has said so (`task.cancel(why)`); else the error itself."""
    why = error.args[0] if isinstance(error, CancelledError) and error.args else None
    return why if isinstance(why, BaseException) else error


def first_line(error: BaseException) -> str:
    """The first line of an error's text: the rest is for debuggers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
