"""Asks the endpoint and yields the answer's text as it arrives. The only module that sends a request.

The `openai` client sends it (auth, base URL, proxies); the body is taken raw, because the client's typed chunk objects
cost many times what reading the bytes does.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import aiohttp
import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

from pipeline.answer_body import AnswerBody, Patience, open_body
from pipeline.answer_reading import AnswerReader, web_page
from pipeline.connections import open_connections
from pipeline.deltas import AnswerText
from pipeline.domain import AnswerRecord, Provenance, Usage
from pipeline.errors import (
    AnswerCutError,
    AnswerError,
    AnswerLimitError,
    AnswerOverdueError,
    EndpointRefusedError,
    EndpointUnreachableError,
)
from pipeline.foreign_errors import asking, reading, without_credentials
from pipeline.pricing.token_counts import estimated_request_tokens, estimated_tokens
from pipeline.prompts import Prompt
from pipeline.refusals import OWN_SETTINGS, SettingNames
from pipeline.retrying.said_refusals import MOST_SAID
from pipeline.terms import Offer, Terms, parameters

_SHORTEST_KEY = 6  # what is shorter is a word like any other: `none`, `key`

Heard = Callable[[int, Mapping[str, str]], None]
"""Is told the status and the headers of each answer as soon as they are here: limits stand in them."""


Covers = Callable[[Offer], bool]
"""Whether a request with this offer may be sent as well as the one that was asked for."""


def always(offer: Offer) -> bool:
    """For who asks without a budget."""
    del offer
    return True


def ignored(status: int, headers: Mapping[str, str]) -> None:
    """For who asks without limits."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the model is asked, and with what patience. Times are in seconds; `names` are the settings that say so."""

    base_url: str
    api_key: str = field(repr=False)
    model: str
    temperature: float
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    answer_timeout_s: float
    terms: Terms = field(repr=False, compare=False)
    is_offline_ranker: bool = False
    names: SettingNames = field(default=OWN_SETTINGS, repr=False, compare=False)

    @property
    def provenance(self) -> Provenance:
        """What made the ranking, as the tables have it."""
        return Provenance.OFFLINE_RANKER if self.is_offline_ranker else Provenance.LANGUAGE_MODEL

    @property
    def address(self) -> str:
        """The base URL as messages show it."""
        return without_credentials(self.base_url)


@asynccontextmanager
async def open_client(endpoint: Endpoint, *, concurrency: int) -> AsyncIterator[AsyncOpenAI]:
    """One HTTP client for many streams at a time. Its own retries are off: attempts have one owner.

    Raises:
        ConfigurationError: certificates, a proxy or the base URL cannot be used.
    """
    async with (
        open_connections(concurrency=concurrency, connect_timeout_s=endpoint.connect_timeout_s) as connections,
        AsyncOpenAI(
            api_key=endpoint.api_key,
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=connections.timeout,  # `AnswerBody` has the others
            http_client=connections,
        ) as client,
    ):
        yield client


