"""The machine's folder in which root keeps what a system user must reach and a private home hides from it."""

import sys
from pathlib import Path

SYSTEM_FOLDER = Path("/var/db/recstream" if sys.platform == "darwin" else "/var/lib/recstream")


def system_folder(name: str) -> Path:
    """The folder `name` in it, made if missing; everyone may enter, only root may write."""
    folder = SYSTEM_FOLDER / name
    for made in (SYSTEM_FOLDER, folder):
        made.mkdir(exist_ok=True)
        made.chmod(0o755)  # whatever the umask says: the folder is ours
    return folder
