"""Judges each object of an answer: a recommendation, or a rejection with its reason. One bad object ends nothing."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from math import isfinite
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.domain import Outcome, Product, ProductId, Rank, Recommendation, Rejection, RejectionReason
from pipeline.errors import AnswerCutError, AnswerShortError

MAX_RAW_CHARACTERS = 2_000
MAX_REJECTIONS = 500


def _without_booleans(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a truth value is not a number")  # noqa: TRY004 - pydantic reports a ValueError
    return value


Number = Annotated[float, BeforeValidator(_without_booleans)]
Identifier = Annotated[str, BeforeValidator(_without_booleans)]


class CompactItem(BaseModel):
    """`{"i": 3, "s": 92}`: the candidate's number in the prompt, and a score from 0 to 100."""

    i: Annotated[int, BeforeValidator(_without_booleans)]
    s: Number | None = None

    def score(self) -> float | None:
        """The score brought to 0..1."""
        return None if self.s is None else self.s / 100


class FullItem(BaseModel):
    """The long form. A score above 1 is read as one of 0 to 100."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    product_id: Identifier
    relevance_score: Number | None = Field(default=None, validation_alias=AliasChoices("relevance_score", "score"))

    def score(self) -> float | None:
        """The score brought to 0..1."""
        if self.relevance_score is None or self.relevance_score <= 1:
            return self.relevance_score
        return self.relevance_score / 100


class Judge:
    """Judges the objects of one attempt, in order. Name and id of a recommendation always come from the candidates."""

    def __init__(self, candidates: Sequence[Product], *, asked: int, first_rank: int = 1) -> None:
        self._candidates = candidates
        self._by_id = {product.product_id: product for product in candidates}
        self._taken: set[ProductId] = set()
        self._next_rank = first_rank
        self._asked = asked
        self._last_rank = first_rank + asked - 1

    def enough(self) -> bool:
        """True when all that was asked for is here."""
        return self._next_rank > self._last_rank

    def require_enough(self) -> None:
        """Raise AnswerShortError where an answer that ended well gave fewer than was asked for."""
        if not self.enough():
            here = self._asked - (self._last_rank - self._next_rank + 1)
            raise AnswerShortError(f"the answer ended with {here} of the {self._asked} recommendations asked for")

    def judge(self, raw: str) -> Outcome:
        """The outcome of one object's text."""
        item = _read_item(raw)
        if isinstance(item, Rejection):
            return item
        product = self._find(item)
        if product is None:
            return _reject(RejectionReason.UNKNOWN_CANDIDATE, "it names no product of the list", raw)
        return self._place(product, item.score(), raw)

    def _place(self, product: Product, score: float | None, raw: str) -> Outcome:
        if product.product_id in self._taken:
            return _reject(RejectionReason.REPEATED_PRODUCT, f"product {product.product_id} came before", raw)
        if score is None:
            return _reject(RejectionReason.MISSING_SCORE, "it has no score", raw)
        if not (isfinite(score) and 0 <= score <= 1):
            return _reject(RejectionReason.SCORE_OUT_OF_RANGE, f"its score is {score * 100:g} of 100", raw)
        if self.enough():
            return _reject(RejectionReason.BEYOND_ASKED, "all that was asked for had come before", raw)
        return self._recommend(product, score)

    def _find(self, item: CompactItem | FullItem) -> Product | None:
        if isinstance(item, FullItem):
            return self._by_id.get(ProductId(item.product_id.strip()))
        return self._candidates[item.i - 1] if 1 <= item.i <= len(self._candidates) else None

    def _recommend(self, product: Product, score: float) -> Recommendation:
        self._taken.add(product.product_id)
        rank = Rank(self._next_rank)
        self._next_rank += 1
        return Recommendation(rank, product.product_id, product.name, score)


async def validate(objects: AsyncGenerator[str], judge: Judge) -> AsyncGenerator[Outcome]:
    """Yield an outcome for each object, in order.

    Raises:
        AnswerCutError: the answer is mostly rejections; it would go on for ever.
    """
    rejections = 0
    async with aclosing(objects):
        async for raw in objects:
            outcome = judge.judge(raw)
            yield outcome
            rejections += isinstance(outcome, Rejection)
            if rejections > MAX_REJECTIONS:
                raise AnswerCutError(f"more than {MAX_REJECTIONS} objects of the answer were refused: it was cut off")


def remaining(candidates: Sequence[Product], taken: Collection[ProductId]) -> list[Product]:
    """The candidates that no earlier attempt has placed."""
    return [product for product in candidates if product.product_id not in taken]


def _read_item(raw: str) -> CompactItem | FullItem | Rejection:
    form = CompactItem if '"i"' in raw and '"product_id"' not in raw else FullItem
    try:
        return form.model_validate_json(raw)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        reason = RejectionReason.NOT_JSON if problem["type"] == "json_invalid" else RejectionReason.NOT_AN_ITEM
        place = ".".join(str(part) for part in problem["loc"])
        return _reject(reason, f"{place}: {problem['msg']}" if place else problem["msg"], raw)


def _reject(reason: RejectionReason, detail: str, raw: str) -> Rejection:
    return Rejection(reason, detail, raw[:MAX_RAW_CHARACTERS])
