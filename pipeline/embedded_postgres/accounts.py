"""Which system user the server runs as, and how a program is run as that user."""

import errno
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigurationError, DatabaseUnavailableError

SYSTEM_USERS = ("postgres", "_postgres", "nobody")
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
PROGRAM_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that owns the data and runs the server. `is_ours`: it is this process's own."""

    name: str
    uid: int
    gid: int
    is_ours: bool


def is_root() -> bool:
    """PostgreSQL refuses to run as this process's user."""
    return os.geteuid() == 0


def own_account() -> Account:
    """The user of this process."""
    return Account(name_of(os.geteuid()), os.geteuid(), os.getegid(), is_ours=True)


def system_account(owner: int | None) -> Account:
    """The user that serves for root: `owner` if it is a known system user, else the first that exists.

    Raises:
        ConfigurationError: the machine has none of them.
    """
    known = [entry for name in SYSTEM_USERS if (entry := _entry(name)) is not None]
    if not known:
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root and there is no user {' or '.join(SYSTEM_USERS)} here: "
            "add one, run as an ordinary user, or set DATABASE_URL"
        )
    chosen = next((entry for entry in known if entry.pw_uid == owner), known[0])
    return Account(chosen.pw_name, chosen.pw_uid, chosen.pw_gid, is_ours=False)


def name_of(uid: int) -> str:
    """The name of a user, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def run_as(
    account: Account, *arguments: str | Path, pass_fds: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as `account` and keep what it prints.

    It runs in a session of its own that no Ctrl-C reaches, and gets no standard input, none of our secrets,
    none of the PG* variables, and a working folder that is open to everyone.

    Raises:
        ConfigurationError: this process may not become `account`.
        DatabaseUnavailableError: the program did not end in time.
    """
    try:
        return subprocess.run(  # noqa: S603 - fixed programs, no shell reads the arguments
            [str(argument) for argument in arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | {"LC_ALL": "C"},
            umask=0o077,
            start_new_session=True,
            pass_fds=pass_fds,
            timeout=PROGRAM_TIMEOUT_S,
            user=None if account.is_ours else account.uid,
            group=None if account.is_ours else account.gid,
            extra_groups=None if account.is_ours else [],
        )
    except subprocess.TimeoutExpired as error:
        raise DatabaseUnavailableError(
            f"{arguments[0]} did not end within {PROGRAM_TIMEOUT_S:.0f} s: "
            "look at the machine's load and disk, then try again"
        ) from error
    except OSError as error:
        if account.is_ours or error.errno not in {errno.EPERM, errno.EINVAL}:
            raise
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root and this process may not become the user {account.name} "
            f"({error.strerror}): run as an ordinary user, or set DATABASE_URL"
        ) from error


def can_enter(account: Account, folder: Path) -> bool:
    """Whether the account reaches the folder through all that lies above it, tried for real."""
    return run_as(account, "/bin/sh", "-c", 'cd -- "$1"', "sh", folder).returncode == 0


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
