"""Translates what the HTTP libraries raise into our errors, at the two moments at which they do: asking and reading."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import httpx2
import openai
from aiohttp.http_exceptions import HttpProcessingError

from pipeline.errors import AnswerCutError, EndpointRefusedError, EndpointUnreachableError, first_line
from pipeline.refusals import OWN_SETTINGS, SOMEWHERE, SettingNames, refusal_of, retry_after_of

_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]*@")


@contextmanager
def asking(base_url: str, connect_timeout_s: float, names: SettingNames = OWN_SETTINGS) -> Iterator[None]:
    """For the time until an answer begins. `names` are the settings that advice names.

    Raises:
        EndpointRefusedError (or one of its kinds): the endpoint answered with an error status.
        EndpointUnreachableError: nobody answered.
    """
    try:
        yield
    except openai.APIStatusError as error:
        refusal = refusal_of(error.body, status=error.status_code, retry_after=retry_after_of(error.response.headers))
        raise _named(refusal, base_url, names) from error
    except (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError, OSError, ValueError) as error:
        # A ValueError: a host whose name cannot be one.
        refused = _refused_without_words(error)
        if refused is not None:
            refusal = refusal_of(
                f"its words broke off: {_root_cause(error)}",
                status=refused.status_code,
                retry_after=retry_after_of(refused.headers),
            )
            raise _named(refusal, base_url, names) from error
        if isinstance(error, TimeoutError):
            raise  # of the block's own
        if _is_timeout(error):
            raise EndpointUnreachableError(
                f"no connection to {base_url} in {connect_timeout_s:g} s: check {names.base_url}, and that it runs "
                "(see connect_timeout_s)"
            ) from error
        raise EndpointUnreachableError(
            f"no answer from {base_url}: {_root_cause(error)}; check {names.base_url}, and that it runs",
            sent=_may_have_been_sent(error),
        ) from error


@contextmanager
def reading(base_url: str, names: SettingNames = OWN_SETTINGS) -> Iterator[None]:
    """For the time while an answer is read. `names` are the settings that advice names.

    Raises:
        EndpointRefusedError (or one of its kinds): one that was found in the answer, which now says where.
        AnswerCutError: the connection broke.
    """
    try:
        yield
    except EndpointRefusedError as refusal:
        raise _named(refusal, base_url, names) from refusal.__cause__
    except (httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
        raise AnswerCutError(f"the stream from {base_url} broke off: {_root_cause(error)}") from error


def without_credentials(text: str) -> str:
    """The text without the user and the password of the URLs in it."""
    return _CREDENTIALS.sub("", text)


def _named(refusal: EndpointRefusedError, base_url: str, names: SettingNames) -> EndpointRefusedError:
    """The refusal, saying where it came from and where that is set: who reads an answer does not know that."""
    message = str(refusal)
    if message.startswith(SOMEWHERE):
        refusal.args = (base_url + names.put_into(message.removeprefix(SOMEWHERE)),)
    return refusal


def _is_timeout(error: BaseException) -> bool:
    """Whether a connection took too long; to the transport, most other things that happen to one are a time-out too."""
    return any(isinstance(cause, aiohttp.ServerTimeoutError) for cause in _causes(error))


def _may_have_been_sent(error: BaseException) -> bool:
    """Whether a connection stood, so that the request may have gone out on it."""
    before = (aiohttp.ClientConnectorError, ValueError)  # a name that cannot be one is the latter
    return not any(isinstance(cause, before) for cause in _causes(error))


def _refused_without_words(error: BaseException) -> httpx2.Response | None:
    """The response whose error status was read, but not the body that says why."""
    context: BaseException | None = error
    while context is not None:
        if isinstance(context, httpx2.HTTPStatusError):
            return context.response
        context = context.__context__
    return None


def _root_cause(error: BaseException) -> str:
    *_, root = _causes(error)
    return without_credentials(_text_of(root))


def _text_of(root: BaseException) -> str:
    if isinstance(root, HttpProcessingError):  # its text begins with a code that is no status of the answer
        return str(root.message).partition("\n")[0]
    if isinstance(root, aiohttp.ServerDisconnectedError):  # its text may be an object's
        return "the server closed the connection"
    if isinstance(root, asyncio.CancelledError):  # a time-out's
        return "they did not come in time"
    return first_line(root)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:  # a chain may close: `raise error from error` is legal
        seen.append(cause)
        yield cause
        cause = cause.__cause__
