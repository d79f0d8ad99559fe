"""The two profiles: one file each, of settings that exist, read alike by systemd, compose and a shell."""

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.settings import load_settings
from tests.fixtures.deploying import PROFILES, ROOT, profile, read_profile

if TYPE_CHECKING:
    from prefect.settings import Settings

OTHERS = {"DO_NOT_TRACK", "DATABASE_URL", "PGPASSWORD", "OPENAI_API_KEY", "OPENAI_BASE_URL", "WORKER_LIMIT"}
SERVER_AWAY_S = 300


@pytest.fixture(params=PROFILES)
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A profile's settings, in the environment as well."""
    read = profile(request.param)
    for name, value in read.items():
        monkeypatch.setenv(name, value)
    return read


def of_prefect() -> "Settings":
    from prefect.settings import Settings

    return Settings()


def database_of(settings: "Settings") -> str:
    secret = settings.server.database.connection_url
    assert secret is not None
    return secret.get_secret_value()


def known_to_prefect() -> set[str]:
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields

    return {setting.name for setting in _get_settings_fields(Settings).values()}


def known_to_recstream() -> set[str]:
    from pipeline.settings import Settings

    return {f"RECSTREAM_{name.upper()}" for name in Settings.model_fields}


def test_every_name_is_a_setting_of_prefect_or_of_recstream(settings: dict[str, str]) -> None:
    assert set(settings) - known_to_prefect() - known_to_recstream() == {"DO_NOT_TRACK"}


def test_every_value_is_one_that_prefect_takes(settings: dict[str, str]) -> None:
    of_prefect()
    load_settings()


def test_the_own_settings_of_a_machine_are_settings_too() -> None:
    text = (ROOT / "deploy" / "recstream.env.example").read_text(encoding="utf-8")
    named = {line.removeprefix("# ").partition("=")[0] for line in text.splitlines() if "=" in line.partition(" ")[0]}
    named |= {line[2:].partition("=")[0] for line in text.splitlines() if line.startswith("# PREFECT_")}
    assert named - known_to_prefect() - known_to_recstream() <= OTHERS


def test_a_shell_reads_what_systemd_reads(settings: dict[str, str], tmp_path: Path) -> None:
    file = next(ROOT / "deploy" / f"{name}.env" for name in PROFILES if profile(name) == settings)
    read = subprocess.run(
        ["sh", "-c", f"set -a; . '{file}'; exec env -0"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    pairs = dict(line.split("=", 1) for line in read.stdout.decode().split("\0") if "=" in line)
    assert settings.items() <= pairs.items()


HOSTILE = (
    "postgresql://recstream@10.0.0.1:5432/recstream?sslmode=require&connect_timeout=10",
    'a;b|c<d>e(f)g`touch pwned`h$(touch pwned)i$HOME j#k \\ l"m*n!o~',
    'it\'s "so" `touch pwned` $HOME \\ & all',
)


def written(value: str) -> str:
    """A value as the example says that it is to be written."""
    return f"'{value}'" if "'" not in value else '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'


@pytest.mark.parametrize("value", HOSTILE)
def test_a_shell_takes_a_value_as_it_is_that_is_written_as_the_example_says(value: str, tmp_path: Path) -> None:
    example = (ROOT / "deploy" / "recstream.env.example").read_text(encoding="utf-8")
    lines = [line.removeprefix("# ") for line in example.splitlines() if re.match(r"(# )?[A-Z_]+=", line)]
    (tmp_path / "one.env").write_text(
        re.sub("='.*'$", lambda _: f"={written(value)}", "\n".join(lines), flags=re.MULTILINE)
    )
    read = subprocess.run(
        ["sh", "-c", "set -a; . ./one.env; exec env -0"],
        env={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    pairs = dict(line.split("=", 1) for line in read.stdout.decode().split("\0") if "=" in line)
    assert {pairs.get(line.partition("=")[0]) for line in lines} == {value}
    assert [it.name for it in tmp_path.iterdir()] == ["one.env"]


def test_nothing_calls_home(settings: dict[str, str]) -> None:
    read = of_prefect()
    assert settings["DO_NOT_TRACK"] == "1"
    assert not read.server.analytics_enabled
    assert not read.server.ui.v2_enabled  # its page loads a script from elsewhere
    assert not read.server.ui.show_promotional_content


def test_what_has_died_is_seen_within_two_minutes(settings: dict[str, str]) -> None:
    read = of_prefect()
    assert read.flows.heartbeat_frequency == 30
    assert read.worker.heartbeat_seconds == 30


def test_a_client_outlasts_a_server_that_is_away_for_five_minutes(settings: dict[str, str]) -> None:
    read = of_prefect()
    shortest = sum(2**count for count in range(1, read.client.max_retries + 1)) * (1 - read.client.retry_jitter_factor)
    assert shortest > SERVER_AWAY_S


def test_records_are_written_in_groups(settings: dict[str, str]) -> None:
    services = of_prefect().server.services
    assert services.task_run_recorder.batch_size > 1
    assert services.task_run_recorder.read_batch_size > 1
    assert services.event_persister.batch_size > 20
    assert services.event_persister.read_batch_size > 1


def test_what_hung_on_dropped_flow_runs_is_dropped_too(settings: dict[str, str]) -> None:
    assert of_prefect().server.services.db_vacuum.enabled == {"events", "orphans"}


def test_one_machine_keeps_prefects_records_in_sqlite_and_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in profile("one-machine").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", raising=False)
    read = of_prefect()
    assert database_of(read).startswith("sqlite")
    assert read.server.api.host == "127.0.0.1"
    assert load_settings().placement == "here"


def test_many_machines_keep_them_in_postgres_whatever_its_password_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import make_url

    for name, value in profile("many-machines").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", raising=False)
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_HOST", "db.internal")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_PASSWORD", "p@ss/w:rd %")
    url = make_url(database_of(of_prefect()))
    assert (url.drivername, url.host, url.password) == ("postgresql+asyncpg", "db.internal", "p@ss/w:rd %")
    assert load_settings().placement == "pool"


def test_no_secret_stands_in_a_profile(settings: dict[str, str]) -> None:
    assert not [name for name in settings if any(word in name for word in ("PASSWORD", "KEY", "AUTH", "SECRET"))]


def test_a_line_that_one_of_the_readers_takes_otherwise_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "one.env"
    for line in ('NAME="quoted"', "NAME=value # remark", "NAME=$OTHER", "export NAME=value"):
        file.write_text(f"{line}\n", encoding="utf-8")
        with pytest.raises(AssertionError, match="NAME"):
            read_profile(file)
