"""Finds the customers of whom nothing has changed since their slate was made: they keep it, and nobody is asked.

What a ranking depends on is digested into its content hash: the segments of the profile, the candidates in their order
(where they are shuffled, in any),
and the recipe, which is all that a run or one of its variants adds. Equal hashes mean equal questions. The one segment
that changes by the passing of time alone, the monthly spend, goes in coarsely.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import log
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import Candidates, CustomerId, Product, ProductId, Profile, RunId, ShardLease
from pipeline.persistence import persistent
from pipeline.runs import Run
from pipeline.segments import MONTHLY_SPEND
from pipeline.shard_ledger import of_shard
from pipeline.variants import Variant, variant_of

_SPEND_STEP = log(1.25)  # of a customer who buys nothing the figure falls through about ten steps in a year
_NO_DIGIT = re.compile(r"\D")
_FIGURE = re.compile(r"\d(?:.*\d)?")

Input = tuple[Profile, Candidates]
"""A customer and his candidates."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run, or one of its variants, adds to what is known of each customer: all but the variant's name."""

    model: str
    provenance: str
    prompt_version: str
    temperature: float
    slate_size: int

    def content_hash(self, profile: Profile, candidates: Candidates) -> str:
        """Thirty-two hex digits over all that the ranking of these candidates depends on: the same on every machine."""
        content = (
            (self.model, self.provenance, self.prompt_version, self.temperature, self.slate_size),
            [_coarse(title, text) for title, text in profile.segments],
            [(it.product_id, it.name, it.brand, it.category, it.price) for it in _products(candidates)],
        )
        return blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


RecipeOf = Callable[[CustomerId], Recipe]
"""The recipe that a customer's slate is made by."""


def recipes(run: Run, variants: Sequence[Variant] = ()) -> RecipeOf:
    """How each customer's slate of this run is made: by the run's own model and prompt, or by his variant's."""
    return varied(Recipe(run.model, run.provenance, run.prompt_version, run.temperature, run.slate_size), variants)


def varied(own: Recipe, variants: Sequence[Variant]) -> RecipeOf:
    """The recipe of each customer, where these variants are tried against each other."""
    if len(variants) <= 1:
        return lambda _: own
    by_name = {variant.name: _varied(own, variant) for variant in variants}
    return lambda customer_id: by_name[variant_of(customer_id, variants).name]


def _varied(own: Recipe, variant: Variant) -> Recipe:
    return Recipe(
        model=variant.model or own.model,
        provenance=own.provenance,
        prompt_version=variant.templates.version,
        temperature=own.temperature if variant.temperature is None else variant.temperature,
        slate_size=own.slate_size,
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """The slate that a customer keeps: of which run it is, and how many rows it has."""

    run_id: RunId
    rows: int


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Sorts out the unchanged customers of one run, a page at a time."""

    engine: AsyncEngine
    run: Run
    recipe_of: RecipeOf
    variants: Sequence[Variant] = ()
    lease: ShardLease | None = None

    async def keep(self, inputs: Sequence[Input]) -> set[CustomerId]:
        """End the slates of those of whom nothing has changed, and return who they are.

        What the slates of the others are about to be made from is written down, for the nights to come.
        Where `lease` is not the newest of the shard nothing is written: whoever opens a slate then hears of it.
        """
        content = content_of(inputs, self.recipe_of)
        kept = await find_unchanged(self.engine, content, self.run.unchanged_max_age_days)
        noted = _noted(self.run, content, kept, [self._variant(it) for it in content])
        return await _note(self.engine, noted | of_shard(self.lease)) if content else set()

    def _variant(self, customer_id: CustomerId) -> str | None:
        """As the ledger names it: nothing where there is only the control."""
        return variant_of(customer_id, self.variants).name if len(self.variants) > 1 else None


@dataclass(frozen=True, slots=True)
class Content:
    """What a customer's slate is made from, and the model that is to make it."""

    content_hash: str
    model: str


def content_of(inputs: Sequence[Input], recipe_of: RecipeOf) -> dict[CustomerId, Content]:
    """The content of each of these customers' slates."""
    found: dict[CustomerId, Content] = {}
    for profile, candidates in inputs:
        recipe = recipe_of(profile.customer_id)
        found[profile.customer_id] = Content(recipe.content_hash(profile, candidates), recipe.model)
    return found


@persistent
async def find_unchanged(
    engine: AsyncEngine, content: Mapping[CustomerId, Content], max_age_days: int
) -> dict[CustomerId, Kept]:
    """Those who see a slate of the same content, made by the same model, that is not older than so many days."""
    if not content or not max_age_days:
        return {}
    asked = {
        "customer_ids": list(content),
        "content_hashes": [it.content_hash for it in content.values()],
        "models": [it.model for it in content.values()],
        "most_days": max_age_days,
    }
    async with engine.connect() as connection:
        rows: Sequence[Row[tuple[str, UUID, int]]] = (
            await connection.execute(statement("unchanged_slates"), asked)
        ).all()
    return {CustomerId(row.customer_id): Kept(RunId(row.kept_run_id), row.kept_rows) for row in rows}


@persistent
async def _note(engine: AsyncEngine, noted: Mapping[str, object]) -> set[CustomerId]:
    async with engine.begin() as connection:
        found = await connection.scalars(statement("note_content"), noted)
        return {CustomerId(customer_id) for customer_id in found}


def _noted(
    run: Run,
    content: Mapping[CustomerId, Content],
    kept: Mapping[CustomerId, Kept],
    variants: Sequence[str | None],
) -> dict[str, object]:
    """What `note_content.sql` writes down of a page."""
    of_each = [kept.get(customer_id) for customer_id in content]
    return {
        "run_id": run.run_id,
        "day": run.day,
        "customer_ids": list(content),
        "content_hashes": [it.content_hash for it in content.values()],
        "variants": variants,
        "kept_run_ids": [it and it.run_id for it in of_each],
        "kept_rows": [it and it.rows for it in of_each],
    }


def _products(candidates: Candidates) -> Iterator[Product]:
    """The candidates in the order in which they were found; those that are shuffled with each other by their ids."""
    products = [it.product for it in candidates.found]
    for begin in range(0, len(products), candidates.interchangeable):
        yield from sorted(products[begin : begin + candidates.interchangeable], key=_id_of)


def _id_of(product: Product) -> ProductId:
    return product.product_id


def _coarse(title: str, text: str) -> tuple[str, str]:
    """A segment as the hash has it: of an average that falls from day to day, the step that it is on."""
    if title != MONTHLY_SPEND or not (digits := _NO_DIGIT.sub("", text)):
        return title, text
    return title, _FIGURE.sub(f"about {round(log(int(digits) + 1) / _SPEND_STEP)}", text)
