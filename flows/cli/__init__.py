"""The command line `recstream`."""

import signal
import sys


def main() -> None:
    """Run the command that was typed. Exit status: see `flows.cli.exits`."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    # Undecodable bytes in a name must not end a night with a traceback on a terminal that is not UTF-8.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        from flows.cli.app import run_command  # noqa: PLC0415 - takes a while, and Ctrl-C may come in it
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.exit(run_command())


def _as_interrupt(_signal: int, _frame: object) -> None:
    """SIGTERM ends everything the way Ctrl-C does: nothing is left running."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started with `&` by a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)
