"""Which Prefect server a run uses."""

import os
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.prefect_server import prefect_server, server_in_reach, set_prefect_environment
from flows.temporary_server import answers
from pipeline.errors import ConfigurationError

NOBODY = "http://127.0.0.1:9/api"


def test_the_server_that_is_configured_is_used_and_named(prefect_api_url: str) -> None:
    told: list[str] = []
    with temporary_settings({PREFECT_API_URL: prefect_api_url}), prefect_server(told.append):
        assert get_current_settings().api.url == prefect_api_url
    assert told == [f"Prefect: using the server at {prefect_api_url}"]


def test_a_configured_server_that_does_not_answer_is_an_error_and_no_other_is_started() -> None:
    with (
        temporary_settings({PREFECT_API_URL: NOBODY}),
        pytest.raises(ConfigurationError, match="no Prefect server answers at PREFECT_API_URL http://127"),
    ):
        server_in_reach()


def test_a_password_in_the_address_is_not_told_and_the_server_is_found_all_the_same(prefect_api_url: str) -> None:
    told: list[str] = []
    with_password = prefect_api_url.replace("//", "//somebody:s3cret@")
    with temporary_settings({PREFECT_API_URL: with_password}), prefect_server(told.append):
        pass
    assert told == [f"Prefect: using the server at {prefect_api_url}"]
    with (
        temporary_settings({PREFECT_API_URL: NOBODY.replace("//", "//somebody:s3c@ret@")}),
        pytest.raises(ConfigurationError, match="at PREFECT_API_URL http://127"),
    ):
        server_in_reach()


def test_a_healthy_server_answers_and_a_closed_port_does_not(prefect_api_url: str) -> None:
    assert answers(prefect_api_url)
    assert not answers(NOBODY)


def test_what_the_person_has_set_for_prefect_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = "postgresql+asyncpg://prefect@db/prefect"
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", mine)
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    set_prefect_environment(tmp_path / "home")
    assert os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == mine
    assert os.environ["DO_NOT_TRACK"] == "1"


def test_records_lie_beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", raising=False)
    set_prefect_environment(Path("home"))
    assert os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == f"sqlite+aiosqlite:///{tmp_path}/home/prefect.db"
    assert (tmp_path / "home").is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/home cannot be made \(Not a directory\): .* RECSTREAM_HOME"):
        set_prefect_environment(tmp_path / "file" / "home")
