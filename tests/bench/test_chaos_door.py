"""The door of chaos sees when rows are ordered and when they are committed, and strikes there."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from bench.chaos.door import HOST, WRITER, Door, Link, Moment, open_door
from bench.chaos.wire import ClientSide, ServerSide, split
from pipeline.database import libpq_url
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.embedded_postgres.sockets import socket_path

INSERT = "INSERT INTO recommendations (number) VALUES (%s)"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


GREETING_BODY = (196608).to_bytes(4) + b"user\0one\0application_name\0recstream writer\0\0"
GREETING = (len(GREETING_BODY) + 4).to_bytes(4) + GREETING_BODY
PREPARED = (
    message(b"P", b"s1\0WITH sent AS (SELECT 1) INSERT\n INTO recommendations SELECT 1\0\0\0")
    + message(b"B", b"\0s1\0\0\0\0\0\0\0")
    + message(b"E", b"\0\0\0\0\0")
    + message(b"S", b"")
)
AGAIN = message(b"B", b"\0s1\0\0\0\0\0\0\0") + message(b"E", b"\0\0\0\0\0") + message(b"S", b"")
READ = (
    message(b"P", b"\0SELECT 'INSERT INTO recommendation'\0\0\0")
    + message(b"B", b"\0\0\0\0\0\0\0\0")
    + message(b"E", b"\0\0\0\0\0")
    + message(b"S", b"")
)


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_an_order_to_write_is_noticed_at_its_last_byte_however_it_is_cut(piece: int) -> None:
    client = ClientSide()
    sent = GREETING + READ + PREPARED + READ + AGAIN
    ends = [start + piece for start in range(0, len(sent), piece) if client.feed(sent[start : start + piece])]
    assert client.name == WRITER
    if piece == 1:
        assert ends == [len(GREETING + READ + PREPARED), len(sent)]
    assert ends


def test_an_order_that_only_reads_is_none_to_write() -> None:
    client = ClientSide()
    assert not client.feed(GREETING + READ)


def test_a_plain_query_that_writes_is_noticed() -> None:
    client = ClientSide()
    client.feed(GREETING)
    assert client.feed(message(b"Q", b"insert into recommendations values (1)\0"))


@pytest.mark.parametrize("piece", [1, 10_000])
def test_an_answer_to_a_write_ends_with_the_readiness_for_the_next(piece: int) -> None:
    server = ServerSide()
    sent = message(b"C", b"SELECT 1\0") + message(b"Z", b"I") + message(b"C", b"INSERT 0 2\0") + message(b"Z", b"I")
    ends = [start + piece for start in range(0, len(sent), piece) if server.feed(sent[start : start + piece])]
    assert [min(end, len(sent)) for end in ends] == [len(sent)]


@pytest.mark.parametrize(("ended", "is_committed"), [(b"COMMIT\0", True), (b"ROLLBACK\0", False)])
def test_rows_of_a_transaction_begun_by_hand_are_committed_at_its_end(ended: bytes, is_committed: bool) -> None:
    server = ServerSide()
    assert not server.feed(message(b"C", b"BEGIN\0") + message(b"Z", b"T"))
    assert not server.feed(message(b"C", b"INSERT 0 2\0") + message(b"Z", b"T"))
    assert server.feed(message(b"C", ended) + message(b"Z", b"I")) is is_committed
    assert not server.feed(message(b"C", b"SELECT 1\0") + message(b"Z", b"I"))


def test_a_message_that_is_not_whole_stays_behind() -> None:
    whole = message(b"Z", b"I")
    assert split(whole + whole[:3]) == ([(b"Z", b"I")], whole[:3])


@pytest.fixture
def table(empty_database_url: str) -> str:
    with psycopg.connect(libpq_url(empty_database_url)) as connection:
        connection.execute("CREATE TABLE recommendations (number integer)")
    return empty_database_url


@pytest.fixture
async def door(postgres: EmbeddedPostgres) -> AsyncIterator[Door]:
    async with open_door(socket_path(postgres.socket_folder)) as opened:
        yield opened


def through(door: Door, url: str, name: str) -> str:
    return make_conninfo(
        libpq_url(url), host=HOST, port=door.port, application_name=name, sslmode="disable", gssencmode="disable"
    )


@pytest.fixture
async def client(door: Door, table: str) -> AsyncIterator[AsyncConnection]:
    conninfo = through(door, table, WRITER)
    connection = await AsyncConnection.connect(conninfo, autocommit=True)
    yield connection
    await connection.close()


def committed(url: str) -> list[int]:
    with psycopg.connect(libpq_url(url)) as connection:
        found = connection.execute("SELECT number FROM recommendations ORDER BY number")
        return [number for (number,) in found]


@pytest.mark.parametrize(
    ("moment", "is_committed"),
    [(Moment.WRITE_HELD_BACK, False), (Moment.REPLY_HELD_BACK, True)],
)
async def test_a_connection_can_be_cut_just_before_a_write_and_just_after_its_commit(
    door: Door, client: AsyncConnection, table: str, moment: Moment, is_committed: bool
) -> None:
    await client.execute(INSERT, [1])
    await client.execute("SELECT 'INSERT INTO nothing'")
    sprung = door.arm(moment, Link.cut)
    with pytest.raises(psycopg.OperationalError):
        await client.execute(INSERT, [2])
    assert sprung.is_set()
    assert committed(table) == ([1, 2] if is_committed else [1])


async def test_the_reply_to_a_write_in_a_transaction_is_held_back_at_its_commit(
    door: Door, client: AsyncConnection, table: str
) -> None:
    sprung = door.arm(Moment.REPLY_HELD_BACK, Link.cut)
    await client.execute("BEGIN")
    await client.execute(INSERT, [1])
    assert not sprung.is_set()
    with pytest.raises(psycopg.OperationalError):
        await client.execute("COMMIT")
    assert sprung.is_set()
    assert committed(table) == [1]


async def test_writes_are_counted_as_they_pass(door: Door, client: AsyncConnection) -> None:
    await client.execute("SELECT 1")
    for number in range(7):  # of the sixth on, the statement is prepared
        await client.execute(INSERT, [number])
    await door.written(7)
    assert door.writes == 7


async def test_every_connection_but_the_writers_can_be_cut(door: Door, client: AsyncConnection, table: str) -> None:
    night = through(door, table, "recstream night")
    async with await AsyncConnection.connect(night, autocommit=True) as other:
        await other.execute("SELECT 1")
        door.cut_all_but_the_writer()
        with pytest.raises(psycopg.OperationalError):
            await other.execute("SELECT 1")
    await client.execute("SELECT 1")
