"""`serve` and `offline-ranker`: the commands that stay until they are stopped."""

import asyncio
from functools import partial
from typing import Annotated

import typer

from flows.cli.options import settings_from
from flows.cli.output import notes
from flows.prefect_server import prefect_server, server_in_reach, set_prefect_environment
from pipeline.errors import ConfigurationError

NIGHTLY_CRON = "0 3 * * *"


def serve(
    cron: Annotated[str, typer.Option(help="When the night begins, in the shop's time zone.")] = NIGHTLY_CRON,
    time_zone: Annotated[str | None, typer.Option(help="Instead of the setting `time_zone`.")] = None,
) -> int:
    """Serve both flows on this machine: the nightly one on its schedule, the on-demand one when it is asked for.

    Example: recstream serve --cron "30 2 * * *" --time-zone Europe/Berlin
    """
    settings = settings_from(time_zone=time_zone)
    set_prefect_environment(settings.home)
    if server_in_reach() is None:
        raise ConfigurationError(
            "no Prefect server is in reach, and a schedule needs one that stays: "
            "start it with `prefect server start`, or set PREFECT_API_URL"
        )
    from flows.deployments import serve_flows  # noqa: PLC0415 - imports Prefect, which takes seconds

    with prefect_server(partial(notes().print, markup=False)):
        notes().print(
            f"Serving `nightly` ({cron}, {settings.time_zone}) and `on-demand`. Ctrl-C ends it.", markup=False
        )
        asyncio.run(serve_flows(cron, settings.time_zone))
    return 0


def offline_ranker(context: typer.Context) -> int:
    """Answer like an OpenAI endpoint, by word overlap: for trials without a key. `--help` lists its flags.

    Example: recstream offline-ranker --port 8020 --tokens-per-second 50
    """
    from pipeline.offline_ranker.__main__ import main  # noqa: PLC0415 - imports an HTTP server

    return main(context.args)
