"""The HTTP application: its routes, who may call them, and the faults that it is told to make."""

import asyncio
import hmac
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

from aiohttp import web
from pydantic import ValidationError

from pipeline.offline_ranker import speaking
from pipeline.offline_ranker.answers import AnswerObject, answer_text, asked_form, object_text, score_text
from pipeline.offline_ranker.chat_request import ChatRequest, read_chat_request, validation_refusal
from pipeline.offline_ranker.effects import Script, spoil
from pipeline.offline_ranker.faults import FaultPlan
from pipeline.offline_ranker.prompt_reading import Reading, read_prompt
from pipeline.offline_ranker.ranking import ranked
from pipeline.offline_ranker.record import Ending, Record, RecordFile
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


@dataclass(slots=True)
class RankerState:
    """What the handlers share. `numbers` counts the requests that the plan in force has seen, from 1."""

    tokens_per_second: float
    api_key: str | None
    records: RecordFile
    plan: FaultPlan
    numbers: "count[int]" = field(default_factory=lambda: count(1))
    plan_replaced: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False

    def put_plan(self, plan: FaultPlan) -> None:
        """Put another plan in force: requests are numbered from 1 again, and held answers go on."""
        self.plan = plan
        self.numbers = count(1)
        self.plan_replaced.set()
        self.plan_replaced = asyncio.Event()


STATE = web.AppKey("STATE", RankerState)


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
            web.get("/faults", _faults),
            web.put("/faults", _put_faults),
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
        return await speaking.answer(exchange)
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
    return speaking.Exchange(
        http=http,
        request=request,
        script=script,
        answer=text,
        record=record,
        tokens_per_second=state.tokens_per_second,
        resumed=state.plan_replaced,
    )


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


async def _faults(request: web.Request) -> web.Response:
    return _plan_document(request.app[STATE].plan)


async def _put_faults(request: web.Request) -> web.Response:
    try:
        plan = FaultPlan.model_validate_json(await request.read())
    except ValidationError as error:
        raise validation_refusal(error) from error
    request.app[STATE].put_plan(plan)
    return _plan_document(plan)


def _plan_document(plan: FaultPlan) -> web.Response:
    return web.Response(text=plan.model_dump_json(), content_type="application/json")