async def check_endpoint(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    """Ask for the list of models, to know before a night begins that somebody answers and takes the key.

    Raises:
        EndpointUnreachableError: nobody listens there.
        EndpointFatalError: the key is refused, or a web page answers. An endpoint without a list of models passes.
    """
    try:
        with asking(endpoint.address, endpoint.connect_timeout_s, endpoint.names):
            await _ask_for_models(client, endpoint)
    except EndpointRefusedError as refusal:
        _hide_key(refusal, endpoint.api_key)
        raise


async def _ask_for_models(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    """Look at the head of the answer only: its body may be anything, and of any size."""
    try:
        async with (
            asyncio.timeout(endpoint.connect_timeout_s),
            client.models.with_streaming_response.list(timeout=endpoint.connect_timeout_s) as response,
        ):
            if "html" in response.headers.get("content-type", "").lower():
                raise web_page(endpoint.address)
    except TimeoutError as error:
        raise EndpointUnreachableError(
            f"{endpoint.address} took the connection but gave no answer in {endpoint.connect_timeout_s:g} s"
        ) from error
    except openai.APIStatusError as error:
        if error.status_code in {401, 403}:
            raise


async def stream(
    client: AsyncOpenAI,
    endpoint: Endpoint,
    prompt: Prompt,
    record: AnswerRecord,
    heard: Heard = ignored,
    first_offer: Offer | None = None,
    covers: Covers = always,
) -> AsyncGenerator[AnswerText]:
    """Yield the answer's text as it arrives; `record` holds what is known of the answer at every moment.

    `heard` is told the status and the headers of the answer, be it a refusal, before its first text. `first_offer` is
    what the first request offers; None offers what the endpoint is known to take. `covers` says of another offer
    whether a request may be sent with it; one that may not is left to who asks again.
    An endpoint that does not take a part of the request (a JSON schema, say) is asked again without it, and remembered.
    Closing the generator closes the connection. All text is yielded before an error is raised.

    Raises:
        EndpointUnreachableError, EndpointRefusedError (and its kinds), AnswerCutError (and its kinds),
        AnswerLimitError, AnswerRefusedError (and its kind): see `pipeline.errors`.
    """
    said: list[str] = []
    offer = first_offer or endpoint.terms.offer()
    while True:
        try:
            async with aclosing(_answer(client, endpoint, prompt, record, offer, heard)) as texts:
                async for piece in texts:
                    said.append(piece.text)
                    yield piece
        except EndpointRefusedError as refusal:
            _hide_key(refusal, endpoint.api_key)
            if said or not endpoint.terms.step_down(offer, refusal.status, refusal.words):
                raise
            offer = replace(endpoint.terms.offer(), room=offer.room)
            if not covers(offer):
                refusal.stepped_down = True
                raise
        except AnswerLimitError:
            endpoint.terms.more_room(offer)  # for the next, whoever asks
            raise
        else:
            return
        finally:
            _note_said(record, prompt, "".join(said))


async def _answer(
    client: AsyncOpenAI, endpoint: Endpoint, prompt: Prompt, record: AnswerRecord, offer: Offer, heard: Heard
) -> AsyncGenerator[AnswerText]:
    """Make one request, and yield the text of its answer."""
    now = asyncio.get_running_loop().time
    begin = now()
    patience = Patience(endpoint.first_byte_timeout_s, endpoint.idle_timeout_s, endpoint.answer_timeout_s, begin)
    reader = AnswerReader(endpoint.address)
    try:
        with reading(endpoint.address, endpoint.names):
            async with _opened(client, endpoint, _request(endpoint, prompt, offer), record, patience, heard) as body:
                while not reader.done and (chunk := await _next_bytes(body, reader)):
                    if record.first_byte_s is None:
                        record.first_byte_s = now() - begin
                    for piece in reader.feed(chunk):
                        yield piece
                for piece in reader.end():
                    yield piece
                await body.read_out()
    finally:
        record.whole_s = now() - begin
        record.model, record.finish_reason, record.usage = reader.model, reader.finish_reason, reader.usage or Usage()
    reader.judge_ending()


async def _next_bytes(body: AnswerBody, reader: AnswerReader) -> bytes:
    """What comes next; after the model's last word nothing where the body breaks off, for the answer is whole."""
    if not reader.has_ended:
        return await body.read(reader.is_quiet)
    body.finish()
    try:
        return await body.read()
    except (AnswerCutError, httpx2.HTTPError, aiohttp.ClientError, OSError):
        return b""


@asynccontextmanager
async def _opened(
    client: AsyncOpenAI,
    endpoint: Endpoint,
    request: dict[str, Any],
    record: AnswerRecord,
    patience: Patience,
    heard: Heard,
) -> AsyncIterator[AnswerBody]:
    """The body of the answer to one request."""
    record.first_byte_s, record.status, record.request_id = None, None, None
    try:
        with asking(endpoint.address, endpoint.connect_timeout_s, endpoint.names):
            async with asyncio.timeout_at(patience.first_byte_by):
                response = await _send(client, request)
    except EndpointRefusedError as refusal:
        record.status, record.request_id = refusal.status, getattr(refusal.__cause__, "request_id", None)
        heard(refusal.status or 0, _headers_of(refusal))
        raise
    except TimeoutError as error:
        raise _no_answer_in_time(endpoint, patience) from error
    record.status, record.request_id = response.status_code, response.headers.get("x-request-id")
    heard(response.status_code, response.headers)
    try:
        async with open_body(response, patience, endpoint.address) as body:
            yield body
    finally:
        await response.aclose()


def _headers_of(refusal: EndpointRefusedError) -> Mapping[str, str]:
    response = getattr(refusal.__cause__, "response", None)
    return response.headers if isinstance(response, httpx2.Response) else {}


async def _send(client: AsyncOpenAI, request: dict[str, Any]) -> httpx2.Response:
    """Send the request; its answer's body is left to be read.

    `chat.completions.create` would walk through every field of the request by its type first, which costs more than
    all that is done with the answer of a short slate.
    """
    response = await client.post(
        "/chat/completions",
        cast_to=httpx2.Response,
        body=request,
        options={"headers": {"Accept-Encoding": "identity"}},  # a compressor holds back what it has until it has more
        stream=True,
        stream_cls=AsyncStream[ChatCompletionChunk],
    )
    return cast(httpx2.Response, response)


def _no_answer_in_time(endpoint: Endpoint, patience: Patience) -> AnswerError:
    if patience.first_byte_by == patience.deadline:
        return AnswerOverdueError(
            f"{endpoint.address} took the request but sent no answer in {endpoint.answer_timeout_s:g} s (see "
            "answer_timeout_s)"
        )
    return EndpointUnreachableError(
        f"{endpoint.address} took the request but sent no answer in {endpoint.first_byte_timeout_s:g} s: it is "
        "overloaded, or first_byte_timeout_s is too short",
        sent=True,
    )


def _request(endpoint: Endpoint, prompt: Prompt, offer: Offer) -> dict[str, Any]:
    """The arguments of the request. What is the same for every customer comes first, for the caches of prompts."""
    request: dict[str, Any] = {
        "model": endpoint.model,
        "stream": True,
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": prompt.customer},
        ],
        **parameters(offer, prompt.asked),
    }
    if offer.temperature:
        request["temperature"] = endpoint.temperature
    return request


def _hide_key(refusal: EndpointRefusedError, key: str) -> None:
    """Take the key out of an endpoint's words: some say it back, and what they say goes to the log and the ledger."""
    if len(key) >= _SHORTEST_KEY:
        refusal.args = (str(refusal).replace(key, "…"),)
        refusal.words = refusal.words.replace(key, "…")


def _note_said(record: AnswerRecord, prompt: Prompt, text: str) -> None:
    """Keep how the answer began, and what it cost where the endpoint has not said that."""
    record.said = text[:MOST_SAID]
    if record.status != 200:
        return
    tokens_out = estimated_tokens(text)
    if not record.usage.tokens_in:
        tokens_in = estimated_request_tokens(prompt.system, prompt.customer)
        record.usage = Usage(tokens_in=tokens_in, tokens_out=tokens_out, estimated=True)
    elif record.finish_reason is None:  # what was reported before the end is not the last word
        record.usage = replace(record.usage, tokens_out=max(tokens_out, record.usage.tokens_out), estimated=True)
