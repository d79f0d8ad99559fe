"""Adds up each slate: objects sent = rows + rejections + what nobody read, and says when nobody had to."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from bench.chaos.evidence import Call, Evidence, Request, Row
from bench.chaos.findings import Finding
from bench.chaos.marks import marks_of
from bench.chaos.names import read_name

TIMED_OUT = frozenset({"idle", "overdue"})
"""Endings of attempts that waited for too long: they read all that had come, so that next to nothing is left over."""
GIVEN_UP = TIMED_OUT | {"in_flight", "died", "abandoned", "taken_over", "unreachable"}
"""Endings of attempts that our side broke off: what was still on its way to them was read by nobody."""
ON_ITS_WAY = 3  # objects that may come between the last look and the end of an attempt that timed out
AccountKey = tuple[UUID | int, str]
"""A run and a customer; the run's mark instead, where no row and no attempt tells the run."""


@dataclass(slots=True)
class Account:
    """One slate: its requests, its attempts, their rows, and the number of rejections of each attempt.

    `last_name` is the product on the last rank of a slate that is whole: behind it, nobody reads on.
    """

    key: AccountKey
    requests: list[Request] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    rejections: Counter[int] = field(default_factory=Counter)
    last_name: str | None = None

    @property
    def unread(self) -> int:
        """Objects that were sent and never recorded, for a reason that holds."""
        behind = sum(left for call in self._clear() if 0 < (left := self._left(call)) <= self._surplus(call))
        return behind + max(self._unclear_sent() - self._unclear_recorded(), 0)

    @property
    def single_calls(self) -> list[Call]:
        """The attempts whose number is theirs alone: it is clear which rows are theirs."""
        times = Counter(call.attempt for call in self.calls)
        return [call for call in self.calls if times[call.attempt] == 1]

    def requests_of(self, call: Call) -> list[Request]:
        """The requests of an attempt; where it never learnt its request's id, those of which no attempt has the id."""
        if call.request_id is not None:
            return [request for request in self.requests if request.request_id == call.request_id]
        known = {other.request_id for other in self.calls}
        return [request for request in self.requests if request.request_id not in known]

    def names_of(self, call: Call) -> list[str]:
        """The products of an attempt's rows, in the order of their ranks."""
        rows = [row for row in self.rows if row.attempt == call.attempt]
        return [row.product_name for row in sorted(rows, key=lambda row: row.rank)]

    def findings(self) -> Iterator[Finding]:
        """What does not add up."""
        for call in self._clear():
            left = self._left(call)
            if not 0 <= left <= self._surplus(call):
                yield self._unread(call, abs(left))
        for call in self._timed_out():
            left = self._left(call)
            if left > max(self._surplus(call), ON_ITS_WAY):
                yield self._unread(call, left)
        excess = self._unclear_recorded() - self._unclear_sent()
        if excess > 0:
            yield Finding("unaccounted", f"{self.key}: {excess} rows and rejections more than were sent", excess)
        if self._unknown() > 0:
            yield Finding("unaccounted", f"{self.key}: {self._unknown()} requests are in no ledger", self._unknown())

    def _unread(self, call: Call, number: int) -> Finding:
        which = f"{self.key}: attempt {call.attempt} ({call.ending})"
        told = f"was sent {self._sent(call)} objects and recorded {self._recorded(call)}"
        return Finding("unaccounted", f"{which} {told}", number)

    def _clear(self) -> list[Call]:
        """The attempts that ended with their answer: all that they were sent, they read."""
        return [call for call in self.single_calls if call.ending not in GIVEN_UP]

    def _timed_out(self) -> list[Call]:
        """The attempts that waited for too long, but for those whose process was stopped and the slate taken over."""
        return [call for call in self.single_calls if call.ending in TIMED_OUT and not self._was_taken_over(call)]

    def _was_taken_over(self, call: Call) -> bool:
        return any(
            other.lease > call.lease
            and other.started_at is not None
            and (call.ended_at is None or other.started_at <= call.ended_at)
            for other in self.calls
        )

    def _sent(self, call: Call) -> int:
        """Objects of the requests that are surely this attempt's."""
        return 0 if call.request_id is None else sum(len(request.objects) for request in self.requests_of(call))

    def _recorded(self, call: Call) -> int:
        return sum(row.attempt == call.attempt for row in self.rows) + self.rejections[call.attempt]

    def _left(self, call: Call) -> int:
        return self._sent(call) - self._recorded(call)

    def _surplus(self, call: Call) -> int:
        """The objects behind the one that made the slate whole."""
        names = [sent.name for request in self.requests_of(call) for sent in request.objects]
        return len(names) - 1 - names.index(self.last_name) if self.last_name in names else 0

    def _unclear_sent(self) -> int:
        """Objects of requests that were given up, or whose attempt never learnt its request's id."""
        return sum(len(request.objects) for request in self.requests) - sum(map(self._sent, self._clear()))

    def _unclear_recorded(self) -> int:
        return len(self.rows) + self.rejections.total() - sum(map(self._recorded, self._clear()))

    def _unknown(self) -> int:
        """Requests that are no attempt of the ledger, not even of one that ended before it knew the request's id."""
        known = {call.request_id for call in self.calls}
        strangers = sum(1 for request in self.requests if request.objects and request.request_id not in known)
        return strangers - sum(call.request_id is None for call in self.calls)


def accounts_of(evidence: Evidence) -> Sequence[Account]:
    """An account for each slate that asked the ranker or has attempts, rows or rejections."""
    accounts: dict[AccountKey, Account] = {}

    def account(run: UUID | int, customer: str) -> Account:
        return accounts.setdefault((run, customer), Account((run, customer)))

    for run, customer, request in _requests(evidence):
        account(run, customer).requests.append(request)
    for call in evidence.calls:
        account(call.run_id, call.customer_id).calls.append(call)
    for row in evidence.rows:
        account(row.run_id, row.customer_id).rows.append(row)
    for (run_id, customer, attempt), number in evidence.rejections.items():
        account(run_id, customer).rejections[attempt] += number
    for (run_id, customer), name in _last_names(evidence).items():
        account(run_id, customer).last_name = name
    return list(accounts.values())


def _requests(evidence: Evidence) -> Iterator[tuple[UUID | int, str, Request]]:
    """Each request with the run and the customer whose products it offered."""
    marks = marks_of(evidence)
    for request in evidence.requests:
        named = read_name(request.offered[0]) if request.offered else None
        if named is not None:
            runs: set[UUID] = marks.get(named.mark, set())
            yield next(iter(runs), named.mark), named.customer_id, request


def _last_names(evidence: Evidence) -> dict[tuple[UUID, str], str]:
    """The product on the last rank of each slate that is whole."""
    sizes = {(slate.run_id, slate.customer_id): slate.slate_size for slate in evidence.slates}
    by_rank: defaultdict[tuple[UUID, str], dict[int, str]] = defaultdict(dict)
    for row in evidence.rows:
        by_rank[row.run_id, row.customer_id][row.rank] = row.product_name
    return {key: ranks[sizes[key]] for key, ranks in by_rank.items() if sizes.get(key) in ranks}
