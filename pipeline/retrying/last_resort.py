"""The slate that is made without a model: the candidates in the order in which they were found."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from pipeline.domain import Candidate, Origin, Provenance, Rank, Recommendation

ORIGIN: Final = Origin(Provenance.RETRIEVAL_ORDER)
"""What the rows say of themselves."""
BEGINNING: Final = "filled up in retrieval order"
"""How the reason of such a slate begins; that of no other complete slate does."""


def retrieval_order(
    candidates: Sequence[Candidate], placed: Collection[Recommendation], wanted: int
) -> Iterator[Recommendation]:
    """The recommendations that a slate of `wanted` places still lacks, at the ranks after those that are `placed`.

    They are the first candidates that have no place yet. Their scores fall from rank to rank in even steps, and lie
    between 0 and the last score of what is placed (1 if nothing is). There may be too few candidates.
    """
    taken = {recommendation.product_id for recommendation in placed}
    untaken = [it.product for it in candidates if it.product.product_id not in taken]
    left = untaken[: max(wanted - len(placed), 0)]
    last = min((recommendation.relevance_score for recommendation in placed), default=1.0)
    for number, product in enumerate(left, start=1):
        score = last * (1 - number / (len(left) + 1))
        yield Recommendation(Rank(len(placed) + number), product.product_id, product.name, score)


def reason(problem: str) -> str:
    """What the ledger says of a slate that was filled up so, by the problem that left it open."""
    return f"{BEGINNING}: {problem}"
