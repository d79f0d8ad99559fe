"""`pause`, `continue`, `drain`, `cancel` and `limit`: orders to a run that goes on, which all its processes obey."""

import asyncio
import time
from typing import Annotated, Final
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.cli.exits import UNFINISHED
from flows.cli.options import AsJson, DatabaseUrl, settings_from
from flows.cli.output import console, notes, print_json
from pipeline.database import open_engine
from pipeline.domain import OrderKind, RunId
from pipeline.errors import InputError
from pipeline.orders import Given, Heard, give_order, read_heard
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current

PATIENCE_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.2
_DIED: Final = (
    "its process has died. Nothing will be done of it until `recstream resume`, which begins anew, without this order; "
    "a pause and a limit stand."
)

RunArgument = Annotated[UUID | None, typer.Argument(help="The run's id; the nightly run that goes on by default.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return once every process has obeyed, or after a minute.")]


def pause(
    run_id: RunArgument = None, wait: Wait = False, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> int:
    """Send no more requests for a run.

    Answers that are on their way come to their end. A run that dies meanwhile and is resumed stays paused.

    Example: recstream pause
    """
    return _order(run_id, OrderKind.PAUSE, None, database_url, wait=wait, as_json=as_json)


def continue_(
    run_id: RunArgument = None, wait: Wait = False, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> int:
    """End a pause, or take a drain back.

    Example: recstream continue
    """
    return _order(run_id, OrderKind.CONTINUE, None, database_url, wait=wait, as_json=as_json)


def drain(
    run_id: RunArgument = None, wait: Wait = False, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> int:
    """Finish the customers that a run has begun, and then end it.

    It is published if its gates let it pass; `recstream resume` goes on with the customers that are left.

    Example: recstream drain
    """
    return _order(run_id, OrderKind.DRAIN, None, database_url, wait=wait, as_json=as_json)


def cancel(
    run_id: RunArgument = None, wait: Wait = False, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> int:
    """End a run at once.

    Answers that are on their way are closed, and their slates given back; what is committed stays, and
    `recstream resume` goes on from there.

    Example: recstream cancel
    """
    return _order(run_id, OrderKind.CANCEL, None, database_url, wait=wait, as_json=as_json)


def limit(
    run_id: RunArgument = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Requests at a time, over all processes of the run.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Take the limit away.")] = False,
    wait: Wait = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Let a run make only so many requests at a time.

    Its processes share them evenly. The limit stands until it is taken away, also when the run is resumed.

    Example: recstream limit --concurrency 20
    """
    if (concurrency is None) is not off:
        raise InputError("name the limit with --concurrency N, or take it away with --off")
    return _order(run_id, OrderKind.LIMIT, concurrency, database_url, wait=wait, as_json=as_json)


def _order(
    run_id: UUID | None, kind: OrderKind, most: int | None, database_url: str | None, *, wait: bool, as_json: bool
) -> int:
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        given, heard = asyncio.run(_given(url, None if run_id is None else RunId(run_id), kind, most, wait=wait))
    if as_json:
        print_json(given)
    else:
        console().print(_told(given, heard), markup=False)
    if heard is None or _obeyed(given, heard):
        return 0
    notes().print(f"recstream: after {PATIENCE_S:.0f} s {_open_question(heard)}", markup=False)
    return UNFINISHED


async def _given(
    url: str, run_id: RunId | None, kind: OrderKind, most: int | None, *, wait: bool
) -> tuple[Given, Heard | None]:
    async with open_engine(url, connections=1) as engine:
        given = await give_order(engine, run_id, kind, most)
        return given, await _heard(engine, given) if wait else None


async def _heard(engine: AsyncEngine, given: Given) -> Heard:
    """What became of the order, as soon as it is obeyed, or when patience ends."""
    patient_until = time.monotonic() + PATIENCE_S
    while True:
        heard = await read_heard(engine, RunId(given.run_id), given.order_id)
        if _obeyed(given, heard) or time.monotonic() > patient_until:
            return heard
        await asyncio.sleep(_LOOK_EVERY_S)


def _obeyed(given: Given, heard: Heard) -> bool:
    """Whether every process knows; a cancelled run has to have ended besides."""
    return not heard.state.goes_on or (not heard.unaware and given.kind is not OrderKind.CANCEL)


def _open_question(heard: Heard) -> str:
    if heard.unaware:
        return f"{heard.unaware} of {_processes(heard.processes)} had not heard of it: see `recstream status`"
    return "the run had not ended: see `recstream status`"


def _told(given: Given, heard: Heard | None) -> str:
    if not given.alive and given.kind in (OrderKind.DRAIN, OrderKind.CANCEL):
        return f"Run {given.run_id}: {_DIED}"
    return f"Run {given.run_id} {_what(given)}. {_who_obeys(given, heard)}"


def _who_obeys(given: Given, heard: Heard | None) -> str:
    """Who will obey, or, where that was waited for, who does."""
    if heard is not None and not heard.state.goes_on:
        return "It has ended."
    if not (heard or given).processes:
        if given.alive:
            return "Nobody serves a shard of it now: who answers for it obeys within 5 s, and whoever serves one next."
        return "No process works on it now: whichever does next obeys."
    if heard is None:
        return f"{_processes(given.processes)} will obey within 5 s."
    obeying = heard.processes - heard.unaware
    return f"{_processes(obeying)} obey{'s' if obeying == 1 else ''}."


def _what(given: Given) -> str:
    match given.kind:
        case OrderKind.PAUSE:
            return "is paused: no more requests are sent until `recstream continue`"
        case OrderKind.CONTINUE:
            return "goes on"
        case OrderKind.DRAIN:
            return "is draining: it ends with the customers that it has begun, unless `recstream continue` comes first"
        case OrderKind.CANCEL:
            return "is cancelled: what is committed stays"
        case _ if given.concurrency is None:
            return "has no limit any more"
    return f"is limited to {given.concurrency:,} request{'' if given.concurrency == 1 else 's'} at a time"


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number:,} processes"
