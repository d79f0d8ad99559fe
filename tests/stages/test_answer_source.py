"""A task that reads a body sleeps through its quiet pieces, and through nothing else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import repeat

import aiohttp
import pytest

from pipeline import answer_source
from pipeline.answer_body import AnswerBody, Patience
from pipeline.answer_source import CAN_NAP, AnswerSource
from pipeline.errors import AnswerStalledError
from tests.fixtures.http_bytes import LAST_CHUNK, chunk, chunked_head
from tests.fixtures.raw_endpoint import Move, Pause, Step, answer, raw_endpoint
from tests.fixtures.readings import EVENTS, read_outcomes

QUIET = b"." * 100
"""A piece that the tests call quiet."""
PATIENCE_S = 20.0
MUCH = 400


def is_quiet(piece: bytes) -> bool:
    return not piece.strip(b".")


@asynccontextmanager
async def body_of(*steps: Step, idle_s: float = PATIENCE_S) -> AsyncGenerator[AnswerBody]:
    """A body that comes in these steps, each after the reader has begun to wait."""
    play = answer(chunked_head(), chunk(b"!"), Move.WAIT_UNTIL_TAKEN, *steps)
    async with (
        raw_endpoint(play) as raw,
        aiohttp.ClientSession() as session,
        session.post(f"{raw.base_url}/chat/completions", json={}) as answered,
    ):
        patience = Patience(PATIENCE_S, idle_s, PATIENCE_S, asyncio.get_running_loop().time())
        body = AnswerBody(no_layers(), AnswerSource(answered), patience, "the endpoint")
        assert await body.read(is_quiet) == b"!"
        raw.taken.set()
        yield body
        body.close()
        answered.close()


async def no_layers() -> AsyncGenerator[bytes]:
    for piece in list[bytes]():
        yield piece


def test_the_aiohttp_in_use_lets_a_task_sleep_through_quiet_pieces() -> None:
    assert CAN_NAP


async def test_quiet_pieces_come_together_with_the_piece_that_is_not() -> None:
    async with body_of(*map(chunk, (QUIET, QUIET, QUIET, b"!", QUIET)), LAST_CHUNK) as body:
        assert await body.read(is_quiet) in {QUIET * 3 + b"!", QUIET * 3 + b"!" + QUIET}


async def test_quiet_pieces_alone_come_at_the_end_of_the_body() -> None:
    async with body_of(*repeat(chunk(QUIET), 3), LAST_CHUNK) as body:
        read = b""
        while piece := await body.read(is_quiet):
            read += piece
        assert read == QUIET * 3


async def test_many_quiet_pieces_are_not_held_for_ever() -> None:
    async with body_of(*repeat(chunk(QUIET), MUCH), Move.HOLD) as body:
        assert len(await asyncio.wait_for(body.read(is_quiet), PATIENCE_S)) < MUCH * len(QUIET)


async def test_quiet_pieces_are_signs_of_life() -> None:
    trickle: list[Step] = [step for _ in range(8) for step in (chunk(QUIET), Pause(0.1))]
    async with body_of(*trickle, chunk(b"!"), LAST_CHUNK, idle_s=0.5) as body:
        assert (await body.read(is_quiet)).endswith(b"!")


async def test_what_was_held_is_given_before_a_stall_is_reported() -> None:
    async with body_of(chunk(QUIET), chunk(QUIET), Move.HOLD, idle_s=0.2) as body:
        assert await body.read(is_quiet) == QUIET * 2
        with pytest.raises(AnswerStalledError):
            await body.read(is_quiet)


async def test_what_was_held_is_given_before_a_lost_connection_is_reported() -> None:
    async with body_of(chunk(QUIET), chunk(QUIET), Move.CLOSE) as body:
        assert await body.read(is_quiet) == QUIET * 2
        with pytest.raises(aiohttp.ClientError):
            await body.read(is_quiet)


async def test_an_answer_is_read_all_the_same_under_an_aiohttp_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_source, "CAN_NAP", False)
    steps = (chunked_head(), *map(chunk, EVENTS), LAST_CHUNK)
    async with raw_endpoint(answer(*steps)) as raw:
        assert (await read_outcomes(raw, raw.endpoint())).ids == ["p-1", "p-2", "p-3"]
