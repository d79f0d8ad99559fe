"""How long the first row of one customer takes, from the moment at which somebody asks for it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median

from bench.flows.grounds import Figures, Grounds
from bench.flows.ledger import Ledger, open_ledger
from bench.flows.plan import ORCHESTRATED_RATE
from bench.flows.pool import Pool
from bench.flows.settings import environment_of
from bench.flows.shop import another_database, fill_alike
from bench.limits.running import limited_server
from bench.limits.server_log import ServedRequest, read_server_log
from bench.limits.workers import output_of
from pipeline.errors import UnfinishedRunError
from pipeline.offline_ranker.answers import CHARACTERS_PER_TOKEN
from pipeline.offline_ranker.limits import LimitPlan

_LOOK_S = 0.005
_WITHIN_S = 120.0
_OPENING = len('{"recommendations":[')
_CUSTOMERS = 20


def first_object_s(request: ServedRequest) -> float:
    """How long the model took for the first object of this answer, whose pace is even."""
    share = (_OPENING + len(request.objects[0])) / CHARACTERS_PER_TOKEN / request.sent_tokens
    return share * (request.ended_at - request.received_at)


async def on_demand_figures(pool: Pool, port: int, ledger: Ledger, times: int) -> Figures:
    """Triggers of the deployment, with workers that wait for them; the first one is not counted.

    Raises:
        UnfinishedRunError: no row comes.
    """

    async def trigger(customer: str) -> None:
        await pool.prefect.api.begin("on-demand/on-demand", {"customer_id": customer})

    async with limited_server(pool.folder, LimitPlan(), ORCHESTRATED_RATE, port):
        took = [await _first_row_s(ledger, number, trigger) for number in range(1, times + 2)][1:]
    print(f"on demand, by a worker that waits: first row after {_shown(took)} s", flush=True)
    return {"first_row_on_demand_s": median(took)}


async def recommend_figures(grounds: Grounds) -> Figures:
    """`recstream recommend`, from its exec to its first row; what the model took of it is in the ranker's log.

    Raises:
        UnfinishedRunError: no row comes.
    """
    url, folder = another_database(grounds.server, "recommend"), grounds.place("recommend")
    fill_alike(url, _CUSTOMERS)
    async with limited_server(folder, LimitPlan(), ORCHESTRATED_RATE) as server, open_ledger(url) as ledger:
        ours = environment_of(url, server.base_url, folder, {})

        async def recommend(customer: str) -> None:
            await output_of("flows.cli", ("recommend", customer), folder, ours)

        took = [await _first_row_s(ledger, number, recommend) for number in range(1, grounds.plan.recommended + 2)]
    by_model = [first_object_s(request) for request in read_server_log(server.log).requests if request.objects]
    beyond = [took_s - model_s for took_s, model_s in zip(took, by_model, strict=True)][1:]
    print(
        f"recstream recommend: first row after {_shown(took[1:])} s, of which the model's {_shown(by_model[1:])}",
        flush=True,
    )
    return {"first_row_recommend_s": median(took[1:]), "first_row_recommend_beyond_model_s": median(beyond)}


async def _first_row_s(ledger: Ledger, number: int, ask: Callable[[str], Awaitable[None]]) -> float:
    """Seconds until a reader sees a row of this customer; returns when whoever was asked is done."""
    customer, since, begun = f"c{number:07d}", await ledger.now(), time.monotonic()

    async def asked() -> None:
        await ask(customer)

    asking = asyncio.create_task(asked())
    while not await ledger.first_row_of(customer, since):
        if time.monotonic() - begun > _WITHIN_S or (asking.done() and asking.exception()):
            asking.cancel()
            raise UnfinishedRunError(f"no row of customer {customer} comes within {_WITHIN_S:.0f} s")
        await asyncio.sleep(_LOOK_S)
    took = time.monotonic() - begun
    await asking
    return took


def _shown(seconds: list[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in seconds)
