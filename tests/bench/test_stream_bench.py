"""The bench of the streaming core: its server sends answers as endpoints do, and its figures bear the right names."""

import http.client
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bench.stream.cpu import cpu_ms
from bench.stream.lateness import further_events
from bench.stream.orders import AT_ONCE, Form, Order, read_order
from bench.stream.processes import PacedServer, contender, paced_server
from bench.stream.targets import TARGETS
from bench.targets import last_line, table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bench needs Linux")
KEYS = [
    "cpu_vs_instructor_50",
    "cpu_vs_floor_50",
    "growth_200_vs_10",
    "streams_per_core",
    "lateness_ms_p50",
    "lateness_chunks_max",
    "first_of_whole_10",
    "long_item_growth",
    "rss_mb_1000_streams",
]
LOCK = Path(__file__).parents[2] / "bench" / "requirements-instructor.txt"


@pytest.fixture(scope="module")
def server() -> Iterator[PacedServer]:
    with paced_server() as running:
        yield running


@pytest.fixture
def connection(server: PacedServer) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=30)
    yield opened
    opened.close()


def ask(connection: http.client.HTTPConnection, model: str) -> http.client.HTTPResponse:
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": model, "stream": True}))
    return connection.getresponse()


def chunks_of(body: bytes) -> list[dict[str, object]]:
    *events, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


def text_of(chunks: list[dict[str, object]]) -> str:
    pieces = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]  # type: ignore[attr-defined] # JSON
    assert max(map(len, pieces)) == 4
    return "".join(pieces)


@pytest.mark.parametrize("name", ["full-50@200/17", "compact-1@0/0", "long-3@held/2047"])
def test_an_order_reads_as_it_was_written(name: str) -> None:
    assert str(read_order(name)) == name


@pytest.mark.parametrize(("form", "characters"), [(Form.COMPACT, 15), (Form.FULL, 100), (Form.LONG, 4800)])
@pytest.mark.parametrize("pace", [AT_ONCE, 10_000])
def test_an_answer_is_a_chat_completion_with_the_items_that_were_ordered(
    connection: http.client.HTTPConnection, form: Form, characters: int, pace: int
) -> None:
    chunks = chunks_of(ask(connection, str(Order(form, 2, pace))).read())
    text = text_of(chunks)
    first, second = json.loads(text)["recommendations"]
    assert first != second
    assert json.loads(text.removeprefix('{"recommendations":[')[:characters]) == first
    assert [choice["finish_reason"] for choice in chunks[-2]["choices"]] == ["stop"]  # type: ignore[attr-defined] # JSON
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]


def test_a_connection_serves_one_request_after_another(connection: http.client.HTTPConnection) -> None:
    answers = [ask(connection, f"full-{items}@0/0").read() for items in (1, 2, 3)]
    assert [len(json.loads(text_of(chunks_of(body)))["recommendations"]) for body in answers] == [1, 2, 3]


def test_what_is_no_order_is_refused(connection: http.client.HTTPConnection) -> None:
    response = ask(connection, "gpt-4o-mini")
    assert response.status == 400
    assert "is no order like" in json.load(response)["error"]["message"]


def test_the_board_has_the_time_of_each_item(server: PacedServer, connection: http.client.HTTPConnection) -> None:
    ask(connection, "full-3@1000/5").read()
    notes = [server.board.read(5, item) for item in range(3)]
    assert all(0 < note.due <= note.sent for note in notes)
    assert sorted(notes) == notes
    assert server.board.read(5, 3).sent == 0


def test_a_held_answer_stops_behind_each_item_until_it_was_received(
    server: PacedServer, connection: http.client.HTTPConnection
) -> None:
    response = ask(connection, "full-2@held/6")
    assert server.board.read(6, 1).sent == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receipts:
        for item in b"6 0", b"6 1":
            while not server.board.read(6, int(item[-1:])).sent:
                response.read1(100)
            receipts.sendto(item, ("127.0.0.1", server.receipts_port))
    response.read()
    assert [server.board.read(6, item).further for item in (0, 1)] == [0, 0]


def test_events_that_had_to_follow_an_item_are_counted(
    server: PacedServer, connection: http.client.HTTPConnection
) -> None:
    response = ask(connection, "full-1@held/7")
    while not server.board.read(7, 0).further:
        response.read1(65536)  # comes back once the server's patience has ended
    assert server.board.read(7, 0).further == 1


@pytest.mark.parametrize("name", ["ours", "handwritten", "openai_typed"])
def test_a_contender_finds_every_item_and_none_later_than_it_must(server: PacedServer, name: str) -> None:
    with contender(name, server, streams=2) as running:
        assert cpu_ms(running, Order(Form.FULL, 5, AT_ONCE), answers=2, streams=2) > 0
        assert further_events(running, server, 2) == 0


def test_the_last_line_has_the_figures_with_a_target_first() -> None:
    figures = {"seconds": 1.0, **dict.fromkeys(reversed(KEYS), 0.123456)}
    found = json.loads(last_line(TARGETS, figures))
    assert list(found) == [*KEYS, "seconds"]
    assert found["rss_mb_1000_streams"] == 0.1235


def test_a_figure_that_could_not_be_measured_is_null_and_misses_its_target() -> None:
    figures = dict.fromkeys(KEYS, float("nan"))
    assert set(json.loads(last_line(TARGETS, figures)).values()) == {None}
    assert all("MISSED" in line for line in list(table(TARGETS, figures))[1:])


def test_the_table_says_of_each_target_whether_it_is_met() -> None:
    at_the_bound = {target.key: target.bound for target in TARGETS}
    assert not any("MISSED" in line for line in table(TARGETS, at_the_bound))


def test_the_peers_environment_is_pinned_and_hashed() -> None:
    lines = LOCK.read_text(encoding="utf-8").replace(" \\\n", " ").splitlines()
    pins = [line for line in lines if not line.lstrip().startswith("#")]
    assert any(pin.startswith("instructor==") for pin in pins)
    assert all("==" in pin and " --hash=sha256:" in pin for pin in pins)
