"""The least time in which a limit lets requests in: the server's own gate, asked with a clock that waits perfectly."""

import math
from collections.abc import Sequence

from pipeline.offline_ranker.admission import Gate
from pipeline.offline_ranker.limits import LimitPlan


def least_seconds(limits: LimitPlan, charges: Sequence[float]) -> float:
    """Seconds from the first request to the last, each sent as soon as it is let in; infinite where one never is.

    `charges` are the tokens that each counts for, in the order in which they come. The burst is used up, nobody is
    refused, and what the last answer takes is not in it.
    """
    gate, now = Gate(limits), 0.0
    for tokens in charges:
        while (refusal := gate.refusal(tokens, now)) is not None:
            change = gate.next_change_s(now)
            waited = refusal.wait_s if change is None else min(refusal.wait_s, change)
            if math.isinf(waited):
                return math.inf
            now += max(waited, 1e-9)
        gate.enter(tokens, now)
        gate.leave()
    return now
