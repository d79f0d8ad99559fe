"""`housekeeping`: what the hourly flow does to recstream's own database, now and without Prefect."""

import asyncio
from contextlib import aclosing
from dataclasses import asdict

from flows.cli.exits import UNFINISHED
from flows.cli.options import AsJson, DatabaseUrl, settings_from
from flows.cli.output import console, notes, print_json
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current
from pipeline.settings import Settings


def housekeeping(database_url: DatabaseUrl = None, as_json: AsJson = False) -> int:
    """Keep the database in order.

    Days ahead are made ready, statistics brought up to date, what died is cleared up, and old days are dropped.
    Days are dropped where the setting `keep_days` says how many stay: then the login must be able to act as
    recstream_owner. A night that goes on is not disturbed. One step that fails keeps no other from being done.

    Example: recstream housekeeping
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        reports = asyncio.run(_keep_house(settings, url, quiet=as_json))
    if as_json:
        print_json({"steps": reports})
    return UNFINISHED if any(report["failed"] for report in reports) else 0


async def _keep_house(settings: Settings, url: str, *, quiet: bool) -> list[dict[str, object]]:
    from pipeline.housekeeping import keep_house  # noqa: PLC0415 - what only this command needs

    reports = []
    async with aclosing(keep_house(url, keep_days=settings.keep_days)) as steps:
        async for report in steps:
            reports.append(asdict(report))
            if not quiet:
                line = f"{report.step}: {report.told}"
                (notes() if report.failed else console()).print(line, markup=False)
    return reports
