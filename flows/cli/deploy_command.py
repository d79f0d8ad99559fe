"""`deploy`: the work pool, the deployments and the automations, registered with Prefect's server in one go."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, settings_from
from flows.cli.output import console, notes, print_json
from flows.prefect_server import prefect_server, require_lasting_server, set_prefect_environment

if TYPE_CHECKING:
    from flows.deploying import Registered

_SHOWN = {"made": "would be made", "changed": "would be changed", "found": "is there"}
Cron = Annotated[
    str | None,
    typer.Option(help="When the night begins. Without it: as it does now, or the setting `night_cron` at first."),
]
TimeZone = Annotated[
    str | None, typer.Option(help="Whose clocks. Without it: as now, or the setting `time_zone` at first.")
]


def deploy(
    cron: Cron = None,
    time_zone: TimeZone = None,
    pool: Annotated[
        str, typer.Option(help="The work pool; a process pool is made where it is not there.")
    ] = "recstream",
    show: Annotated[bool, typer.Option("--show", help="Only say what would be made; nothing is written.")] = False,
    as_json: AsJson = False,
) -> int:
    """Register the flows with Prefect's server.

    The work pool, the deployments with their schedules, and the automations; workers of the pool run them then.
    Again, it sets what has changed and makes nothing twice; what a person has set or paused there stays.

    Example: recstream deploy --cron "30 3 * * *" --time-zone Europe/Berlin
    """
    settings = settings_from(time_zone=time_zone)
    set_prefect_environment(settings.home)
    require_lasting_server("deployments need one that stays")
    from flows.deploying import deploy as register  # noqa: PLC0415 - imports Prefect, which takes seconds
    from flows.deploying import missing, odd_nights_to_come  # noqa: PLC0415 - as above
    from flows.deployments import deployments_as_asked  # noqa: PLC0415 - as above

    wanted = deployments_as_asked(settings, cron, time_zone)
    tell = partial(notes().print, markup=False)
    with prefect_server(tell):
        for line in asyncio.run(odd_nights_to_come(wanted, datetime.now(UTC))):
            tell(f"recstream: the clocks of {line}")
        done = asyncio.run(missing(wanted, pool) if show else register(wanted, pool))
    if as_json:
        print_json([asdict(it) | {"done": _done(it, show=show)} for it in done])
        return 0
    for it in done:
        console().print(_line(it, show=show), markup=False)
    return 0


def _done(it: "Registered", *, show: bool) -> str:
    return _SHOWN[it.done] if show else it.done


def _line(it: "Registered", *, show: bool) -> str:
    return f"{it.kind} {it.name}: {_done(it, show=show)}" + (f" ({it.remark})" if it.remark else "")
