"""`serve` and `offline-ranker`: the commands that stay until they are stopped."""

from functools import partial

import typer

from flows.cli.deploy_command import Cron, TimeZone
from flows.cli.options import settings_from
from flows.cli.output import notes
from flows.cli.own_thread import own_thread
from flows.prefect_server import prefect_server, require_lasting_server, set_prefect_environment
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current


def serve(cron: Cron = None, time_zone: TimeZone = None) -> int:
    """Serve all flows on this machine, without workers.

    The nightly one on its schedule, the others when they are asked for. What came due while nobody served is caught
    up with, as far as the setting `catch_up_hours` goes.

    Example: recstream serve --cron "30 2 * * *" --time-zone Europe/Berlin
    """
    settings = settings_from(time_zone=time_zone)
    set_prefect_environment(settings.home)
    require_lasting_server("a schedule needs one that stays")
    from flows.deployments import deployments_as_asked  # noqa: PLC0415 - imports Prefect, which takes seconds
    from flows.serving import require_runner_folder, serve_flows  # noqa: PLC0415 - as above

    require_runner_folder()
    wanted = deployments_as_asked(settings, cron, time_zone)
    tell = partial(notes().print, markup=False)
    with provided_database(settings) as url:
        require_current(url)
        # In a thread of its own for the sake of SIGTERM, as in `flows.cli.night_run`.
        with prefect_server(tell), own_thread(partial(serve_flows, wanted, settings, url, tell)) as serving:
            tell("Serving `nightly` and the other flows. Ctrl-C ends it.")
            serving.result()
    return 0


def offline_ranker(context: typer.Context) -> int:
    """Answer like a model, by word overlap.

    An OpenAI-compatible endpoint for trials without a key. `--help` lists its flags.

    Example: recstream offline-ranker --port 8020 --tokens-per-second 50
    """
    from pipeline.offline_ranker.__main__ import main  # noqa: PLC0415 - imports an HTTP server

    return main(context.args)
