"""`prune` and `erase`: what leaves the database, by age or by customer."""

from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from flows.cli.erasure import Erasure, erase_everywhere, verify_everywhere
from flows.cli.exits import UNFINISHED
from flows.cli.options import AsJson, DatabaseUrl, settings_from
from flows.cli.output import console, notes, print_json
from pipeline.domain import CustomerId
from pipeline.errors import InputError
from pipeline.provided_database import provided_database
from pipeline.pruning import PATIENCE_S, PruneReport
from pipeline.pruning import prune as prune_days
from pipeline.schema_version import require_current

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def prune(
    keep: Annotated[
        int,
        typer.Option(
            min=1,
            help="How many of the newest days stay; days without a run do not count. Today and yesterday always stay.",
        ),
    ],
    dry_run: DryRun = False,
    patience: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long a day waits for transactions that are open.")
    ] = PATIENCE_S,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Drop old days, but for the slates that readers still see.

    Nobody who reads or writes has to wait. A prune that was ended goes on where it was when it is started again.
    The login must be able to act as recstream_owner.

    Example: recstream prune --keep 7 --dry-run
    """
    settings = settings_from(database_url=database_url)
    tell = partial(notes().print, markup=False)
    with provided_database(settings) as url:
        require_current(url)
        report = prune_days(url, keep=keep, dry_run=dry_run, patience_s=patience, tell=tell)
    if as_json:
        print_json(_document(report))
    else:
        _tell_pruned(report)
    return UNFINISHED if report.left else 0


def erase(
    customer: Annotated[str, typer.Argument(help="The customer's id.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Afterwards look everywhere that nothing of him is left.")
    ] = False,
    dry_run: DryRun = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Remove every trace of a customer.

    From the tables, the files of refused lines, and Prefect's records and queue. With --verify, everything is searched
    afterwards, and the exit status is 1 if he is still found anywhere; with --dry-run --verify it is searched as it is.
    The shop's own files must be clean too: loading one that has him brings him back.
    The login must be able to act as recstream_owner.

    Example: recstream erase 12345 --verify
    """
    if not customer:
        raise InputError("the customer's id is empty: give the one to erase")
    if any("\ud800" <= character <= "\udfff" for character in customer):
        raise InputError(f"the customer's id {customer!r} has bytes in it that are no UTF-8: no customer is called so")
    settings = settings_from(database_url=database_url)
    tell = partial(notes().print, markup=False)
    with provided_database(settings) as url:
        require_current(url)
        erased = erase_everywhere(settings, url, CustomerId(customer), dry_run=dry_run, tell=tell)
        verified = verify_everywhere(settings, url, CustomerId(customer), tell=tell) if verify else None
    if as_json:
        print_json({"erased": erased.document(), "verified": None if verified is None else verified.document()})
    else:
        _tell_erased(erased)
        if verified is not None:
            _tell_verified(verified)
    return UNFINISHED if verified is not None and verified.places else 0


def _document(report: PruneReport) -> dict[str, object]:
    """For programs: days as text."""
    return {
        **asdict(report),
        "staying": [str(day) for day in report.staying],
        "dropped": [{**asdict(day), "day": str(day.day)} for day in report.dropped],
        "left": [{"day": str(day.day), "reason": day.reason} for day in report.left],
    }


def _tell_pruned(report: PruneReport) -> None:
    done = "would be dropped" if report.dry_run else "dropped"
    for day in report.dropped:
        console().print(
            f"{day.day} {done}: {len(day.tables)} tables, about {day.rows:,} rows, {_size(day.bytes)}; "
            f"{day.kept:,} slates kept for their readers",
            markup=False,
        )
    if not report.dropped:
        console().print("No day is older than those that stay.")
    staying = f"{report.staying[0]} to {report.staying[-1]}" if report.staying else "none"
    console().print(f"days that stay: {len(report.staying)} ({staying})", markup=False)
    if report.superseded or report.pointers or report.publications:
        console().print(
            f"removed besides: {report.superseded:,} kept slates that readers saw no more, {report.pointers:,} "
            f"pointers and {report.publications:,} publications without a slate"
        )
    for left in report.left:
        notes().print(f"recstream: {left.day} stays: {left.reason}", markup=False)


def _tell_erased(erased: Erasure) -> None:
    done = "would be removed" if erased.dry_run else "removed"
    for place, number in erased.places.items():
        console().print(f"  {place}: {number:,} {done}", markup=False)
    if not erased.places:
        console().print("  nothing of this customer was found", markup=False)
    for remark in erased.remarks:
        notes().print(f"recstream: {remark}", markup=False)


def _tell_verified(verified: Erasure) -> None:
    looked = ", ".join(f"{name} {number:,}" for name, number in verified.looked_at.items())
    console().print(f"searched: {looked}", markup=False)
    if not verified.places:
        console().print("verified: no match in any of them", markup=False)
    for place, number in verified.places.items():
        notes().print(f"recstream: still found in {place}: {number:,}", markup=False)
    for remark in verified.remarks:
        notes().print(f"recstream: {remark}", markup=False)


def _size(bytes_: int) -> str:
    size = float(bytes_)
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} {_UNITS[-1]}"
