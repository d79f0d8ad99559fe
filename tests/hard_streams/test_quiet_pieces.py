"""Pieces of a body that the reader calls quiet may wait for the next, and nothing is missed or comes later for it."""

from collections.abc import Iterable, Iterator

import pytest

from pipeline.answer_reading import AnswerReader
from pipeline.errors import AnswerError
from pipeline.parsing import AnswerParser
from tests.fixtures.hard_streams import HardStream, every_stream
from tests.fixtures.scripted_endpoint import finish_event, text_event

STREAMS = [(stream, form) for stream in every_stream() for form, body in stream.bodies.items() if len(body) < 30_000]


def an_event_at_a_time(body: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in body.split(b"\n\n")]


def read(pieces: Iterable[bytes], *, holding: bool) -> tuple[list[tuple[int, str]], str]:
    """Each object with the number of the piece at which it was there, and the error, if one came."""
    reader, parser, arrivals = AnswerReader(), AnswerParser(), list[tuple[int, str]]()
    try:
        for number, chunk in fed(pieces, reader, holding=holding):
            for text in reader.feed(chunk):
                arrivals += [(number, raw) for raw in parser.feed(text)]
        arrivals += [(-1, raw) for text in reader.end() for raw in parser.feed(text)]
        reader.judge_ending()
    except AnswerError as error:
        return arrivals, str(error)
    return arrivals, ""


def fed(pieces: Iterable[bytes], reader: AnswerReader, *, holding: bool) -> Iterator[tuple[int, bytes]]:
    """What the reader is fed, with the number of the last piece in it: quiet pieces with the next, if they are held."""
    held, number = b"", 0
    for number, piece in enumerate(pieces):
        if reader.done:
            return
        is_quiet = reader.is_quiet if holding else None
        held += piece
        if is_quiet is None or not is_quiet(piece):
            chunk, held = held, b""
            yield number, chunk
    if held:
        yield number, held


@pytest.mark.parametrize(
    ("stream", "form"), [pytest.param(stream, form, id=f"{stream.name}, {form}") for stream, form in STREAMS]
)
def test_holding_quiet_pieces_makes_no_object_later_and_changes_no_ending(stream: HardStream, form: str) -> None:
    pieces = an_event_at_a_time(stream.bodies[form])
    assert read(pieces, holding=True) == read(pieces, holding=False)


@pytest.mark.parametrize(
    ("text", "is_quiet"),
    [
        ('{"i": 1, ', True),
        ("words", True),
        ("}", False),
        ("\x1f", False),  # any character that is written as an escape by its number may be a bracket
    ],
)
def test_a_piece_is_quiet_unless_it_may_close_a_bracket(text: str, *, is_quiet: bool) -> None:
    reader = AnswerReader()
    list(reader.feed(text_event("[")))
    assert reader.is_quiet is not None
    assert reader.is_quiet(text_event(text)) is is_quiet


@pytest.mark.parametrize(
    "text", ['","error":"overloaded', '"x', 'a"\n\ndata: [DONE]\n\ndata: "', "a\nb", '","finish_reason":"stop']
)
def test_a_piece_that_says_something_beside_its_text_is_not_quiet(text: str) -> None:
    reader = AnswerReader()
    list(reader.feed(text_event("[")))
    before, after = text_event("[").split(b'"["')
    assert reader.is_quiet is not None
    assert reader.is_quiet(before + b'"a"' + after)
    assert not reader.is_quiet(before + b'"' + text.encode() + b'"' + after)


def test_no_piece_is_quiet_before_an_event_was_seen_in_the_middle_of_one_or_after_a_finish_reason() -> None:
    reader = AnswerReader()
    before = reader.is_quiet
    list(reader.feed(text_event("[") + b"da"))
    in_the_middle = reader.is_quiet
    list(reader.feed(text_event("{")[2:]))
    between = reader.is_quiet
    list(reader.feed(finish_event()))
    assert (before, in_the_middle, reader.is_quiet) == (None, None, None)
    assert between is not None
