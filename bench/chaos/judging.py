"""Judges the evidence: what was lost, doubled, changed, invented, left open or seen half. Plain functions, no I/O."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.chaos.accounts import accounts_of
from bench.chaos.evidence import Evidence, Slate, SlateKey
from bench.chaos.findings import KINDS, Finding
from bench.chaos.marks import marks_of
from bench.chaos.names import read_name
from bench.chaos.service import disordered, unproven, unserved

_ENDS = frozenset({"finished", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    `sent` objects are `rows`, `rejections` and `unsent`: those on their way to an attempt that was given up, and those
    behind the object that made its slate whole.
    """

    rows: int
    acknowledged: int
    sent: int
    rejections: int
    unsent: int
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The violations of each kind."""
        found = Counter[str]()
        for finding in self.findings:
            found[finding.kind] += finding.count
        return {kind: found[kind] for kind in KINDS}


def judge(evidence: Evidence) -> Verdict:
    """Hold everything against everything."""
    findings = [finding for promise in _PROMISES for finding in promise(evidence)]
    accounts = accounts_of(evidence)
    findings += [finding for account in accounts for finding in account.findings()]
    findings += [*disordered(accounts), *unserved(evidence, accounts)]
    return Verdict(
        rows=len(evidence.rows),
        acknowledged=len(evidence.acknowledged),
        sent=sum(len(request.objects) for request in evidence.requests),
        rejections=sum(evidence.rejections.values()),
        unsent=sum(account.unread for account in accounts),
        findings=tuple(findings),
    )


def _lost_or_changed(evidence: Evidence) -> Iterator[Finding]:
    """Every row that was acknowledged is there, exactly as it was acknowledged."""
    rows = {(row.run_id, row.customer_id, row.product_id): row for row in evidence.rows}
    newest = {(told.run_id, told.customer_id, told.rank): told for told in evidence.acknowledged}
    for told in evidence.acknowledged:
        row = rows.get((told.run_id, told.customer_id, told.product_id))
        if told.committed_at != newest[told.run_id, told.customer_id, told.rank].committed_at:
            yield Finding("lost", f"its rank was free once more, and acknowledged again: {told}")
        elif row is None:
            yield Finding("lost", f"acknowledged, but not in the table: {told}")
        elif (row.rank, row.product_name, row.relevance_score, row.committed_at) != (
            told.rank,
            told.product_name,
            told.relevance_score,
            told.committed_at,
        ):
            yield Finding("changed", f"acknowledged as {told}, but in the table it is {row}")


def _doubled(evidence: Evidence) -> Iterator[Finding]:
    """One row for a rank and one for a product; one acknowledgement for a row."""
    for what, keys in (
        ("rank", Counter((row.run_id, row.customer_id, row.rank) for row in evidence.rows)),
        ("product", Counter((row.run_id, row.customer_id, row.product_id) for row in evidence.rows)),
        ("acknowledgement", Counter(evidence.acknowledged)),
    ):
        for key, times in keys.items():
            if times > 1:
                yield Finding("doubled", f"{times} times the {what} {key}", times - 1)


def _invented(evidence: Evidence) -> Iterator[Finding]:
    """Every row was sent by the ranker, to this customer in this run, with this score."""
    sent = _sent_scores(evidence)
    marks = marks_of(evidence)
    for row in evidence.rows:
        named = read_name(row.product_name)
        if named is None or (named.customer_id, named.product_id) != (row.customer_id, row.product_id):
            yield Finding("invented", f"of another customer or product: {row}")
        elif marks[named.mark] != {row.run_id}:
            yield Finding("invented", f"of another run: {row}")
        elif row.product_name not in sent:
            yield Finding("invented", f"the ranker never sent it: {row}")
        elif row.relevance_score not in sent[row.product_name]:
            yield Finding("changed", f"the ranker sent it with {sorted(sent[row.product_name])}: {row}")


def _sent_scores(evidence: Evidence) -> dict[str, set[float]]:
    """Of each product that the ranker sent whole, by its name, the scores."""
    sent: defaultdict[str, set[float]] = defaultdict(set)
    for request in evidence.requests:
        for entry in request.objects:
            if entry.name is not None and entry.score is not None:
                sent[entry.name].add(entry.score)
    return dict(sent)


def _holes(evidence: Evidence) -> Iterator[Finding]:
    """Ranks are 1 to n."""
    ranks: defaultdict[SlateKey, set[int]] = defaultdict(set)
    for row in evidence.rows:
        ranks[row.run_id, row.customer_id].add(row.rank)
    for key, found in ranks.items():
        if found != set(range(1, len(found) + 1)):
            yield Finding("holes", f"{key} has the ranks {sorted(found)}")


def _stale(evidence: Evidence) -> Iterator[Finding]:
    """No attempt writes to a slate once a later attempt at it has asked the ranker."""
    received = {request.request_id: request.received_at for request in evidence.requests}
    asked: defaultdict[SlateKey, list[tuple[int, float]]] = defaultdict(list)
    for call in evidence.calls:
        if call.request_id in received:
            asked[call.run_id, call.customer_id].append((call.attempt, received[call.request_id]))
    for row in evidence.rows:
        later = [at for attempt, at in asked[row.run_id, row.customer_id] if attempt > row.attempt]
        if later and row.committed_at.timestamp() > min(later):
            yield Finding("stale", f"committed after a later attempt had begun: {row}")


def _not_terminal(evidence: Evidence) -> Iterator[Finding]:
    """Every customer of every run has one slate, in a last state that is true of its rows."""
    rows = Counter((row.run_id, row.customer_id) for row in evidence.rows)
    slates = Counter((slate.run_id, slate.customer_id) for slate in evidence.slates)
    for run in evidence.runs:
        for customer in evidence.customers:
            if slates[run.run_id, customer] != 1:
                yield Finding("not_terminal", f"{slates[run.run_id, customer]} slates of {customer} in {run}")
    for slate in evidence.slates:
        number = rows[slate.run_id, slate.customer_id]
        if not _is_true(slate, number):
            yield Finding("not_terminal", f"{slate} has {number} rows")


def _is_true(slate: Slate, rows: int) -> bool:
    if slate.state == "complete":
        return rows == slate.slate_size
    return (slate.state == "short" and 0 < rows < slate.slate_size) or (slate.state == "failed" and rows == 0)


def _unended(evidence: Evidence) -> Iterator[Finding]:
    """Every run has ended, and one that says that it has finished has only complete slates."""
    unfinished = Counter(slate.run_id for slate in evidence.slates if slate.state != "complete")
    for run in evidence.runs:
        if run.state not in _ENDS:
            yield Finding("not_terminal", f"not ended: {run}")
        elif run.state == "finished" and unfinished[run.run_id]:
            yield Finding("not_terminal", f"{unfinished[run.run_id]} slates are not complete: {run}")


def _torn(evidence: Evidence) -> Iterator[Finding]:
    """What readers saw was whole."""
    return (Finding("torn", seen) for seen in evidence.torn)


_PROMISES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    _lost_or_changed,
    _doubled,
    _invented,
    _holes,
    _stale,
    _not_terminal,
    _unended,
    _torn,
    unproven,
)
