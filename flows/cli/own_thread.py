"""Runs a coroutine in a thread with an event loop of its own, and lets it be cancelled from outside, once."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def own_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> Iterator["Future[T]"]:
    """The future of `work()`, which begins at once. Leaving the block cancels what is not done and waits for its end.

    It is cancelled once, as a task is, so that it may still write down how it ended.
    """
    outcome: Future[T] = Future()
    running = threading.Event()
    tasks: list[asyncio.Task[T]] = []

    async def run() -> None:
        task = asyncio.create_task(work())
        tasks.append(task)
        running.set()
        await asyncio.wait({task})
        if task.cancelled():
            outcome.cancel()
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    thread = threading.Thread(target=copy_context().run, args=(asyncio.run, run()), name="flow")
    thread.start()
    running.wait()
    try:
        yield outcome
    finally:
        with suppress(RuntimeError):  # its loop has closed already: there is nothing left to cancel
            tasks[0].get_loop().call_soon_threadsafe(tasks[0].cancel)
        thread.join()
