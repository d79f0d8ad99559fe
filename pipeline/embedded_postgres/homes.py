"""The home: the one folder with data, log, locks and socket, at a place that the server's account can use."""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded_postgres.accounts import (
    Account,
    can_enter,
    is_root,
    name_of,
    own_account,
    system_account,
)
from pipeline.embedded_postgres.locks import exclusive
from pipeline.embedded_postgres.system_folder import system_folder
from pipeline.errors import ConfigurationError

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Home:
    """A folder of mode 0700 that belongs to the account. `path` has no symbolic links in it."""

    path: Path
    account: Account

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.path / "data"

    @property
    def sockets(self) -> Path:
        """The socket's folder, where its path is short enough."""
        return self.path / "sockets"

    @property
    def log(self) -> Path:
        """What the server said since its last start."""
        return self.path / "server.log"

    @property
    def start_lock(self) -> Path:
        """Held alone around every decision to start or stop."""
        return self.path / "start.lock"

    @property
    def users_lock(self) -> Path:
        """Held shared by everyone who uses the server."""
        return self.path / "users.lock"

    @property
    def server_lock(self) -> Path:
        """Held by the server's processes themselves, for as long as one of them lives."""
        return self.path / "server.lock"


def establish_home(folder: Path) -> Home:
    """The home to which `folder / "postgres"` leads, made if there is none yet.

    Raises:
        ConfigurationError: it belongs to another user, or the server's account cannot reach it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    entry = folder / "postgres"
    if not is_root():
        entry.mkdir(mode=0o700, exist_ok=True)
        return _checked(entry, own_account())
    if not _is_settled(entry):
        with exclusive(folder / "postgres.lock", PATIENCE_S):
            if not _is_settled(entry):  # another process may have been faster
                _settle(entry, system_account(None))
    return _checked(entry, system_account(entry.stat().st_uid))


def _is_settled(entry: Path) -> bool:
    return entry.exists() and (entry.stat().st_uid != 0 or any(entry.iterdir()))


def _settle(entry: Path, account: Account) -> None:
    """Make root's home: in place if the account can have it there, else in the system folder."""
    if entry.is_symlink():
        entry.unlink()  # it leads nowhere: what it led to was deleted
    if can_enter(account, entry.parent):
        entry.mkdir(mode=0o700, exist_ok=True)
        if _given_to(account, entry):
            return
        entry.rmdir()
    home = Path(tempfile.mkdtemp(prefix=f"{entry.parent.parent.name}-", dir=system_folder("databases")))
    (home / "project").write_text(f"{entry}\n", encoding="utf-8")  # for people who wonder whose data this is
    os.chown(home, account.uid, account.gid)
    entry.symlink_to(home)


def _given_to(account: Account, folder: Path) -> bool:
    """Whether the folder now belongs to the account; some mounted folders refuse that, or ignore it."""
    with contextlib.suppress(PermissionError):
        os.chown(folder, account.uid, account.gid)
    return folder.stat().st_uid == account.uid


def _checked(entry: Path, account: Account) -> Home:
    owner = entry.stat().st_uid
    if owner != account.uid:
        raise ConfigurationError(
            f"the embedded PostgreSQL in {entry} belongs to {name_of(owner)} and must belong to {account.name} when "
            f"{name_of(os.geteuid())} uses it: run as the user who made it, delete it, or set DATABASE_URL"
        )
    home = entry.resolve(strict=True)
    if not account.is_ours and not can_enter(account, home):
        raise ConfigurationError(
            f"the system user {account.name}, who runs PostgreSQL for root, cannot reach {home}: "
            "move the project back to where its database was made, or set DATABASE_URL"
        )
    return Home(home, account)


def remove_home(folder: Path, home: Home) -> None:
    """Delete the home and what leads to it."""
    entry = folder.resolve() / "postgres"
    if entry.is_symlink():
        entry.unlink()
    shutil.rmtree(home.path)
    (entry.parent / "postgres.lock").unlink(missing_ok=True)
