"""The promise of the Makefile: `.venv` is whole, or it is made anew. The Python here only keeps a diary."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDER = """#!/bin/sh
echo "$@" >> "{diary}"
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *--require-hashes*) test ! -e "{diary}.break" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a shop's checkout"
    folder.mkdir()
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A program in Python's place that writes down what it is told; it fails to install while `diary.break` exists."""
    program = tmp_path / "python"
    program.write_text(RECORDER.format(diary=tmp_path / "diary"), encoding="utf-8")
    program.chmod(0o755)
    return program


def make(checkout: Path, python: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    return subprocess.run(
        ["make", f"PYTHON={python}", ".venv/.ready"],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def installed(recorder: Path) -> list[str]:
    """What was made and installed since the last look, in order."""
    diary = recorder.parent / "diary"
    lines = diary.read_text(encoding="utf-8").splitlines() if diary.exists() else []
    diary.unlink(missing_ok=True)
    marks = {"-m venv": "venv", "--require-hashes": "pins", "--editable": "project"}
    return [name for line in lines for mark, name in marks.items() if mark in line]


def test_the_first_call_makes_the_environment_and_the_second_finds_it(checkout: Path, recorder: Path) -> None:
    made = make(checkout, recorder)
    assert (made.returncode, made.stderr) == (0, "")
    assert installed(recorder) == ["venv", "pins", "project"]
    assert make(checkout, recorder).returncode == 0
    assert installed(recorder) == []


def test_a_half_made_environment_is_made_anew(checkout: Path, recorder: Path) -> None:
    broken = recorder.parent / "diary.break"
    broken.touch()
    assert make(checkout, recorder).returncode != 0
    assert installed(recorder) == ["venv", "pins"]
    broken.unlink()
    (checkout / ".venv" / "left").touch()
    assert make(checkout, recorder).returncode == 0
    assert installed(recorder) == ["venv", "pins", "project"]
    assert not (checkout / ".venv" / "left").exists()


def test_a_moved_checkout_gets_an_environment_of_its_own(checkout: Path, recorder: Path) -> None:
    make(checkout, recorder)
    installed(recorder)
    moved = checkout.rename(checkout.with_name("elsewhere"))
    assert make(moved, recorder).returncode == 0
    assert installed(recorder) == ["venv", "pins", "project"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [("requirements.txt", ["venv", "pins", "project"]), ("pyproject.toml", ["project"])],
)
def test_what_changed_is_installed_again(checkout: Path, recorder: Path, changed: str, expected: list[str]) -> None:
    make(checkout, recorder)
    installed(recorder)
    later = (checkout / ".venv" / ".ready").stat().st_mtime + 10
    os.utime(checkout / changed, (later, later))
    assert make(checkout, recorder).returncode == 0
    assert installed(recorder) == expected


def test_without_a_fitting_python_one_line_says_which_is_needed(checkout: Path) -> None:
    refused = make(checkout, Path("no-such-python"))
    assert refused.returncode == 2
    assert "recstream needs Python 3.11 to 3.14" in refused.stderr.splitlines()[0]
    assert "no-such-python" in refused.stderr.splitlines()[0]
    assert not (checkout / ".venv").exists()
