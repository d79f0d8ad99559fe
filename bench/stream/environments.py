"""Environments for the peers that cannot share ours, each made from a file of pinned and hashed requirements."""

import subprocess
import sys
from pathlib import Path

from bench.folders import ROOT, kept_folder
from pipeline.errors import ConfigurationError

_MADE_FROM = "made-from.txt"  # a copy of the requirements, there once all of them are installed


def environment_of(peer: str) -> Path:
    """The Python of the peer's environment, which is made where it is missing or older than its requirements.

    Raises:
        ConfigurationError: it cannot be made.
    """
    requirements = ROOT / "bench" / f"requirements-{peer}.txt"
    folder = kept_folder(peer)
    python, made_from = folder / "bin" / "python", folder / _MADE_FROM
    wanted = requirements.read_text(encoding="utf-8")
    if not (made_from.is_file() and made_from.read_text(encoding="utf-8") == wanted):
        print(f"making the environment of {peer} in {folder.relative_to(ROOT)}", flush=True)
        _uv("venv", "--clear", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--python", str(python), "--no-deps", "--require-hashes", "-r", str(requirements))
        made_from.write_text(wanted, encoding="utf-8")
    return python


def _uv(*words: str) -> None:
    made = subprocess.run([sys.executable, "-m", "uv", "--quiet", *words], check=False)
    if made.returncode:
        raise ConfigurationError(f"`uv {words[0]}` failed: its own words stand above; is the package index reachable?")
