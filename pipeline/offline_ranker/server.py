"""The HTTP application: its routes, who may call them, and how a request becomes an exchange."""

import asyncio
import hmac
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web

from pipeline.offline_ranker import speaking
from pipeline.offline_ranker.answers import (
    AnswerObject,
    answer_text,
    asked_form,
    object_text,
    score_text,
    token_count,
)
from pipeline.offline_ranker.chat_request import ChatRequest, prompt_token_count, read_chat_request
from pipeline.offline_ranker.effects import Script, spoil
from pipeline.offline_ranker.limit_notices import limit_error, limit_headers
from pipeline.offline_ranker.plan_routes import PLAN_ROUTES
from pipeline.offline_ranker.prompt_reading import Reading, read_prompt
from pipeline.offline_ranker.ranking import ranked
from pipeline.offline_ranker.record import Ending, Record
from pipeline.offline_ranker.state import STATE, RankerState
from pipeline.offline_ranker.wire import (
    FINGERPRINT,
    MODEL,
    WireError,
    error_document,
    model_document,
    unknown_model,
)

_LARGEST_BODY = 32 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_application(state: RankerState) -> web.Application:
    """Return the application that answers with this state."""
    application = web.Application(middlewares=[_errors_in_openai_form, _authorized], client_max_size=_LARGEST_BODY)
    application[STATE] = state
    application.on_shutdown.append(_note_stopping)
    application.add_routes(
        [
            web.post("/v1/chat/completions", _chat_completions),
            web.get("/v1/models", _models),
            web.get("/v1/models/{model}", _model),
            web.get("/health", _health),
            *PLAN_ROUTES,
        ]
    )
    return application


async def _note_stopping(application: web.Application) -> None:
    application[STATE].stopping = True


@web.middleware
async def _errors_in_openai_form(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except WireError as error:
        return web.json_response(error.document, status=error.status, headers=error.headers)
    except web.HTTPException as error:
        message = f"{request.method} {request.path}: {error.reason}."
        document = error_document(message, kind="invalid_request_error")
        return web.json_response(document, status=error.status)


@web.middleware
async def _authorized(request: web.Request, handler: Handler) -> web.StreamResponse:
    key = request.app[STATE].api_key
    given = request.headers.get("authorization", "")
    if key is not None and request.path != "/health" and not _same_text(given, f"Bearer {key}"):
        raise WireError(
            401, "The API key is missing or wrong; send the one this server was started with.", code="invalid_api_key"
        )
    return await handler(request)


def _same_text(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


async def _chat_completions(http: web.Request) -> web.StreamResponse:
    state = http.app[STATE]
    request = read_chat_request(await http.read())
    faults = state.plan.drawn(next(state.numbers))
    record = Record(f"req_{uuid.uuid4().hex}", bool(request.stream), faults, request.user)
    exchange = _exchange(http, request, record, state)
    try:
        return await _admitted_answer(exchange, state)
    except WireError as error:
        error.headers.update(exchange.headers)
        raise
    except asyncio.CancelledError:
        record.ending = Ending.SERVER_STOPPED if state.stopping else Ending.CLIENT_LEFT
        raise
    except ConnectionResetError:
        record.ending = Ending.CLIENT_LEFT
        return web.Response()  # goes nowhere: its connection is closed
    finally:
        state.records.append(record)


def _exchange(http: web.Request, request: ChatRequest, record: Record, state: RankerState) -> speaking.Exchange:
    reading = read_prompt(request.prompt_text)
    record.candidates = {candidate.number: candidate.name for candidate in reading.candidates}
    script = spoil(_script(request, reading), record.faults, state.plan)
    text = answer_text(script.objects, before=script.before, after=script.after, max_tokens=request.token_limit)
    record.answer = text
    record.service_tier = request.service_tier
    record.prompt_tokens = prompt_token_count(request)
    record.charged_tokens = record.prompt_tokens + (request.token_limit or token_count(text.text))
    return speaking.Exchange(
        http=http,
        request=request,
        script=script,
        answer=text,
        record=record,
        throughput=state.throughput,
        resumed=state.plan_replaced,
    )


async def _admitted_answer(exchange: speaking.Exchange, state: RankerState) -> web.StreamResponse:
    """Answer if the limits allow it; otherwise refuse, as the plan has it."""
    gate, record = state.gate, exchange.record
    with state.admitted(record.charged_tokens) as refusal:
        allowances = gate.allowances(asyncio.get_running_loop().time())
        exchange.limit_headers.update(limit_headers(gate.plan.headers, allowances, datetime.now(UTC)))
        record.in_flight = gate.in_flight
        record.limits = gate.plan.in_force()
        if refusal is None:
            if gate.plan.prompt_cache:
                record.cached_tokens = state.cache.cached_tokens(exchange.request.whole_text)
            return await speaking.answer(exchange)
    record.limited, record.ending, record.status = refusal.limited, Ending.REFUSED, 429
    error = limit_error(gate.plan, refusal)
    if gate.plan.in_band and exchange.request.stream:
        return await speaking.refuse_in_stream(exchange, error)
    raise error


def _script(request: ChatRequest, reading: Reading) -> Script:
    """Rank what the request lists and write down the sound answer to it."""
    form = asked_form(request.instructions)
    objects = (
        AnswerObject(
            candidate=placed.candidate.number,
            name=placed.candidate.name,
            score=placed.score,
            text=object_text(form, placed.candidate.number, placed.candidate.name, score_text(form, placed.score)),
        )
        for placed in ranked(reading)
    )
    return Script(form=form, objects=tuple(objects))


async def _models(_request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [model_document()]})


async def _model(request: web.Request) -> web.Response:
    name = request.match_info["model"]
    if name != MODEL:
        raise unknown_model(name)
    return web.json_response(model_document())


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "model": MODEL, "description": FINGERPRINT})
