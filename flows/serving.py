"""All flows served together by one process, on one machine and without a pool: it runs what the server schedules."""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from prefect import get_client
from prefect.runner import Runner

from flows.catch_up import stands_since, start_missed_night
from flows.deploying import refusals_told, register_automations, set_schedule, standing, when
from flows.deployments import HEARTBEAT_S, Deployed
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings


def require_runner_folder() -> None:
    """Refuse to serve where Prefect's runner cannot keep its files: it has one place for all users of a machine.

    Raises:
        ConfigurationError: the place is another user's.
    """
    folder = Path(tempfile.gettempdir()) / "runner_storage"  # Prefect has no setting for it
    try:
        folder.mkdir(exist_ok=True)
        is_ours = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        is_ours = False
    if not is_ours:
        raise ConfigurationError(
            f"Prefect keeps files in {folder}, which is another user's: set TMPDIR to a folder of your own"
        )


async def serve_flows(wanted: Iterable[Deployed], settings: Settings, url: str, tell: Callable[[str], None]) -> None:
    """Register the deployments and automations with the server in reach and run what it schedules, until cancelled.

    The schedule goes on when this ends: what comes due meanwhile is late, and is caught up with by who serves next.

    Raises:
        ConfigurationError: the server refuses something.
    """
    runner = Runner(pause_on_shutdown=False, heartbeat_seconds=HEARTBEAT_S)
    with refusals_told():
        stood_since = await stands_since()  # before it is registered anew
        await _register(runner, wanted, tell)
        missed = await start_missed_night(settings, url, stood_since=stood_since)
    if missed is not None:
        tell(missed)
    await runner.start()


async def _register(runner: Runner, wanted: Iterable[Deployed], tell: Callable[[str], None]) -> None:
    async with get_client() as client:
        for it in wanted:
            if not it.in_pool_alone:
                before = await standing(client, it)
                kept = it.as_it_stands(before)
                await runner.aadd_deployment(await kept.of_runner())
                await set_schedule(client, kept, before)
                if kept.schedule is not None or kept.paused:
                    tell(f"deployment {it.full_name}: {when(kept, it)}")
        for done in await register_automations(client):
            tell(f"{done.kind} {done.name}: {done.done}")
