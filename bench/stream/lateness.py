"""When items are there: after the send of their last byte, before the event that follows, and in the whole answer."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from bench.ratios import percentile
from bench.stream.board import Board
from bench.stream.cpu import require_all
from bench.stream.orders import Form, Order
from bench.stream.processes import Contender, PacedServer
from bench.stream.reports import ReadTask, StreamTimes


class Lateness(NamedTuple):
    """Milliseconds from the send of an item's last byte to its yield; and how late that send was itself."""

    middle: float
    p99: float
    server_middle: float
    server_p99: float


def read_at_pace(contender: Contender, order: Order, streams: int) -> list[StreamTimes]:
    """Have the contender read `streams` streams, which begin within one second."""
    report = contender.read(ReadTask(str(order), streams=streams, spread_s=1))
    require_all(contender, report.items, streams * order.items)
    return report.streams


def lateness(board: Board, streams: Sequence[StreamTimes]) -> Lateness:
    """How late the items of these streams were."""
    return lateness_of(
        board, ((place, item, when) for place, times in enumerate(streams) for item, when in enumerate(times.items))
    )


def first_of_whole(streams: Iterable[StreamTimes]) -> float:
    """Time to the first item, of the time to the end of the answer: the median of the streams."""
    return median((times.items[0] - times.begun) / (times.ended - times.begun) for times in streams)


def lateness_of(board: Board, yields: Iterable[tuple[int, int, float]]) -> Lateness:
    """Of items by place, number and time of the yield."""
    late, server_late = [], []
    for place, item, when in yields:
        note = board.read(place, item)
        late.append((when - note.sent) * 1000)
        server_late.append((note.sent - note.due) * 1000)
    return Lateness(
        percentile(late, 0.5), percentile(late, 0.99), percentile(server_late, 0.5), percentile(server_late, 0.99)
    )


def further_events(contender: Contender, server: PacedServer, items: int) -> int:
    """The most events that had to follow an item's last byte before it was yielded.

    The server holds the next event back until the item was received, or for a second: no clock has a say in a zero.
    """
    order = Order(Form.FULL, items, None)
    report = contender.read(ReadTask(str(order), receipts_port=server.receipts_port))
    require_all(contender, report.items, items)
    return max(int(server.board.read(order.place, item).further) for item in range(items))
