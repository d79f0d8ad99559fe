"""Judges a night whose workers were killed: what is there twice, who was paid for twice, how long a shard lay idle."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isnan, nan

from bench.flows.ledger import ShardSeen, Written
from bench.limits.server_log import ServedRequest


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed, with the attempt at a shard that it was serving."""

    shard: int
    attempt: int
    at: datetime


def doubled(rows: Sequence[Written], offers: Mapping[tuple[int, int], datetime]) -> int:
    """Ranks and products that a customer has twice, and rows of attempts that were over.

    `offers` are the moments at which a shard was offered, by shard and attempt: a row is one too many that was
    committed after its shard was offered anew, by a request of before.
    """
    twice = _surplus((it.customer, it.rank) for it in rows) + _surplus((it.customer, it.product) for it in rows)
    return twice + sum(_is_late(row, offers) for row in rows)


def _is_late(row: Written, offers: Mapping[tuple[int, int], datetime]) -> bool:
    asked_at = row.begun_at
    return asked_at is not None and any(
        shard == row.shard and asked_at < offered_at < row.committed_at for (shard, _), offered_at in offers.items()
    )


def paid_twice(requests: Sequence[ServedRequest]) -> int:
    """Answers that came to their end for a customer who had been answered to the end before."""
    return _surplus(it.customer for it in requests if it.ended == "complete")


def recovery_s(kills: Sequence[Kill], shards: Sequence[ShardSeen]) -> float:
    """The longest time from a kill until another attempt had served the shard; not a number where one has not."""
    last = {it.shard: it for it in shards}
    took = [_served_after_s(kill, last[kill.shard]) for kill in kills]
    return nan if not took or any(map(isnan, took)) else max(took)


def _served_after_s(kill: Kill, last: ShardSeen) -> float:
    if last.state != "served" or last.attempt == kill.attempt or last.ended_at is None:
        return nan
    return (last.ended_at - kill.at).total_seconds()


def _surplus(keys: Iterable[Hashable]) -> int:
    return sum(times - 1 for times in Counter(keys).values())
