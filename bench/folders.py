"""Where the checkout is, and the folder in it that benches keep things in, which git does not see."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".bench"


def kept_folder(name: str) -> Path:
    """The folder `name` among those that are kept; the one above it is there."""
    KEPT.mkdir(exist_ok=True)
    (KEPT / ".gitignore").write_text("*\n", encoding="utf-8")
    return KEPT / name
