"""docker-compose.yml: valid, without a default password, and one worker service that scales."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures.deploying import FILLED_IN, ROOT, NotFilledInError, compose_file, environment_of
from tests.unit.test_project_files import PINNED_IMAGE

LASTING = {"postgres", "prefect-postgres", "prefect-server", "worker", "offline-ranker"}
ONE_SHOT = {"migrate", "deploy"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services as compose would start them, with what a shop has filled in."""
    return dict(compose_file()["services"])


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def waits_for(service: dict[str, Any]) -> dict[str, str]:
    return {name: waited["condition"] for name, waited in service.get("depends_on", {}).items()}


def checked(file: Path) -> "subprocess.CompletedProcess[str]":
    """What the schema of the compose specification says to a file; it lies in the package, nothing is fetched."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "-o",
        "json",
        str(file),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_is_what_the_compose_specification_allows(tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed: the file is not validated")
    filled_in = tmp_path / "docker-compose.yml"
    filled_in.write_text(yaml.safe_dump(compose_file()), encoding="utf-8")
    for file in (ROOT / "docker-compose.yml", filled_in):
        told = checked(file)
        assert told.returncode == 0, told.stdout


def test_the_validator_finds_what_is_wrong(tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed: the file is not validated")
    broken = compose_file()
    broken["services"]["worker"]["replicas"] = 3
    file = tmp_path / "docker-compose.yml"
    file.write_text(yaml.safe_dump(broken), encoding="utf-8")
    told = checked(file)
    assert told.returncode == 1
    assert "services" in json.dumps(json.loads(told.stdout)["errors"])


def test_these_are_the_services(services: dict[str, Any]) -> None:
    assert set(services) == LASTING | ONE_SHOT


@pytest.mark.parametrize("name", FILLED_IN)
def test_it_does_not_start_before_a_secret_is_set(name: str) -> None:
    left_out = {key: value for key, value in FILLED_IN.items() if key != name}
    with pytest.raises(NotFilledInError, match=f"{name}: set it in .env"):
        compose_file(left_out)


@pytest.mark.parametrize("name", FILLED_IN)
def test_a_secret_has_no_default_in_any_place(name: str) -> None:
    places = re.findall(rf"\$\{{?{name}\b(.{{0,2}})", text_of("docker-compose.yml"))
    assert set(places) == {":?"}


def test_the_example_names_what_has_to_be_set_and_holds_no_password() -> None:
    lines = [line for line in text_of(".env.example").splitlines() if line and not line.startswith("#")]
    example = dict(line.split("=", 1) for line in lines)
    assert {name for name in FILLED_IN if example.get(name) == ""} == set(FILLED_IN)
    with pytest.raises(NotFilledInError):
        compose_file(example)
    compose_file(example | FILLED_IN)


def test_a_password_may_hold_any_character(services: dict[str, Any]) -> None:
    """None is written into an address, where a slash or an @ would change its meaning."""
    written = [
        value for one in services.values() for value in one.get("environment", {}).values() if "://" in str(value)
    ]
    assert written
    assert not [value for value in written if any(secret in value for secret in FILLED_IN.values())]


def test_every_image_is_pinned_and_ours_is_this_version(services: dict[str, Any]) -> None:
    images = {service["image"] for service in services.values()}
    assert f"recstream:{tomllib.loads(text_of('pyproject.toml'))['project']['version']}" in images
    for image in images:
        assert PINNED_IMAGE.fullmatch(image), image


@pytest.mark.parametrize("name", sorted(LASTING))
def test_what_lasts_has_a_health_check_and_starts_again(name: str, services: dict[str, Any]) -> None:
    assert services[name]["restart"] == "unless-stopped"
    assert services[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", sorted(ONE_SHOT))
def test_what_is_done_once_is_not_started_again(name: str, services: dict[str, Any]) -> None:
    assert services[name]["restart"] == "no"
    assert "healthcheck" not in services[name]


def test_nothing_keeps_the_worker_from_being_scaled(services: dict[str, Any]) -> None:
    worker = services["worker"]
    assert not {"container_name", "ports", "hostname", "volumes"} & worker.keys()
    assert not [argument for argument in worker["command"] if argument.startswith(("--name", "-n"))]


def test_a_worker_that_is_stopped_has_time_to_end_in_order(services: dict[str, Any]) -> None:
    assert services["worker"]["stop_grace_period"] == "2m"
    assert services["worker"]["init"] is True


def test_tables_come_before_deployments_and_these_before_workers(services: dict[str, Any]) -> None:
    assert waits_for(services["migrate"]) == {"postgres": "service_healthy"}
    assert waits_for(services["prefect-server"]) == {"prefect-postgres": "service_healthy"}
    assert waits_for(services["deploy"]) == {
        "migrate": "service_completed_successfully",
        "prefect-server": "service_healthy",
    }
    assert waits_for(services["worker"])["deploy"] == "service_completed_successfully"


def test_the_offline_ranker_answers_only_where_it_is_asked_for(services: dict[str, Any]) -> None:
    assert services["offline-ranker"]["profiles"] == ["offline"]
    assert services["worker"]["depends_on"]["offline-ranker"]["required"] is False
    assert [name for name, service in services.items() if "profiles" in service] == ["offline-ranker"]


def test_services_are_reachable_from_their_own_machine_alone_unless_told_otherwise(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)
    told = compose_file(FILLED_IN | {"RECSTREAM_BIND": "10.0.0.1"})["services"]
    assert told["postgres"]["ports"] == ["10.0.0.1:5432:5432"]


def test_prefects_page_asks_the_address_that_the_browser_has_come_by() -> None:
    told = compose_file(FILLED_IN | {"RECSTREAM_BIND": "10.0.0.1", "PREFECT_PORT": "4300"})["services"]
    assert environment_of(told["prefect-server"])["PREFECT_SERVER_UI_API_URL"] == "/api"


def test_a_further_machine_says_where_the_first_one_is() -> None:
    first = {"DATABASE_URL": "postgresql://recstream@10.0.0.1/recstream", "PREFECT_API_URL": "http://10.0.0.1:4200/api"}
    worker = environment_of(compose_file(FILLED_IN | first)["services"]["worker"])
    assert first.items() <= worker.items()


def test_the_databases_keep_their_rows_in_named_volumes(services: dict[str, Any]) -> None:
    mounts = [mount for one in services.values() for mount in one.get("volumes", [])]
    # From 18 on the image keeps its data in a folder of its version below this one.
    assert {mount.split(":")[0] for mount in mounts} == set(compose_file()["volumes"])
    assert {mount.split(":")[1] for mount in mounts} == {"/var/lib/postgresql"}


def test_the_databases_end_before_they_are_killed(services: dict[str, Any]) -> None:
    assert {services[name]["stop_grace_period"] for name in ("postgres", "prefect-postgres")} == {"1m"}


@pytest.mark.parametrize("name", ["prefect-server", "deploy", "worker", "migrate"])
def test_ours_run_with_the_profile_of_many_machines_and_without_privileges(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert service["env_file"][0] == "deploy/many-machines.env"
    assert service["env_file"][1]["required"] is False
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", ["prefect-server", "deploy", "worker", "migrate"])
def test_what_a_service_is_started_with_are_settings_that_are_known(
    name: str, services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.deploying.test_profiles import OTHERS, known_to_prefect, known_to_recstream, of_prefect

    environment = environment_of(services[name])
    assert set(environment) - known_to_prefect() - known_to_recstream() <= OTHERS
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    of_prefect()


def test_the_server_wants_the_key_that_the_others_have(services: dict[str, Any]) -> None:
    wanted = environment_of(services["prefect-server"])["PREFECT_SERVER_API_AUTH_STRING"]
    assert wanted == FILLED_IN["PREFECT_AUTH"]
    assert {environment_of(services[name])["PREFECT_API_AUTH_STRING"] for name in ("deploy", "worker")} == {wanted}


def test_no_model_key_reaches_the_server(services: dict[str, Any]) -> None:
    assert not {"OPENAI_API_KEY", "PGPASSWORD"} & environment_of(services["prefect-server"]).keys()


def test_every_command_is_one_that_is_installed(services: dict[str, Any]) -> None:
    scripts = Path(sys.executable).parent
    named = {service["command"][0] for service in services.values() if "command" in service}
    assert named == {"prefect", "recstream"}
    assert os.access(scripts / "prefect", os.X_OK)
    assert tomllib.loads(text_of("pyproject.toml"))["project"]["scripts"]["recstream"] == "flows.cli:main"
