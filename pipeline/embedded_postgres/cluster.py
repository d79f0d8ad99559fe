"""The data folder: either absent or whole, and of the major version that the programs have."""

import os
import secrets
import shutil
from pathlib import Path

from pipeline.embedded_postgres.accounts import run_as
from pipeline.embedded_postgres.address import SUPERUSER
from pipeline.embedded_postgres.binaries import MAJOR_VERSION, Binaries
from pipeline.embedded_postgres.homes import Home
from pipeline.errors import ConfigurationError, DatabaseUnavailableError

STAGING = "data.new-"
"""Data folders are made under this name and renamed when they are whole and on the disk."""
OPTIONS = (
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--set=timezone=UTC",
    "--set=log_timezone=UTC",
)


def ensure_cluster(home: Home, binaries: Binaries) -> None:
    """Make the data folder if there is none. The caller holds the start lock.

    Raises:
        ConfigurationError: there is one, of another major version.
        DatabaseUnavailableError: initdb failed.
    """
    for leftover in home.path.glob(f"{STAGING}*"):
        shutil.rmtree(leftover)
    if not home.data.exists():
        _initialise(home, binaries)
    _refuse_other_version(home.data)


def _initialise(home: Home, binaries: Binaries) -> None:
    staging = home.path / f"{STAGING}{secrets.token_hex(4)}"
    initdb = binaries.program("initdb")
    completed = run_as(home.account, initdb, "-D", staging, "-U", SUPERUSER, *OPTIONS)
    if completed.returncode != 0:
        shutil.rmtree(staging, ignore_errors=True)  # the next start removes what resists
        raise DatabaseUnavailableError(
            f"initdb could not make a database in {home.path} ({_reason(completed.stderr)}): "
            "remove the cause and try again, or set DATABASE_URL"
        )
    staging.rename(home.data)
    _flush(home.path)


def _reason(complaint: str) -> str:
    """The line of initdb's complaint that says why; the lines after it say what initdb then did."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "FATAL:" in line or "PANIC:" in line]
    return (telling or lines or ["no reason given"])[0]


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_other_version(data: Path) -> None:
    version_file = data / "PG_VERSION"
    version = version_file.read_text(encoding="utf-8").strip() if version_file.exists() else "unknown"
    if version != MAJOR_VERSION:
        raise ConfigurationError(
            f"the data in {data} was made by PostgreSQL {version} and recstream brings {MAJOR_VERSION}: "
            "carry it over with pg_dump, delete the folder, or set DATABASE_URL"
        )
