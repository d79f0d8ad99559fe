"""Bounded waits and waits that Ctrl-C cannot cut short."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PAUSE_S = 0.02


def attempts(patience_s: float) -> Iterator[None]:
    """Yield at once and then every few milliseconds, until `patience_s` seconds have passed."""
    end = time.monotonic() + patience_s
    yield
    while time.monotonic() < end:
        time.sleep(PAUSE_S)  # a file lock or a server that starts gives nothing to wait on
        yield


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold back Ctrl-C until the block has ended, then deliver it.

    Only the main thread is ever interrupted by it, so in any other thread there is nothing to hold back.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    pressed: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        pressed.append(number)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if pressed:
            signal.raise_signal(signal.SIGINT)
