"""The parts of the bench: each takes its figures, prints them as it goes, and returns them by their keys."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

from bench.limits.capping import run_into_caps
from bench.limits.economy import OutputTokens, Shared, output_tokens, shared
from bench.limits.foretelling import Foretold, foretell
from bench.limits.measuring import Together
from bench.limits.outcomes import HEADING, Outcome, worst
from bench.limits.overhead import overhead_us
from bench.limits.plan import PREFIX_CANDIDATES, PROCESSES, SLATE_SIZE, Plan
from bench.limits.questions import first_questions, prompts_of_run
from bench.limits.real_shop import real_shop
from bench.limits.running import Ours, crew, limited_server, serve
from bench.limits.scenarios import Scenario, scenarios
from bench.limits.server_log import ServerLog, read_server_log
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.errors import UnfinishedRunError
from pipeline.offline_ranker.limits import LimitPlan

Figures = dict[str, float]

_RETRIES = (2, 10)


async def overhead_figures(url: str, plan: Plan) -> Figures:
    """What admission costs, with nothing asked."""
    microseconds = await overhead_us(url, plan)
    print(f"limiter, retries and budget: {microseconds:.0f} us CPU a request", flush=True)
    return {"overhead_us_per_request": microseconds}


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks for where nothing limits it, by the server's log.

    `requests_per_minute` is what it asks for once all requests are in flight; `tokens_a_request` is what a request is
    charged on average, and `most_tokens` what it asks for as the length of its answer.
    """

    requests_per_minute: float
    tokens_a_request: float
    most_tokens: int
    log: ServerLog


async def demand(url: str, plan: Plan) -> tuple[Demand, Figures]:
    """A run that nothing limits.

    Raises:
        UnfinishedRunError: it did not come to its end.
    """
    log, seconds = await _unlimited(url, plan, Ours(1, plan.in_flight))
    answer_s = median(request.ended_at - request.received_at for request in log.requests)
    wanted = Demand(
        requests_per_minute=plan.in_flight / answer_s * 60,
        tokens_a_request=mean(request.charged_tokens for request in log.requests),
        most_tokens=max(request.charged_tokens - request.prompt_tokens for request in log.requests),
        log=log,
    )
    used = log.tokens_used / len(log.requests)
    share = plan.requests_per_minute / wanted.requests_per_minute
    print(
        f"{plan.customers} customers without a limit: {seconds:.1f} s; {plan.in_flight} in flight at {answer_s:.2f} s "
        f"an answer are {wanted.requests_per_minute:,.0f} requests/min, of which {plan.requests_per_minute:g} are "
        f"{share:.0%}; tokens a request: {wanted.tokens_a_request:,.0f} charged, {used:,.0f} used",
        flush=True,
    )
    return wanted, {"limit_of_demand": share, "charged_vs_used_tokens": wanted.tokens_a_request / used}


async def _unlimited(url: str, plan: Plan, ours: Ours) -> tuple[ServerLog, float]:
    with TemporaryDirectory(prefix="limits-") as name:
        async with (
            limited_server(Path(name), LimitPlan(), plan.tokens_per_second) as server,
            crew(url, server, ours, plan.customers) as (processes, last),
        ):
            served = await serve(url, server, ours, processes, last)
        if served.failed or served.lost:
            raise UnfinishedRunError(f"{served.lost} customers were lost without any limit: {', '.join(served.failed)}")
        return read_server_log(server.log), served.seconds


async def limit_figures(url: str, plan: Plan, wanted: Demand) -> Figures:
    """One process under each of the limits, which are told in headers or not at all."""
    print(f"\none process, {plan.in_flight} in flight\n{HEADING}")
    outcomes: list[Outcome] = []
    for silent in scenarios(plan, wanted.tokens_a_request):
        ours = Ours(1, plan.in_flight)
        outcomes += await _measured(url, plan, [("ours", one, ours) for one in (silent.told(), silent)])
    return worst(outcomes)


async def process_figures(url: str, plan: Plan, wanted: Demand) -> Figures:
    """Four processes that share each of the limits, one of them killed midway."""
    print(f"\n{PROCESSES} processes, {plan.in_flight} in flight over all, one killed midway\n{HEADING}")
    outcomes: list[Outcome] = []
    ours = Ours(PROCESSES, plan.in_flight, killed_after=round(plan.customers * plan.killed_after_share))
    for silent in scenarios(plan, wanted.tokens_a_request):
        outcomes += await _measured(url, plan, [("ours", one, ours) for one in (silent.told(), silent)])
    return worst(outcomes, f"_{PROCESSES}_processes")


