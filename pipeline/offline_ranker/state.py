"""What the handlers of one server share: what it was told to do, and what it has seen."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from aiohttp import web

from pipeline.offline_ranker.admission import Gate, LimitRefusal
from pipeline.offline_ranker.faults import FaultPlan
from pipeline.offline_ranker.limits import LimitPlan
from pipeline.offline_ranker.prompt_cache import PromptCache
from pipeline.offline_ranker.record import RecordFile
from pipeline.offline_ranker.throughput import Throughput


@dataclass(slots=True)
class RankerState:
    """What the handlers share. `numbers` counts the requests that the plan of faults in force has seen, from 1."""

    api_key: str | None
    records: RecordFile
    plan: FaultPlan
    gate: Gate
    throughput: Throughput
    cache: PromptCache = field(default_factory=PromptCache)
    numbers: "count[int]" = field(default_factory=lambda: count(1))
    plan_replaced: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False

    def put_plan(self, plan: FaultPlan) -> None:
        """Put another plan in force: requests are numbered from 1 again, and held answers go on."""
        self.plan = plan
        self.numbers = count(1)
        self.plan_replaced.set()
        self.plan_replaced = asyncio.Event()

    def put_limits(self, limits: LimitPlan) -> None:
        """Put other limits in force: what they allow at once is there, and no prompt is known."""
        self.gate.put_plan(limits)
        self.throughput.set_total(limits.shared_tokens_per_second, asyncio.get_running_loop().time())
        self.cache = PromptCache()

    @contextmanager
    def admitted(self, tokens: int) -> Iterator[LimitRefusal | None]:
        """A request is in while the block runs; a limit that is in its way is handed out in its place."""
        now = asyncio.get_running_loop().time()
        refusal = self.gate.refusal(tokens, now)
        if refusal is not None:
            yield refusal
            return
        self.gate.enter(tokens, now)
        try:
            yield None
        finally:
            self.gate.leave()


STATE = web.AppKey("STATE", RankerState)


def new_state(
    tokens_per_second: float, api_key: str | None, records: RecordFile, faults: FaultPlan, limits: LimitPlan
) -> RankerState:
    """The state of a server that nobody has asked yet."""
    throughput = Throughput(tokens_per_second, limits.shared_tokens_per_second)
    return RankerState(api_key, records, faults, Gate(limits), throughput)
