"""What a command imports before it knows what it is to do, and that it imports no other command's modules."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ("aiohttp", "openai", "prefect", "scipy")  # a second of CPU, or two, for every command that is typed
OF_COMMANDS = ("alembic", "psycopg", "pydantic", "rich", "sqlalchemy")
OF_OTHERS = ("pipeline.comparing", "pipeline.demo_shop", "pipeline.evaluating", "pipeline.loading", "pipeline.pruning")


def loaded(program: str, names: tuple[str, ...]) -> list[str]:
    """Which of these modules are there when the program has run."""
    tell = f"import json, sys; {program}; print(json.dumps([name for name in {names} if name in sys.modules]))"
    told = subprocess.run(
        [sys.executable, "-c", tell], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    found: list[str] = json.loads(told.stdout)
    return found


def test_no_command_loads_the_http_client_or_prefect_before_it_needs_them() -> None:
    program = (
        "from typer.main import get_command; from flows.cli.app import app; commands = get_command(app).commands;"
        " own = [one for name, one in commands.items() if name != 'candidates'];"
        " below = list(commands['candidates'].commands.values()); assert len(own) > 25 and len(below) > 3"
    )
    assert loaded(program, HEAVY) == []
    assert loaded(program, OF_COMMANDS) == list(OF_COMMANDS), "all of them were imported"


def test_the_names_of_the_commands_load_none_of_them() -> None:
    assert loaded("import flows.cli.app", (*HEAVY, *OF_COMMANDS)) == []


def test_a_command_loads_no_other_commands_modules() -> None:
    program = "from typer.main import get_command; from flows.cli.app import app; get_command(app).commands['status']"
    assert loaded(program, (*HEAVY, *OF_OTHERS)) == []
