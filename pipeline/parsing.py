"""Turns the deltas of an answer into the raw text of its objects, each at the moment its last character is there."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from pipeline.errors import AnswerCutError, AnswerError
from pipeline.scanning import ObjectScanner

MAX_TRAILING_CHARACTERS = 64
_PATIENCE_AFTER_ENOUGH_S = 2.0


def never() -> bool:
    """The `enough` of an answer that is read to its end."""
    return False


async def parse(deltas: AsyncGenerator[str], enough: Callable[[], bool] = never) -> AsyncGenerator[str]:
    """Yield each balanced item object.

    Once `enough()` is true no further object is waited for: the brackets that end the answer are still read, since the
    endpoint's count of tokens comes after them, but the stream is closed as soon as another object begins.

    Raises:
        AnswerCutError: the answer ended inside an object, after every whole one was yielded.
    """
    scanner = ObjectScanner()
    async with aclosing(deltas):
        while not enough() and (delta := await anext(deltas, None)) is not None:
            for raw in scanner.feed(delta):
                yield raw
        if enough():
            await _read_to_the_end(deltas, scanner)
        elif scanner.unfinished:
            raise AnswerCutError("the answer ended in the middle of an object")


async def _read_to_the_end(deltas: AsyncGenerator[str], scanner: ObjectScanner) -> None:
    trailing = 0
    try:
        async with asyncio.timeout(_PATIENCE_AFTER_ENOUGH_S):
            while not scanner.unfinished and trailing <= MAX_TRAILING_CHARACTERS:
                delta = await anext(deltas, None)
                if delta is None:
                    return
                trailing += len(delta)
                for _ in scanner.feed(delta):
                    return
    except (TimeoutError, AnswerError):
        return  # all that was asked for is here: how the endpoint ends is its own affair
