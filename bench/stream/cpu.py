"""CPU per answer. Contenders take turns, so that what else the machine does falls on all of them alike."""

from collections.abc import Iterable, Mapping

from bench.ratios import Ratio, paired_ratio
from bench.stream.orders import AT_ONCE, Form, Order
from bench.stream.processes import Contender
from bench.stream.reports import ReadTask
from bench.stream.wire import answer
from pipeline.errors import AnswerCutError

YIELDS_NOTHING = "floor"
_ONE_ITEM_ANSWERS = 20
_ITEMS_A_MEASURE = 400
_LONG_ITEMS, _SHORT_ITEMS = 4, 192  # as many characters

CpuByRound = dict[str, list[float]]
"""Of each contender: CPU milliseconds per answer, a value a round."""


def cpu_in_turn(
    contenders: Iterable[Contender], order: Order, rounds: int, answers: Mapping[str, int], streams: int = 1
) -> CpuByRound:
    """Have each contender read the same in every round, `answers` times in a row (1 where unsaid) in each stream."""
    taken: CpuByRound = {}
    for _ in range(rounds):
        for contender in contenders:
            milliseconds = cpu_ms(contender, order, answers.get(contender.name, 1), streams)
            taken.setdefault(contender.name, []).append(milliseconds)
    return taken


def growth(contender: Contender, few: int, many: int, pace: int, rounds: int, streams: int = 1) -> Ratio:
    """CPU per item in an answer of `many` items, of that in one of `few`.

    What an answer of one item costs (the request, its connection, the rest of the protocol) is taken out of both.
    """
    shares: dict[int, list[float]] = {many: [], few: []}
    for _ in range(rounds):
        one = cpu_ms(contender, Order(Form.FULL, 1, pace), _ONE_ITEM_ANSWERS, streams)
        for items, share in shares.items():
            answers = max(_ITEMS_A_MEASURE // items // streams, 1)
            milliseconds = cpu_ms(contender, Order(Form.FULL, items, pace), answers, streams)
            share.append((milliseconds - one) / (items - 1))
    return paired_ratio(shares[many], shares[few])


def long_item_growth(contender: Contender, pace: int, rounds: int, streams: int = 1) -> Ratio:
    """CPU per byte of an answer with long items, of that with short ones and as many characters."""
    orders = (Order(Form.LONG, _LONG_ITEMS, pace), Order(Form.FULL, _SHORT_ITEMS, pace))
    per_byte: dict[Form, list[float]] = {order.form: [] for order in orders}
    for _ in range(rounds):
        for order in orders:
            milliseconds = cpu_ms(contender, order, 2 if pace == AT_ONCE else 1, streams)
            per_byte[order.form].append(milliseconds / len(answer(order.form, order.items).whole))
    return paired_ratio(per_byte[Form.LONG], per_byte[Form.FULL])


def cpu_ms(contender: Contender, order: Order, answers: int, streams: int = 1) -> float:
    """CPU milliseconds of the contender's process per answer.

    Raises:
        AnswerCutError: it did not find every item.
    """
    report = contender.read(ReadTask(str(order), streams=streams, answers=answers))
    require_all(contender, report.items, answers * streams * order.items)
    return report.cpu_s * 1000 / (answers * streams)


def require_all(contender: Contender, found: int, sent: int) -> None:
    """Refuse a figure for work that was not done.

    Raises:
        AnswerCutError: the contender did not find every item.
    """
    if found != sent and contender.name != YIELDS_NOTHING:
        raise AnswerCutError(f"{contender.name} found {found} of the {sent} items that were sent: no figure holds")
