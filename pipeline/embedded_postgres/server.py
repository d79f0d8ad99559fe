"""Starting, finding and stopping the server's processes. Every caller holds the start lock.

Whether a server lives is not guessed from process ids, which are reused and differ between containers: the
server and each of its children inherit a lock, and the kernel releases it when the last of them is gone. Only
then is what a killed server left behind removed.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded_postgres.accounts import run_as
from pipeline.embedded_postgres.address import PORT
from pipeline.embedded_postgres.binaries import Binaries
from pipeline.embedded_postgres.homes import Home
from pipeline.embedded_postgres.locks import LockFile
from pipeline.embedded_postgres.sockets import (
    choose_socket_folder,
    clear_socket_folder,
    drop_socket_folder,
    is_answered,
)
from pipeline.embedded_postgres.waiting import attempts
from pipeline.errors import DatabaseUnavailableError

START_PATIENCE_S = 120.0
STOP_PATIENCE_S = 60
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "200",
    "shared_buffers": "64MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
}
IN_BACKGROUND = '"$@" </dev/null >>"$0" 2>&1 &'
"""A shell starts the server and ends, so that the server is no child of ours and never our zombie."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What a server writes about itself into postmaster.pid."""

    socket_folder: Path
    is_ready: bool


def ensure_running(home: Home, binaries: Binaries) -> Path:
    """Start the server unless it runs; return its socket folder once it answers.

    Raises:
        DatabaseUnavailableError: it ended again, or does not answer.
    """
    was_started = False
    for _ in attempts(START_PATIENCE_S):
        with LockFile(home.server_lock) as lock:
            if lock.try_exclusive():
                if was_started:
                    raise DatabaseUnavailableError(f"the embedded PostgreSQL did not start: {last_words(home)}")
                _start(home, binaries, lock)
                was_started = True
                continue
        record = read_record(home.data)
        if record is not None and record.is_ready and is_answered(record.socket_folder):
            return record.socket_folder
    raise DatabaseUnavailableError(
        f"the embedded PostgreSQL does not answer after {START_PATIENCE_S:.0f} s: {last_words(home)}"
    )


def stop(home: Home, binaries: Binaries) -> None:
    """Stop the server, if one runs, and wait until its last process is gone.

    Raises:
        DatabaseUnavailableError: it does not stop.
    """
    if _is_gone(home):
        return
    for mode in ("fast", "immediate"):
        record = _awaited_record(home)
        arguments = ("stop", "-D", home.data, "-m", mode, "-w", "-t", str(STOP_PATIENCE_S))
        run_as(home.account, binaries.program("pg_ctl"), *arguments)
        if _is_gone(home, patience_s=10):
            if record is not None:
                drop_socket_folder(home, record.socket_folder)
            return
    raise DatabaseUnavailableError(
        "the embedded PostgreSQL does not stop: end the process that the first line of "
        f"{home.data / 'postmaster.pid'} names: {last_words(home)}"
    )


def read_record(data: Path) -> ServerRecord | None:
    """The record of the server that runs, or was killed; None if there is none, or it is not complete yet."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 5 or not lines[4]:
        return None
    return ServerRecord(Path(lines[4]), is_ready=len(lines) > 7 and lines[7].strip() == "ready")


def last_words(home: Home) -> str:
    """The line of the log that says why the server ended or hangs, and the log's path."""
    log = home.log.read_text(encoding="utf-8", errors="replace") if home.log.exists() else ""
    lines = [line for line in log.splitlines() if line.strip()]
    decisive = [found.group() for line in lines if (found := re.search(r"(FATAL|PANIC):.*", line))]
    return f"{(decisive or lines or ['it said nothing'])[-1]} (log: {home.log})"


def _start(home: Home, binaries: Binaries, lock: LockFile) -> None:
    """Start the server's first process, which keeps `lock`."""
    former = read_record(home.data)
    folder = choose_socket_folder(home, former.socket_folder if former else None)
    clear_socket_folder(folder)
    (home.data / "postmaster.pid").unlink(missing_ok=True)  # its writer is dead: nobody held the lock
    if home.log.exists():
        home.log.replace(home.log.with_suffix(".log.old"))
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    started = run_as(
        home.account,
        *("/bin/sh", "-c", IN_BACKGROUND, home.log, binaries.program("postgres"), "-D", home.data),
        *(*settings, f"--unix_socket_directories={folder}"),
        pass_fds=(lock.descriptor,),
    )
    if started.returncode != 0 or started.stderr:
        raise DatabaseUnavailableError(
            f"the embedded PostgreSQL in {home.path} could not be started: {started.stderr.strip()}"
        )


def _awaited_record(home: Home) -> ServerRecord | None:
    """The record of a server that may have been started only a moment ago."""
    for _ in attempts(10):
        record = read_record(home.data)
        if record is not None or _is_gone(home):
            return record
    return None


def _is_gone(home: Home, patience_s: float = 0) -> bool:
    for _ in attempts(patience_s):
        with LockFile(home.server_lock) as lock:
            if lock.try_exclusive():
                return True
    return False
