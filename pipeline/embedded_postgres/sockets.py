"""The socket's folder: private, and short enough for the kernel."""

import os
import re
import socket
import stat
import sys
import tempfile
from pathlib import Path

from pipeline.embedded_postgres.accounts import can_enter
from pipeline.embedded_postgres.address import PORT
from pipeline.embedded_postgres.homes import Home
from pipeline.errors import ConfigurationError

LONGEST_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes of a socket's whole path that the kernel takes."""
PLAIN = re.compile(r"[A-Za-z0-9_./ +@~-]+")
"""Paths that the server, libpq and URLs take as they stand; a comma, say, separates folders for some."""


def socket_path(folder: Path) -> Path:
    """The socket that a server puts into `folder`."""
    return folder / f".s.PGSQL.{PORT}"


def choose_socket_folder(home: Home, former: Path | None) -> Path:
    """The folder in the home if that serves, else the one of the former server, else a new one.

    Raises:
        ConfigurationError: no folder for temporary files serves either.
    """
    if _is_usable(home.sockets):
        if not home.sockets.is_dir():
            home.sockets.mkdir(mode=0o700)
            _give(home, home.sockets)
        return home.sockets
    if former is not None and _is_private(home, former):
        return former
    return _temporary(home)


def drop_socket_folder(home: Home, folder: Path) -> None:
    """Delete a folder outside the home, once the server that used it is gone."""
    if folder == home.sockets or not _is_private(home, folder):
        return
    clear_socket_folder(folder)
    folder.rmdir()


def clear_socket_folder(folder: Path) -> None:
    """Delete what a killed server left there, or the next one could believe that it still lives."""
    path = socket_path(folder)
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


def is_answered(folder: Path) -> bool:
    """Whether somebody listens at the socket in `folder`."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(socket_path(folder)))
        except OSError:
            return False
        return True


def _temporary(home: Home) -> Path:
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - only as the parent of mkdtemp
        if _is_usable(Path(parent, "recstream-12345678")) and can_enter(home.account, Path(parent)):
            folder = Path(tempfile.mkdtemp(prefix="recstream-", dir=parent))
            _give(home, folder)
            return folder
    raise ConfigurationError(
        f"the socket of the embedded PostgreSQL fits neither in {home.path} (at most {LONGEST_PATH} bytes) "
        "nor into a folder for temporary files: set TMPDIR to a short path, or set DATABASE_URL"
    )


def _is_usable(folder: Path) -> bool:
    path = str(socket_path(folder))
    return len(os.fsencode(path)) <= LONGEST_PATH and PLAIN.fullmatch(path) is not None


def _is_private(home: Home, folder: Path) -> bool:
    """Whether only the account may enter the folder: anybody may put folders where the temporary ones are."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == home.account.uid and not found.st_mode & 0o077


def _give(home: Home, folder: Path) -> None:
    if not home.account.is_ours:
        os.chown(folder, home.account.uid, home.account.gid)
