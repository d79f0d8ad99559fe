"""Where the plans of faults and of limits can be read and put in force while the server runs."""

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from pipeline.offline_ranker.chat_request import validation_refusal
from pipeline.offline_ranker.faults import FaultPlan
from pipeline.offline_ranker.limits import LimitPlan
from pipeline.offline_ranker.state import STATE

Plan = TypeVar("Plan", bound=BaseModel)

PLAN_ROUTES = web.RouteTableDef()


@PLAN_ROUTES.get("/faults")
async def _faults(request: web.Request) -> web.Response:
    return _document(request.app[STATE].plan)


@PLAN_ROUTES.put("/faults")
async def _put_faults(request: web.Request) -> web.Response:
    plan = _read(FaultPlan, await request.read())
    request.app[STATE].put_plan(plan)
    return _document(plan)


@PLAN_ROUTES.get("/limits")
async def _limits(request: web.Request) -> web.Response:
    return _document(request.app[STATE].gate.plan)


@PLAN_ROUTES.put("/limits")
async def _put_limits(request: web.Request) -> web.Response:
    limits = _read(LimitPlan, await request.read())
    request.app[STATE].put_limits(limits)
    return _document(limits)


def _read(kind: type[Plan], body: bytes) -> Plan:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise validation_refusal(error) from error


def _document(plan: BaseModel) -> web.Response:
    return web.Response(text=plan.model_dump_json(), content_type="application/json")
