"""The systemd units: what systemd itself passes, locked up, and stopped in a way that lets a shard end in order."""

import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from tests.fixtures.deploying import ROOT, profile

FOLDER = ROOT / "deploy" / "systemd"
UNITS = ("recstream-prefect-server.service", "recstream-worker@.service", "recstream-offline-ranker.service")
MOST_EXPOSED = 20  # of 100: "OK" in the words of systemd-analyze ends at 40


class Directives(RawConfigParser):
    """A unit's directives, under the names as they are written."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit(name: str) -> Directives:
    """A unit's directives; of those that stand more than once the last."""
    read = Directives(strict=False)
    read.read_string((FOLDER / name).read_text(encoding="utf-8"))
    return read


def values(name: str, directive: str) -> list[str]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{directive}=")]


def systemd(*arguments: str | Path, program: str = "systemd-analyze") -> "subprocess.CompletedProcess[str]":
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here: the units are not verified")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def installed(folder: Path) -> list[Path]:
    """The units as they would lie on a machine where recstream is installed: under the Python of this test."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name in ("recstream", "prefect"):
        (bin_folder / name).symlink_to(sys.executable)
    for name in UNITS:
        text = (FOLDER / name).read_text(encoding="utf-8").replace("/opt/recstream/bin", str(bin_folder))
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in UNITS]


def test_systemd_has_nothing_to_say(tmp_path: Path) -> None:
    told = systemd("verify", "--man=no", *installed(tmp_path))
    assert (told.returncode, told.stderr) == (0, "")


def test_systemd_finds_what_is_wrong(tmp_path: Path) -> None:
    file = installed(tmp_path)[0]
    file.write_text(file.read_text(encoding="utf-8").replace("Restart=on-failure", "Restart=maybe"), encoding="utf-8")
    assert "restart specifier" in systemd("verify", "--man=no", file).stderr


@pytest.mark.parametrize("name", UNITS)
def test_a_service_is_locked_up(name: str, tmp_path: Path) -> None:
    (file,) = [one for one in installed(tmp_path) if one.name == name]
    told = systemd("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", file)
    assert told.returncode == 0, told.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", UNITS)
def test_a_service_runs_as_its_own_user_and_starts_again(name: str) -> None:
    service = unit(name)["Service"]
    assert (service["Type"], service["Restart"]) == ("exec", "on-failure")
    assert (service["User"], service["Group"]) == ("recstream", "recstream")
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["StateDirectory"] == "recstream"
    assert 'u recstream - "recstream"' in (FOLDER / "recstream.sysusers.conf").read_text(encoding="utf-8")


def test_a_worker_is_told_alone_and_what_it_runs_has_time_to_end() -> None:
    service = unit("recstream-worker@.service")["Service"]
    assert (service["KillMode"], service["KillSignal"]) == ("mixed", "SIGTERM")
    assert service["TimeoutStopSec"] == "3min"


def test_workers_of_one_machine_have_names_of_their_own() -> None:
    started = unit("recstream-worker@.service")["Service"]["ExecStart"]
    assert "--name=%H-%i" in started
    assert "--with-healthcheck" not in started  # all of them would listen at one port


@pytest.mark.parametrize("name", UNITS[:2])
def test_a_profile_comes_first_and_the_machines_own_settings_go_before_it(name: str) -> None:
    assert values(name, "EnvironmentFile") == ["/etc/recstream/profile.env", "/etc/recstream/recstream.env"]
    assert not [value for value in values(name, "Environment") if value.partition("=")[0] in profile("many-machines")]


def test_secrets_are_read_by_the_services_group_alone() -> None:
    lines = (FOLDER / "recstream.tmpfiles.conf").read_text(encoding="utf-8").splitlines()
    entries = [line.split() for line in lines if line and not line.startswith("#")]
    assert [entry[1:5] for entry in entries] == [
        ["/etc/recstream", "0750", "root", "recstream"],
        ["/etc/recstream/profile.env", "0640", "root", "recstream"],
        ["/etc/recstream/recstream.env", "0640", "root", "recstream"],
    ]


def test_systemd_makes_the_user_and_the_folders(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    made = systemd(f"--root={tmp_path}", FOLDER / "recstream.sysusers.conf", program="systemd-sysusers")
    assert made.returncode == 0, made.stderr
    assert "recstream" in (tmp_path / "etc" / "passwd").read_text(encoding="utf-8")
