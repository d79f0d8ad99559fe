"""`serve` and `offline-ranker`: the commands that stay until they are stopped."""

from functools import partial
from typing import Annotated

import typer

from flows.cli.options import settings_from
from flows.cli.output import notes
from flows.cli.own_thread import own_thread
from flows.prefect_server import prefect_server, server_in_reach, set_prefect_environment
from pipeline.errors import ConfigurationError
from pipeline.provided_database import provided_database
from pipeline.schema import require_current

NIGHTLY_CRON = "0 3 * * *"


def serve(
    cron: Annotated[str, typer.Option(help="When the night begins, in the shop's time zone.")] = NIGHTLY_CRON,
    time_zone: Annotated[str | None, typer.Option(help="Instead of the setting `time_zone`.")] = None,
) -> int:
    """Serve both flows on this machine.

    The nightly one on its schedule, the on-demand one when it is asked for.

    Example: recstream serve --cron "30 2 * * *" --time-zone Europe/Berlin
    """
    settings = settings_from(time_zone=time_zone)
    set_prefect_environment(settings.home)
    if server_in_reach() is None:
        raise ConfigurationError(
            "no Prefect server is in reach, and a schedule needs one that stays: "
            "start it with `prefect server start`, or set PREFECT_API_URL"
        )
    with provided_database(settings) as url:
        require_current(url)
    from flows.deployments import schedule_of, serve_flows  # noqa: PLC0415 - imports Prefect, which takes seconds

    schedule = schedule_of(cron, settings.time_zone)
    tell = partial(notes().print, markup=False)
    # In a thread of its own for the sake of SIGTERM, as in `flows.cli.night_run`.
    with prefect_server(tell), own_thread(partial(serve_flows, schedule)) as serving:
        tell(f"Serving `nightly` ({cron}, {settings.time_zone}) and `on-demand`. Ctrl-C ends it.")
        serving.result()
    return 0


def offline_ranker(context: typer.Context) -> int:
    """Answer like a model, by word overlap.

    An OpenAI-compatible endpoint for trials without a key. `--help` lists its flags.

    Example: recstream offline-ranker --port 8020 --tokens-per-second 50
    """
    from pipeline.offline_ranker.__main__ import main  # noqa: PLC0415 - imports an HTTP server

    return main(context.args)
