"""The command line `recstream`."""

import signal
import sys

from flows.cli.app import app


def main() -> None:
    """Run the command that was typed. Exit status: see `flows.cli.exits`."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    # Undecodable bytes in a name must not end a night with a traceback on a terminal that is not UTF-8.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="recstream")


def _as_interrupt(_signal: int, _frame: object) -> None:
    """SIGTERM ends everything the way Ctrl-C does: nothing is left running."""
    signal.raise_signal(signal.SIGINT)
