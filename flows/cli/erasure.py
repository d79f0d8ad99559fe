"""Erases a customer in every place where recstream writes, and looks in every one of them again."""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.prefect_erasure import erase_from_prefect
from flows.prefect_files import erase_from_prefect_files
from flows.prefect_server import LOCAL_SERVER, server_in_reach, set_prefect_environment, talking_to
from pipeline.domain import CustomerId
from pipeline.embedded_postgres import server_logs
from pipeline.erasing import erase_from_tables, verify_tables
from pipeline.erasing_files import erase_from_files
from pipeline.mentions import Mentions
from pipeline.settings import Settings

_SQLITE = "sqlite+aiosqlite:///"
_FLOW_RUNS = "flow runs of Prefect's server"
_REPORTS = "reports of nights on Prefect's server"
_EVENTS = "events of Prefect's server"
_GOING_ON = "nights that are going on, on Prefect's server"
_UNTOUCHED = f"records of the Prefect server at {LOCAL_SERVER}"
_HOW_TO_SETTLE = {
    _EVENTS: f"{{:,}} {_EVENTS} name him: it deletes them itself, after 7 days unless set otherwise",
    _GOING_ON: f"{{:,}} {_GOING_ON}, name him: erase again when they have ended",
    _UNTOUCHED: f"{{:,}} {_UNTOUCHED} name him and were left: nothing says that it is this shop's; if it is, "
    f"erase again with PREFECT_API_URL={LOCAL_SERVER}",
}
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Erasure:
    """Where a customer was found, and how often: what was removed, or what is still there.

    `looked_at` is what was searched, in rows, lines or flow runs. `remarks` are for the person who asked.
    """

    dry_run: bool
    places: Mapping[str, int]
    looked_at: Mapping[str, int]
    remarks: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def erase_everywhere(settings: Settings, url: str, customer_id: CustomerId, *, dry_run: bool, tell: Tell) -> Erasure:
    """Remove the customer; the database comes first, so that nothing that goes on writes him down again.

    Raises:
        RecstreamError: a place cannot be searched. What was removed before stays removed; erase again.
    """
    tables = erase_from_tables(url, customer_id, dry_run=dry_run)
    beside = _beside(settings, url, customer_id, dry_run=dry_run, tell=tell)
    remarks = list(beside.remarks)
    if not tables.known:
        remarks.insert(0, f"customer {customer_id!r} is not in the customers table; all the rest was searched for him")
    remarks += [f"{name} is a view of the shop's own tables: erase him there" for name in tables.of_the_shop]
    if not dry_run:
        remarks.append("`recstream load` of a file that still has him brings him back: the shop's files must be clean")
    places = {**tables.rows, **tables.texts, **beside.places}
    return Erasure(dry_run, places, beside.looked_at, tuple(remarks))


def verify_everywhere(settings: Settings, url: str, customer_id: CustomerId, *, tell: Tell) -> Erasure:
    """Look for the customer in every table and file, and in Prefect's records; nothing is changed.

    Raises:
        RecstreamError: a place cannot be searched.
    """
    tables = verify_tables(url, customer_id)
    beside = _beside(settings, url, customer_id, dry_run=True, tell=tell)
    looked_at = {**tables.looked_at, **beside.looked_at}
    return Erasure(
        dry_run=True, places={**tables.found, **beside.unproven}, looked_at=looked_at, remarks=beside.remarks
    )


@dataclass(frozen=True, slots=True)
class _Beside(Erasure):
    """What is beside the database. `unproven`: places where he is, or where nobody can look from here."""

    unproven: Mapping[str, int]


def _beside(settings: Settings, url: str, customer_id: CustomerId, *, dry_run: bool, tell: Tell) -> _Beside:
    set_prefect_environment(settings.home)
    files = erase_from_files(url, customer_id, logs=server_logs(settings.home), dry_run=dry_run)
    places = {str(file.path): file.erased for file in files.files}
    looked_at = {str(file.path): file.lines for file in files.files}
    remarks = [f"{path}, a file of refused lines, is there no more: if it was moved, clean it" for path in files.gone]
    remarks += [_elsewhere(where) for where in files.elsewhere]
    unproven = dict.fromkeys(files.elsewhere, 1)
    api_url = server_in_reach()
    if api_url is None:
        remarks += _unreached_records()
    else:
        tell(f"Prefect: searching the server at {api_url}")
        is_ours = _is_configured()
        with talking_to(api_url):
            found = asyncio.run(erase_from_prefect(customer_id, dry_run=dry_run or not is_ours))
        looked_at[_FLOW_RUNS] = found.looked_at
        if is_ours:
            places[_FLOW_RUNS], places[_REPORTS] = found.flow_runs, found.reports
            left = {_GOING_ON: found.going_on, _EVENTS: found.events}
        else:
            left = {_UNTOUCHED: found.flow_runs + found.reports + found.going_on + found.events}
        unproven |= {place: number for place, number in left.items() if number}
        remarks += [_HOW_TO_SETTLE[place].format(number) for place, number in left.items() if number]
    records = erase_from_prefect_files(_records(), _storage(), Mentions(customer_id), dry_run=dry_run)
    places[f"records in {_records()}"] = records.rows
    places |= {str(path): 1 for path in records.files}
    looked_at |= {f"records in {_records()}": records.looked_at}
    places = {place: number for place, number in places.items() if number}
    return _Beside(dry_run, places, looked_at, tuple(remarks), {**places, **unproven})


def _is_configured() -> bool:
    """True if somebody has named the server, and so said that it is this database's."""
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415 - only after the environment is set

    return PREFECT_API_URL.value() is not None


def _elsewhere(where: str) -> str:
    machine, _, path = where.partition(":")
    return (
        f"{where} is on another machine: erase him there too, and when the file is clean or gone, tell recstream with "
        f"DELETE FROM rejects_files WHERE machine = '{machine}' AND path = '{path}'"
    )


def _records() -> Path:
    """The temporary server's; a file that is not there where its records lie in a database of the person's own."""
    url = os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    return Path(url.removeprefix(_SQLITE) if url.startswith(_SQLITE) else os.devnull)


def _storage() -> Path:
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH  # noqa: PLC0415 - as above

    return Path(PREFECT_LOCAL_STORAGE_PATH.value())


def _unreached_records() -> list[str]:
    from prefect.settings import PREFECT_HOME  # noqa: PLC0415 - as above

    own = Path(PREFECT_HOME.value()) / "prefect.db"
    if not own.is_file():
        return []
    return [f"a Prefect server has its records in {own}, but does not run: start it and erase again, if flows used it"]
