"""Finds out which run each mark belongs to: the ranker's log knows marks, the tables know runs."""

from collections import defaultdict
from uuid import UUID

from bench.chaos.evidence import Call, Evidence, Row
from bench.chaos.names import read_name


def marks_of(evidence: Evidence) -> dict[int, set[UUID]]:
    """The runs of each mark: one, if all is well. Rows tell it, and attempts whose request is known."""
    found: defaultdict[int, set[UUID]] = defaultdict(set)
    offered = {request.request_id: request.offered for request in evidence.requests}
    for call in evidence.calls:
        for name in offered.get(call.request_id or "", ())[:1]:
            _add_mark(found, name, call)
    for row in evidence.rows:
        _add_mark(found, row.product_name, row)
    return dict(found)


def _add_mark(found: defaultdict[int, set[UUID]], name: str, whose: Row | Call) -> None:
    named = read_name(name)
    if named is not None:
        found[named.mark].add(whose.run_id)
