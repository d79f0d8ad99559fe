"""What a command imports before it knows what it is to do."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ("aiohttp", "openai", "prefect", "scipy")  # a second of CPU, or two, for every command that is typed


def test_the_commands_load_neither_the_http_client_nor_prefect_before_they_need_them() -> None:
    program = f"import sys, flows.cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    assert told.stdout == "[]\n"
