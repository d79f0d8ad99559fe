"""`init` and `load`: the tables, and the shop's files into them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.exits import UNFINISHED
from flows.cli.migration_output import plan_document, tell_done, tell_plan
from flows.cli.options import AsJson, DatabaseUrl, settings_from
from flows.cli.output import console, notes, print_json
from pipeline.database import address, open_connection
from pipeline.errors import InputError
from pipeline.loading import LoadReport, load_file, remember_rejects
from pipeline.provided_database import provided_database
from pipeline.schema import migrate, plan_migration
from pipeline.schema_version import require_current


class ShopTable(StrEnum):
    """What can be loaded."""

    CUSTOMERS = "customers"
    PRODUCTS = "products"
    EVENTS = "events"


def init(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Make recstream's tables, or update them, and say beforehand how.

    Nothing happens if they are at this version.

    Example: recstream init --database-url postgresql://shop@db.internal/shop
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        plan = plan_migration(url)
        if not as_json:
            tell_plan(plan, address(url))
        if not dry_run and plan.steps:
            migrate(url)
        if as_json:
            print_json(plan_document(plan, address(url), done=not dry_run))
        elif not dry_run or not plan.steps:
            tell_done(plan, address(url), grants=settings.database_url is not None)
    return 0


def load(
    table: Annotated[ShopTable, typer.Argument(help="What the file holds.")],
    file: Annotated[Path, typer.Argument(help="A csv, jsonl or parquet file (csv and jsonl also as .gz).")],
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OURS=THEIRS", help="Our column is called so in the file. Can be given often."),
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="Of moments that name no zone, e.g. Europe/London. Default: the shop's.")
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Where refused lines go. Default: FILE.rejects.jsonl in the working directory.")
    ] = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Load a file of the shop. Loading it twice changes nothing; a bad line is refused alone, and the rest lands.

    Example: recstream load products catalog.csv --map product_id=sku --map name=title
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        refused = rejects or Path(f"{file.name}.rejects.jsonl")
        with open_connection(url) as connection:
            remember_rejects(connection, refused)
            report = load_file(
                connection,
                table.value,
                file,
                mapping=_mapping(mapping or []),
                time_zone=time_zone or settings.time_zone,
                rejects=refused,
            )
    if as_json:
        print_json(report)
    else:
        _tell(table, report)
    return UNFINISHED if report.refused else 0


def _mapping(pairs: list[str]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for pair in pairs:
        ours, separator, theirs = pair.partition("=")
        if not (separator and ours and theirs):
            raise InputError(f"--map {pair!r} is not of the form OURS=THEIRS, e.g. --map product_id=sku")
        if ours in mapping:
            raise InputError(f"--map names {ours!r} twice: give each of our columns once")
        mapping[ours] = theirs
    return mapping


def _tell(table: ShopTable, report: LoadReport) -> None:
    lines = "line" if report.read == 1 else "lines"
    console().print(
        f"{table}: {report.read:,} {lines} read, {report.inserted:,} inserted, {report.updated:,} updated, "
        f"{report.unchanged:,} unchanged, {report.refused:,} refused"
    )
    for note in report.notes:
        notes().print(note, markup=False)
    if report.refused:
        reasons = ", ".join(f"{reason}: {number:,}" for reason, number in report.refused_by_reason.items())
        notes().print(f"refused lines are in {report.rejects_path} ({reasons})", markup=False)
