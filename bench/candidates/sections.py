"""The parts of the bench: each takes its figures, prints them as it goes, and returns them by their keys."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql

from bench.candidates.building import Costs, measured_builds, trial
from bench.candidates.contending import best_of_each
from bench.candidates.filling import customer_id, fill
from bench.candidates.generating import UNTIL, ShopSize, draw
from bench.candidates.held_out import SEP, VAL, HeldOut, Split, read_held_out
from bench.candidates.judging import ndcg, recall, without
from bench.candidates.looking_up import customers_per_core, look_up
from bench.candidates.plan import PLACES, SEED, Plan
from bench.candidates.usage import postmaster_of
from bench.limits.real_shop import DATA, real_shop
from pipeline.candidates.builds import Method
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.candidates.scaling import scale_is_installed
from pipeline.database import libpq_url, open_connection
from pipeline.domain import CustomerId
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.errors import ConfigurationError, UnfinishedRunError
from pipeline.schema import migrate

Figures = dict[str, float]

_RECIPE = CandidateRecipe()
_SLATE = 10


def real_figures(server: EmbeddedPostgres, plan: Plan, data: Path = DATA) -> Figures:
    """How good candidates are, beside popularity and implicit, and what a build takes, in the real shop.

    Without implicit, which needs an environment of its own, the rest is measured all the same.

    Raises:
        InputError: the real shop's files are not there.
        DatabaseError: candidates could not be built.
    """
    print("\nthe real shop")
    with real_shop(server, data) as url:
        figures = _build_figures("retail", _builds(url, server, plan, VAL.until))
        held_out = {split.name: _read(url, split) for split in (SEP, VAL)}
        for split in (SEP, VAL):
            figures |= _recall_figures(url, split, held_out[split.name])
    figures["vs_popularity14_val"] = figures["recall100_new_val"] / figures["popularity14_new_val"]
    return figures | _contender_figures(held_out["val"], plan, figures["recall100_new_val"])


def _read(url: str, split: Split) -> HeldOut:
    with psycopg.connect(libpq_url(url)) as connection:
        return read_held_out(connection, split)


def _recall_figures(url: str, split: Split, held_out: HeldOut) -> Figures:
    """New products have all places to themselves where they are judged alone."""
    only_new = _RECIPE.model_copy(update={"repeat_share": 0.0})
    customers = list(held_out.all)
    with trial(url, split.as_of, _RECIPE) as build:
        new = asyncio.run(look_up(url, build, split.as_of, only_new, customers))
        mixed = asyncio.run(look_up(url, build, split.as_of, _RECIPE, customers))
    popular = without(held_out.popular(), held_out.purchased())
    figures = {
        "recall100_new": recall(held_out.new, new, PLACES),
        "recall100_all": recall(held_out.all, mixed, PLACES),
        "ndcg10_new": ndcg(held_out.new, new, _SLATE),
        "popularity14_new": recall(held_out.new, popular, PLACES),
        "popularity14_ndcg10_new": ndcg(held_out.new, popular, _SLATE),
    }
    print(f"  {split.name}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()), flush=True)
    return {f"{key}_{split.name}": value for key, value in figures.items()}


def _contender_figures(held_out: HeldOut, plan: Plan, ours: float) -> Figures:
    """implicit, at its best on the split itself."""
    try:
        contenders = best_of_each(held_out, quick=not plan.whole_grid)
    except (ConfigurationError, UnfinishedRunError) as error:
        print(f"  {type(error).__name__}: {error}", flush=True)
        return {}
    for one in contenders:
        print(one, flush=True)
    theirs = {f"implicit_{one.model.lower()}_new_val": one.recall for one in contenders}
    return {**theirs, "vs_implicit_val": ours / contenders[0].recall}


def generated_figures(server: EmbeddedPostgres, plan: Plan) -> Figures:
    """What builds and lookups take in a shop of a size that can be chosen."""
    print("\nthe generated shop")
    with generated_shop(server, plan.shop.part(plan.parts), "small_shop") as url:
        figures = _build_figures("500k", _builds(url, server, plan, UNTIL))
    with generated_shop(server, plan.shop, "large_shop") as url:
        figures |= _build_figures("5m", _builds(url, server, plan, UNTIL))
        if scale_is_installed():
            figures |= _build_figures("5m_scipy", _builds(url, server, replace(plan, rounds=1), UNTIL, method="scipy"))
        figures |= _lookup_figures(url, server, plan)
    figures["growth"] = figures["build_s_5m"] / figures["build_s_500k"] / plan.parts
    figures["growth_cpu"] = figures["build_cpu_s_5m"] / figures["build_cpu_s_500k"] / plan.parts
    print(f"  growth {figures['growth']:.2f}, of CPU {figures['growth_cpu']:.2f}", flush=True)
    return figures


@contextmanager
def generated_shop(server: EmbeddedPostgres, size: ShopSize, database: str) -> Iterator[str]:
    """The address of a database with a generated shop of this size in it."""
    begun = time.monotonic()
    with open_connection(server.url(), autocommit=True, role=None) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    url = server.url(database)
    migrate(url)
    with open_connection(url, autocommit=True, role=None) as connection:
        fill(connection, size, draw(size, SEED))
    print(
        f"  {size.products:,} products, {size.customers:,} customers, {size.purchases:,} purchases: "
        f"filled in {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    yield url


def _builds(url: str, server: EmbeddedPostgres, plan: Plan, as_of: datetime, *, method: Method = "sql") -> Costs:
    return measured_builds(url, postmaster_of(server.data_folder), as_of, _RECIPE, plan.rounds, method=method)


def _build_figures(name: str, costs: Costs) -> Figures:
    for one in costs.all:
        print(f"  build {name}: {one}", flush=True)
    return {
        f"build_s_{name}": costs.seconds,
        f"build_cpu_s_{name}": costs.cpu_s,
        f"build_rss_gb_{name}": costs.gigabytes,
    }


def _lookup_figures(url: str, server: EmbeddedPostgres, plan: Plan) -> Figures:
    """The customers that are looked up lie anywhere among all, heavy ones too."""
    step = max(plan.shop.customers // plan.lookups, 1)
    customers = [CustomerId(customer_id(number)) for number in range(0, plan.shop.customers, step)]
    with trial(url, UNTIL, _RECIPE) as build:
        postmaster = postmaster_of(server.data_folder)
        rate = asyncio.run(customers_per_core(url, postmaster, build, UNTIL, _RECIPE, customers))
    print(f"  lookup: {rate:,.0f} customers a CPU second", flush=True)
    return {"lookup_per_core": rate}