async def contender_figures(url: str, plan: Plan, wanted: Demand) -> Figures:
    """The `openai` client alone, with the retries that it has by itself and with five times as many.

    The server is the one that says in milliseconds when to come back: no other is kinder to that client.
    """
    print(f"\nthe openai client alone, {plan.in_flight} in flight\n{HEADING}")
    prompts = await first_questions(url, plan.customers, SLATE_SIZE)
    told = [silent.told() for silent in scenarios(plan, wanted.tokens_a_request)]
    outcomes: list[Outcome] = []
    for pair in (told[:2], told[2:]):  # they wait most of the time
        together = Together(url, plan, asyncio.Barrier(len(pair) * len(_RETRIES)))
        outcomes += await _printed(
            together.contender(one, prompts, retries=retries, most_tokens=wanted.most_tokens)
            for one in pair
            for retries in _RETRIES
        )
    by_retries = {retries: [one for one in outcomes if one.who == f"openai, {retries}"] for retries in _RETRIES}
    figures: Figures = {}
    for retries, theirs in by_retries.items():
        figures |= worst(theirs, f"_openai_{retries}")
    return figures


async def budget_figures(url: str, plan: Plan, wanted: Demand) -> Figures:
    """Four processes that run into a cap with all requests in flight; used is what the server says it was asked."""
    print(f"\n{PROCESSES} processes, {plan.in_flight} in flight over all, stopped by a cap")
    capped = await run_into_caps(url, plan, wanted.log)
    for one in capped:
        print(one, flush=True)
    return {
        "budget_overrun": max(one.overrun for one in capped),
        "budget_used_share": 1 + min(one.overrun for one in capped),
    }


async def real_figures(server: EmbeddedPostgres, plan: Plan, data: Path) -> Figures:
    """What only real customers can tell: how well a night is foretold, and what its tokens are spent on.

    Raises:
        InputError: the real shop's files are not there.
        UnfinishedRunError: the plan or a night broke off.
    """
    print(f"\nthe real shop, {plan.planned_customers} customers")
    with real_shop(server, data) as url:
        foretold = await foretell(url, plan)
        many = plan.planned_customers, foretold.last_run
        wide = await prompts_of_run(url, *many, PREFIX_CANDIDATES)
        spent = output_tokens(url, foretold.last_run, foretold.log)
    return {**_plan_figures(foretold), **_token_figures(spent, shared(wide))}


def _plan_figures(foretold: Foretold) -> Figures:
    for night, planned, reported in zip(("first", "second"), foretold.planned, foretold.reported, strict=True):
        print(f"  {night} night, planned:  {planned}\n  {night} night, reported: {reported}", flush=True)
    first, second = foretold.errors()
    figures = {
        "plan_error": second,
        "plan_error_first_night": first,
        "reported_vs_server_error": foretold.report_error(),
    }
    print(
        f"  the first plan, which has to estimate tokens, is {first:.1%} off; the second, which has seen a night, "
        f"{second:.2%}; what was reported is {figures['reported_vs_server_error']:.2%} off what the server knows"
    )
    return figures


def _token_figures(spent: OutputTokens, prompts: Shared) -> Figures:
    for name, compact, full in zip(("four characters", "our estimate"), spent.compact, spent.full, strict=True):
        print(f"  output tokens a recommendation by {name}: {compact:.1f} by number, {full:.1f} as a full object")
    print(
        f"  input at {PREFIX_CANDIDATES} candidates: {prompts.in_common_prefix:.1%} is how every prompt begins, "
        f"{prompts.cached:.1%} begins as an earlier prompt did",
        flush=True,
    )
    return {
        "output_tokens_vs_full": spent.worst_share,
        "cached_prefix_share": prompts.in_common_prefix,
        "cached_by_provider_share": prompts.cached,
    }


async def _measured(url: str, plan: Plan, runs: Sequence[tuple[str, Scenario, Ours]]) -> list[Outcome]:
    together = Together(url, plan, asyncio.Barrier(len(runs)))
    return await _printed(together.ours(who, scenario, ours) for who, scenario, ours in runs)


async def _printed(measuring: Iterable[Coroutine[None, None, Outcome]]) -> list[Outcome]:
    outcomes = await asyncio.gather(*measuring)
    for one in outcomes:
        print(one, flush=True)
    return outcomes
