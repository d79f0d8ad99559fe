"""The wheel alone is a whole recstream: built without a network, installed apart, run in an empty folder."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("flows", "migrations", "pipeline")
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], ROOT)
    assert built.returncode == 0, built.stderr
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a folder of its own; its dependencies are those of the Python that runs the tests."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq"]
    done = run([*pip, "install", "--no-deps", "--no-index", "--target", target, wheel], target)
    assert done.returncode == 0, done.stderr
    return target


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    on_disk = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    in_wheel = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert in_wheel == on_disk
    assert {Path(name).suffix for name in in_wheel} == {".py", ".sql", ".md", ".mako", ".toml"}


def test_the_wheel_brings_the_command_and_the_license(wheel: Path) -> None:
    with ZipFile(wheel) as opened:
        scripts = ConfigParser()
        scripts.read_string(opened.read(f"recstream-{VERSION}.dist-info/entry_points.txt").decode())
        names = opened.namelist()
    assert dict(scripts["console_scripts"]) == {"recstream": "flows.cli:main"}
    assert f"recstream-{VERSION}.dist-info/licenses/LICENSE" in names


def test_outside_the_checkout_the_installed_code_runs(installed: Path, tmp_path: Path) -> None:
    where = "import flows, migrations, pipeline; print(*(m.__file__ for m in (flows, migrations, pipeline)), sep='\\n')"
    told = run([sys.executable, "-c", where], tmp_path, PYTHONPATH=str(installed))
    assert [Path(line).parents[1] for line in told.stdout.splitlines()] == [installed] * 3


@pytest.mark.parametrize("program", [["-m", "flows.cli"], ["bin/recstream"]], ids=["module", "script"])
def test_the_command_tells_its_version(installed: Path, tmp_path: Path, program: list[str]) -> None:
    if program[0] != "-m":
        program = [str(installed / program[0])]
    told = run([sys.executable, *program, "--version"], tmp_path, PYTHONPATH=str(installed))
    assert (told.returncode, told.stdout, told.stderr) == (0, f"recstream {VERSION}\n", "")


def test_prompts_travel_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    version = "from pipeline.prompts import load_templates; print(load_templates().version)"
    there = run([sys.executable, "-c", version], tmp_path, PYTHONPATH=str(installed))
    here = run([sys.executable, "-c", version], tmp_path, PYTHONPATH=str(ROOT))
    assert there.returncode == 0, there.stderr
    assert there.stdout == here.stdout


def test_the_installed_command_migrates_a_database_and_reads_it(
    installed: Path, tmp_path: Path, empty_database_url: str
) -> None:
    command = [sys.executable, "-m", "flows.cli"]
    environment = {"PYTHONPATH": str(installed), "DATABASE_URL": empty_database_url}
    made = run([*command, "init"], tmp_path, **environment)
    assert made.returncode == 0, made.stderr
    asked = run([*command, "show", "nobody"], tmp_path, **environment)
    assert asked.returncode == 2, asked.stderr
    assert len(asked.stderr.splitlines()) == 1
    assert "nobody" in asked.stderr
