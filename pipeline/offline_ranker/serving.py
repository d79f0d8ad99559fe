"""Runs the server in this process: one JSON line when it listens, and an end that leaves nothing behind."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from aiohttp import web

from pipeline.child_process import wait_for_parents_end
from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.options import Options
from pipeline.offline_ranker.record import RecordFile, record_file
from pipeline.offline_ranker.server import build_application
from pipeline.offline_ranker.state import new_state
from pipeline.offline_ranker.wire import FINGERPRINT

_BACKLOG = 1024


def serve(options: Options) -> int:
    """Serve until a signal, or the end of standard input where that is watched. Return the exit status.

    0 after SIGTERM or the end of standard input, 130 after SIGINT. ConfigurationError where it cannot listen
    or log.
    """
    with record_file(options.log) as records:
        return asyncio.run(_serve(options, records))


async def _serve(options: Options, records: RecordFile) -> int:
    state = new_state(options.tokens_per_second, options.api_key, records, options.faults, options.limits)
    ended = _end_of_service(watch_stdin=options.watch_stdin)
    async with _listening(build_application(state), options) as port:
        base_url = f"http://{_in_url(options.host)}:{port}/v1"
        if not options.quiet:
            print(f"{FINGERPRINT}; it answers at {base_url}", file=sys.stderr, flush=True)
        print(json.dumps({"base_url": base_url, "pid": os.getpid()}), flush=True)
        return await ended


@asynccontextmanager
async def _listening(application: web.Application, options: Options) -> AsyncIterator[int]:
    # A short patience at the end: a stalled stream would wait for ever. Cancelled handlers still record their
    # answers.
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        yield await _listen(runner, options)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, options: Options) -> int:
    site = web.TCPSite(runner, options.host, options.port, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        raise ConfigurationError(
            f"the offline ranker cannot listen on {options.host}:{options.port} ({error.strerror or error}): "
            "end what listens there, or give another --port (0 takes a free one)"
        ) from error
    return int(runner.addresses[0][1])


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _end_of_service(*, watch_stdin: bool) -> "asyncio.Future[int]":
    """Return the exit status to come."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    loop.add_signal_handler(signal.SIGTERM, end, 0)
    loop.add_signal_handler(signal.SIGINT, end, 128 + signal.SIGINT)
    if watch_stdin:
        # A thread and a bare read, because an event loop cannot wait for every kind of standard input.
        threading.Thread(target=_at_end_of_stdin, args=(loop, partial(end, 0)), daemon=True).start()
    return ended


def _at_end_of_stdin(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    wait_for_parents_end()
    with suppress(RuntimeError):  # the loop has ended already, so there is nothing left to end
        loop.call_soon_threadsafe(end)
