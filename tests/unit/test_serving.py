"""What keeps `recstream serve` from serving, told before it begins."""

import tempfile
from pathlib import Path

import pytest

from flows.serving import require_runner_folder
from pipeline.errors import ConfigurationError


def test_a_folder_that_prefect_cannot_use_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    require_runner_folder()
    require_runner_folder()
    (tmp_path / "runner_storage").rmdir()
    (tmp_path / "runner_storage").write_text("another's")
    with pytest.raises(ConfigurationError, match="runner_storage, which is another user's: set TMPDIR to a folder"):
        require_runner_folder()
