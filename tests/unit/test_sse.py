"""The event decoder on bytes: the standard's own examples, and no dependence on how the bytes are split."""

from collections.abc import Iterable
from itertools import chain, pairwise, repeat

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import AnswerCutError
from pipeline.sse import BLOCK_END, Event, SseDecoder, read_event, unknown_line

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine too

LINE = st.one_of(
    st.sampled_from(
        [
            b"",
            b"data",
            b"data:",
            b"data: x",
            b"data:  y",
            b"data: a:b",
            b"event: e",
            b"event",
            b": note",
            b"id: 1",
            b"other: z",
        ]
    ),
    st.binary(max_size=12),
    st.text(max_size=6).map(lambda text: b"data: " + text.encode("utf-8", "replace")),
)
END = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAM = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef"]),
    st.lists(st.tuples(LINE, END).map(b"".join), max_size=12),
).map(lambda parts: parts[0] + b"".join(parts[1]))
CUTS = st.lists(st.integers(0, 200), max_size=12)


def events(*chunks: bytes) -> list[Event]:
    return events_of(SseDecoder(), chunks)


def events_of(decoder: SseDecoder, chunks: Iterable[bytes]) -> list[Event]:
    blocks = [block for chunk in chunks for block in decoder.feed(chunk).split(BLOCK_END)]
    return [event for block in blocks if (event := read_event(block)) is not None]


def data_of(*chunks: bytes) -> list[bytes]:
    return [event.data for event in events(*chunks)]


def split(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(places)]


def test_the_lines_of_one_event_are_joined() -> None:
    assert data_of(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [b"YHOO\n+2\n10"]


def test_comments_ids_and_unknown_fields_are_no_events() -> None:
    wire = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\nother: x\n\ndata:  third event\n\n"
    assert data_of(wire) == [b"first event", b"second event", b" third event"]


def test_fields_without_a_value_are_empty_and_the_last_open_event_is_dropped() -> None:
    assert data_of(b"data\n\ndata\ndata\n\ndata:") == [b"", b"\n"]


def test_one_space_after_the_colon_is_not_data() -> None:
    assert data_of(b"data:test\n\ndata: test\n\n") == [b"test", b"test"]


def test_an_event_has_the_name_that_stands_in_it_and_no_other_has() -> None:
    wire = b"event: error\ndata: 1\n\ndata: 2\n\nevent: ping\n\ndata: 3\n\n"
    assert [event.name for event in events(wire)] == ["error", "message", "message"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_of_the_standard_ends_a_line_at_once(end: bytes) -> None:
    assert data_of(b"data: 1" + end + end) == [b"1"]


def test_a_line_end_in_two_pieces_is_one() -> None:
    assert data_of(b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n") == [b"1\n2"]
    assert data_of(b"data: 1\r", b"", b"\ndata: 2\n\n") == [b"1\n2"]


def test_carriage_returns_between_whole_events_end_lines() -> None:
    assert data_of(b"data: 0\n\n", b"data: 1\r\n\r\ndata: 2\rdata: 3\n\n") == [b"0", b"1", b"2\n3"]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"data: 1\r", b"\n\n", b"data: 2\n\n"),
        (b"data: 1\r", b"\n", b"\ndata: 2\n\n"),
        (b"data: 1\r\r", b"\n\n", b"data: 2\n\n"),
        (b"data: 1\r\r", b"\ndata: 2\n\n"),
    ],
)
def test_a_line_end_in_two_pieces_takes_nothing_from_what_follows(pieces: tuple[bytes, ...]) -> None:
    assert data_of(*pieces) == data_of(b"".join(pieces)) == [b"1", b"2"]


def test_a_line_separator_inside_the_data_ends_nothing() -> None:
    data = '{"a":"\u2028\u2029\x85\x0b\x0c"}'.encode()
    assert data_of(b"data: " + data + b"\n\n") == [data]


