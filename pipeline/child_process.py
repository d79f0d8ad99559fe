"""A Python module run as a child process that never outlives us: ended by its pid, or by itself when we die."""

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import ConfigurationError

_IMPORT_ROOT = Path(__file__).resolve().parents[1]
_PIECE = 4096


@contextmanager
def child_process(
    module: str, flags: Sequence[str], *, environment: Mapping[str, str] | None = None, end_within_s: float = 5.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m module flags` while the block runs, with pipes for its three streams.

    The child is to end when its standard input ends (see `wait_for_parents_end`): that is how it notices that we were
    killed. It starts in the folder that holds the package, so that it is found from everywhere, installed or not, and
    in a session of its own, so that Ctrl-C reaches us alone and we end it in our order.
    """
    with subprocess.Popen(  # noqa: S603 - the command is this interpreter and arguments that we wrote
        [sys.executable, "-m", module, *flags],
        cwd=_IMPORT_ROOT,
        env=None if environment is None else {**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            end_child(process, end_within_s)


def end_child(process: "subprocess.Popen[bytes]", within_s: float = 5.0) -> None:
    """End the child by its pid, gently first. Nothing happens to one that has ended."""
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def first_line(stdout: IO[bytes], *, what: str, within_s: float) -> bytes:
    """Return the first line that the child prints, or nothing where it ends before it has printed one.

    Raises:
        ConfigurationError: the line did not come in time.
    """
    received = b""
    deadline = time.monotonic() + within_s
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while not received.endswith(b"\n"):
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise ConfigurationError(
                    f"{what} did not listen within {within_s:g} s: is this machine overloaded? Start it again"
                )
            piece = os.read(stdout.fileno(), _PIECE)
            if not piece:
                return b""
            received += piece
    return received


def wait_for_parents_end() -> None:
    """In the child: return when standard input ends, which is when the parent is gone, however it went."""
    while os.read(0, _PIECE):
        pass
