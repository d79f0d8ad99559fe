"""Says whether each attempt recorded what it was sent, and whether each customer was served as well as could be."""

from collections.abc import Iterator, Sequence

from bench.chaos.accounts import Account
from bench.chaos.evidence import Evidence, Request
from bench.chaos.findings import Finding

_LEAST_COMPLETE = 0.5  # of all slates: three requests of ten fail, but each slate has several
_ENOUGH_SLATES = 10  # to speak of a share
_WITHOUT_A_WORD = frozenset({"in_flight", "died", "abandoned", "taken_over"})


def disordered(accounts: Sequence[Account]) -> Iterator[Finding]:
    """What an attempt recorded is the beginning of what it was sent: each object that can be a row is the next row.

    Each other object - it names nothing that was offered, has no score, or came before - is a rejection.
    """
    for account in accounts:
        for call in account.single_calls:
            names, rejections = account.names_of(call), account.rejections[call.attempt]
            recorded = len(names) + rejections
            if recorded and not any(_begins(request, names, recorded) for request in account.requests_of(call)):
                which = f"{account.key}: attempt {call.attempt} ({call.ending})"
                told = f"recorded {rejections} rejections and {names}: no answer that it was sent begins so"
                yield Finding("unaccounted", f"{which} {told}")


def _begins(request: Request, names: list[str], recorded: int) -> bool:
    """Whether the first objects of a request are these rows in this order, and rejections."""
    acceptable: dict[str, None] = {}
    for sent in request.objects[:recorded]:
        if sent.name is not None and sent.score is not None:
            acceptable[sent.name] = None
    return recorded <= len(request.objects) and list(acceptable) == names


def unserved(evidence: Evidence, accounts: Sequence[Account]) -> Iterator[Finding]:
    """Nobody's slate is given up unasked, or while an attempt at it is open; and most slates are complete."""
    by_key = {account.key: account for account in accounts}
    given_up = [slate for slate in evidence.slates if slate.state in {"short", "failed"}]
    for slate in given_up:
        account = by_key.get((slate.run_id, slate.customer_id), Account((slate.run_id, slate.customer_id)))
        last = max(account.calls, key=lambda call: call.attempt, default=None)
        if last is None or not account.requests:
            yield Finding("unserved", f"the ranker was never asked for {slate}")
        elif last.ending in _WITHOUT_A_WORD:
            yield Finding("unserved", f"its last attempt was {last.ending}: {slate}")
    complete = sum(slate.state == "complete" for slate in evidence.slates)
    if len(evidence.slates) >= _ENOUGH_SLATES and complete < _LEAST_COMPLETE * len(evidence.slates):
        yield Finding("unserved", f"only {complete} of {len(evidence.slates)} slates are complete")


def unproven(evidence: Evidence) -> Iterator[Finding]:
    """There is something to judge: where nothing was sent, written or acknowledged, nothing is proven."""
    for what, found in (
        ("requests in the ranker's log", evidence.requests),
        ("acknowledgements", evidence.acknowledged),
        ("customers", evidence.customers),
        ("runs", evidence.runs),
        ("rows", evidence.rows),
    ):
        if not found:
            yield Finding("unproven", f"there are no {what}")