def test_a_byte_order_mark_may_come_first_and_in_pieces() -> None:
    assert data_of(b"\xef", b"\xbb", b"\xbfdata: 1\n\n") == [b"1"]
    assert data_of(b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n") == []  # the second one makes it an unknown field


def test_an_event_is_there_with_the_byte_that_completes_it() -> None:
    decoder = SseDecoder()
    assert events_of(decoder, [b"data: 1\n"]) == []
    assert [event.data for event in events_of(decoder, [b"\n"])] == [b"1"]


def test_it_is_between_events_where_nothing_before_matters_to_what_follows() -> None:
    decoder, seen = SseDecoder(max_event_bytes=20), [SseDecoder().is_between_events]
    for chunk in (b": note\n\n", b"data: 1\n", b"\n", b"data: 1\r", b"\r", b"\n", b"x" * 21):
        decoder.feed(chunk)
        seen.append(decoder.is_between_events)
    assert seen == [False, True, False, True, False, False, True, False]


@UNHURRIED
@given(STREAM, CUTS)
@example(b"data: x\r\ndata: y\r\r", [8])
def test_the_events_do_not_depend_on_the_split(whole: bytes, cuts: list[int]) -> None:
    assert events(*split(whole, cuts)) == events(whole)
    assert events(*(whole[at : at + 1] for at in range(len(whole)))) == events(whole)


@UNHURRIED
@given(st.binary(max_size=300), CUTS)
def test_any_bytes_are_read_without_a_crash(whole: bytes, cuts: list[int]) -> None:
    assert events(*split(whole, cuts)) == events(whole)


@UNHURRIED
@given(st.lists(st.binary(max_size=30).filter(lambda data: not {10, 13} & set(data)), max_size=8), CUTS)
def test_what_was_sent_as_events_is_received(sent: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(b"data: " + data + b"\n\n" for data in sent)
    assert data_of(*split(wire, cuts)) == sent


@UNHURRIED
@given(st.lists(st.sampled_from([b"one", b"two"]), min_size=1, max_size=4), st.integers(0, 60))
def test_a_cut_gives_the_events_that_were_whole(sent: list[bytes], cut: int) -> None:
    pieces = [b"data: " + data + b"\n\n" for data in sent]
    wire = b"".join(pieces)[:cut]
    whole = sum(len(b"".join(pieces[: count + 1])) <= cut for count in range(len(pieces)))
    assert data_of(wire) == sent[:whole]


@UNHURRIED
@given(st.integers(1, 40), st.binary(min_size=1, max_size=60), CUTS)
def test_the_bound_of_an_event_does_not_depend_on_the_split(bound: int, line: bytes, cuts: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> list[bytes] | str:
        decoder = SseDecoder(max_event_bytes=bound)
        try:
            return [event.data for event in events_of(decoder, [*chunks, b""])]
        except AnswerCutError as error:
            return str(error)

    wire = b"data: " + line + b"\n\n"
    assert outcome(split(wire, cuts)) == outcome([wire])


def test_the_events_before_one_beyond_the_bound_are_there_and_none_after_it() -> None:
    decoder, good = SseDecoder(max_event_bytes=20), b"data: 1\n\nevent: e\ndata: 2\n\n"
    assert decoder.feed(good + b"data: " + b"x" * 20 + b"\n\ndata: 3\n\n") == good
    for _ in range(2):
        with pytest.raises(AnswerCutError, match="over 20 bytes"):
            decoder.feed(b"data: 4\n\n")


def test_the_bound_is_of_one_event_and_not_of_a_piece_of_the_stream() -> None:
    decoder, blocks = SseDecoder(max_event_bytes=20), b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    assert decoder.feed(b": note\n\n") == b": note\n\n"
    assert decoder.feed(blocks) == blocks
    assert decoder.feed(blocks + b"data:") == blocks
    assert decoder.feed(b" 4\n\n" + blocks) == b"data: 4\n\n" + blocks


@pytest.mark.parametrize("before", [b"", b"data: 1\n\n"])
@pytest.mark.parametrize("pieces", [(b"x" * 21,), (b"x" * 20, b"x"), (b"x" * 20, b"x\n")])
def test_a_body_that_ends_within_an_event_beyond_the_bound_is_refused(before: bytes, pieces: tuple[bytes, ...]) -> None:
    decoder = SseDecoder(max_event_bytes=20)
    assert b"".join(map(decoder.feed, (before + pieces[0], *pieces[1:]))) == before
    with pytest.raises(AnswerCutError, match="over 20 bytes"):
        decoder.end()


@pytest.mark.parametrize("split_at", [0, 1, 20, 21, 22])
def test_an_event_of_just_the_bound_is_read_and_one_byte_more_is_too_much(split_at: int) -> None:
    def fed(length: int) -> bytes:
        wire, decoder = b"data: ".ljust(length, b"x") + BLOCK_END, SseDecoder(max_event_bytes=20)
        return decoder.feed(wire[:split_at]) + decoder.feed(wire[split_at:]) + decoder.feed(b": next\n\n")

    assert fed(20) == b"data: ".ljust(20, b"x") + b"\n\n: next\n\n"
    with pytest.raises(AnswerCutError, match="over 20 bytes"):
        fed(21)


@pytest.mark.parametrize(
    ("block", "event"),
    [
        (b"error: out of memory", Event("error", b"out of memory")),
        (b'error: {"code":500}\nid: 1', Event("error", b'{"code":500}')),
        (b"event: error", Event("error", b"an error without a word")),
        (b"event: error\ndata", Event("error", b"")),
        (b'{"error":"no"}', Event("message", b'{"error":"no"}')),
        (b'event: error\n{"a":\n{"b":1}}', Event("error", b'{"a":\n{"b":1}}')),
        (b"event: \xff\ndata: 1", Event("\ufffd", b"1")),
    ],
)
def test_an_error_is_an_event_however_it_is_put_on_the_wire(block: bytes, event: Event) -> None:
    assert read_event(block) == event


@pytest.mark.parametrize("block", [b"", b": note", b":", b"data", b"data:", b"event: ping\nid: 1\nid\nretry: 5\nretry"])
def test_a_sign_of_life_has_no_unknown_line(block: bytes) -> None:
    assert unknown_line(block) == b""


@pytest.mark.parametrize(
    ("block", "line"),
    [
        (b"upstream connect error", b"upstream connect error"),
        (b": note\n\nid: 1\nother: z\nmore", b"other: z"),
        (b"Data: 1", b"Data: 1"),
        (b" data: 1", b" data: 1"),
    ],
)
def test_the_first_line_that_is_of_no_field_is_told(block: bytes, line: bytes) -> None:
    assert unknown_line(block) == line


@pytest.mark.parametrize("endless", [b"x", b"data: x\n", b"data\n"], ids=["a line", "lines", "empty lines of data"])
def test_an_event_without_end_is_given_up(endless: bytes) -> None:
    decoder = SseDecoder(max_event_bytes=1_000)
    with pytest.raises(AnswerCutError, match="1,000 bytes"):
        list(chain.from_iterable(map(decoder.feed, repeat(endless, 1_100))))
