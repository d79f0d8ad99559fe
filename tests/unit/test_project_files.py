"""The files around the code: what is pinned is pinned everywhere, and what is named exists."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# Written so that this file does not find itself.
REGISTRY = re.compile(r"py[p]i\.(org|python)|python[h]osted\.org|--(extra-)?index[-]url|--find[-]links")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(ro[o]t|wor[k]|User[s]|tm[p]/w)/\w")
PINNED_IMAGE = re.compile(r"[\w./-]+:\d+\.\d+[\w.-]*")
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def pins() -> dict[str, tuple[Requirement, list[str]]]:
    """Each pinned requirement with its hashes, by name."""
    joined = read("requirements.txt").replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]
    found: dict[str, tuple[Requirement, list[str]]] = {}
    for line in lines:
        requirement, *hashes = line.split(" --hash=")
        pin = Requirement(requirement.strip())
        found[canonicalize_name(pin.name)] = (pin, [text.strip() for text in hashes])
    return found


def tracked_texts() -> dict[str, str]:
    """Every text file that git knows or would know, by path."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path.is_file()
    }


def decorated_flows(source: str) -> set[str]:
    """The names of the functions that `@flow(...)` decorates."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {
        function.name
        for function in functions
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "flow"
    }


def test_every_requirement_is_one_version_with_hashes() -> None:
    for name, (pin, hashes) in pins().items():
        assert re.fullmatch(r"==[\w.+!]+", str(pin.specifier)), name
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", text) for text in hashes), name


def test_the_pins_satisfy_what_the_project_asks_for(project: dict[str, Any]) -> None:
    pinned = pins()
    for text in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]:
        asked = Requirement(text)
        pin, _ = pinned[canonicalize_name(asked.name)]
        assert next(iter(pin.specifier)).version in asked.specifier, f"{text}: run `make lock`"


@pytest.mark.parametrize("python", SUPPORTED)
def test_no_direct_dependency_is_left_out_on_a_supported_python(python: str, project: dict[str, Any]) -> None:
    assert python in SpecifierSet(project["project"]["requires-python"])
    environment = {"python_version": python, "python_full_version": f"{python}.0", "implementation_name": "cpython"}
    for text in project["project"]["dependencies"]:
        marker: Marker | None = pins()[canonicalize_name(Requirement(text).name)][0].marker
        assert marker is None or marker.evaluate(environment), text


def test_no_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    for path, text in tracked_texts().items():
        for number, line in enumerate(text.splitlines(), start=1):
            assert not REGISTRY.search(line), f"{path}:{number}"
            assert not MACHINE_PATH.search(line), f"{path}:{number}"


def test_the_newest_entry_of_the_changelog_is_the_projects_version(project: dict[str, Any]) -> None:
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest
    assert newest[1] == project["project"]["version"]


def test_every_deployment_names_a_flow_that_exists() -> None:
    described = yaml.safe_load(read("prefect.yaml"))
    assert str(next(iter(pins()["prefect"][0].specifier)).version) == described["prefect-version"]
    assert {deployment["name"] for deployment in described["deployments"]} >= {"nightly", "on-demand", "candidates"}
    for deployment in described["deployments"]:
        module, _, function = deployment["entrypoint"].rpartition(".")
        assert function in decorated_flows(read(f"{module.replace('.', '/')}.py"))
        assert deployment["work_pool"]["name"] == "recstream"


def test_the_night_alone_has_its_hour_and_no_limit_of_prefects_that_could_wedge() -> None:
    deployments = {one["name"]: one for one in yaml.safe_load(read("prefect.yaml"))["deployments"]}
    assert not any("concurrency_limit" in deployment for deployment in deployments.values())
    assert [schedule["cron"] for schedule in deployments["nightly"]["schedules"]] == ["0 3 * * *"]
    assert "schedules" not in deployments["on-demand"]
