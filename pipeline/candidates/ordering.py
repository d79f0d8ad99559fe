"""The order in which a model is shown a customer's candidates: shuffled by a seed, so that no place is favoured."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final

from pipeline.domain import Candidate, CandidateOrder, Candidates, CustomerId, Product, ProductId, Rule

WINDOW: Final = 20


@dataclass(frozen=True, slots=True)
class Ordering:
    """How every customer of a run is shown his candidates.

    Of "shuffled" each order is as likely as any other; "retrieval" is best first; "windows" is best first by windows of
    `WINDOW`, and shuffled in each. The same seed shuffles the same way on every machine, today and when a run goes on.
    """

    order: CandidateOrder = "retrieval"
    seed: int = 0

    def ordered(
        self,
        customer_id: CustomerId,
        found: tuple[Candidate, ...],
        as_of: datetime,
        *,
        build_id: int | None = None,
        removed: tuple[tuple[Rule, ProductId], ...] = (),
    ) -> Candidates:
        """What was found for the customer, with the order in which the model sees it."""
        width = self._width(len(found))
        offered = _shuffled(found, width, self._key(customer_id)) if width > 1 else tuple(it.product for it in found)
        return Candidates(found, offered, as_of, build_id, removed, width)

    def _width(self, candidates: int) -> int:
        return {"shuffled": max(candidates, 1), "windows": WINDOW, "retrieval": 1}[self.order]

    def _key(self, customer_id: CustomerId) -> bytes:
        return blake2b(f"{self.seed}:{customer_id}".encode(errors="surrogatepass"), digest_size=16).digest()


def _shuffled(found: tuple[Candidate, ...], width: int, key: bytes) -> tuple[Product, ...]:
    """Each window sorted by keyed digests: what one candidate comes to does not depend on which others there are."""
    keyed = blake2b(digest_size=8, key=key)

    def place(product: Product) -> bytes:
        """The digest, and behind it the id: in this code ids come in the same order as letter by letter."""
        written = product.product_id.encode("utf-8", "surrogatepass")
        digest = keyed.copy()  # dearer to make than to copy
        digest.update(written)
        return digest.digest() + written

    products = [it.product for it in found]
    offered: list[Product] = []
    for begin in range(0, len(products), width):
        offered += sorted(products[begin : begin + width], key=place)
    return tuple(offered)
