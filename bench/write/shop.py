"""The made-up shop of a million customers, as arithmetic: what was recommended to whom, and what a reader must see.

`filling` writes the same into the tables. Products differ from night to night, so that no mixture goes unseen.
"""

from dataclasses import dataclass

from bench.write.rows import SLATE_SIZE

NIGHTS = 3
_SOLD_OUT_OF = 50  # one product in so many
_HIDDEN_OF = 200
_BOUGHT_SINCE_OF = 10  # one customer in so many bought, after all nights, what the last one has at this rank
_BOUGHT_RANK = 3


@dataclass(frozen=True, slots=True)
class Shop:
    """Customers and products are numbered from 1, nights from 0. Some more customers have no slate."""

    customers: int
    products: int

    @property
    def known(self) -> int:
        """All customers: those after the first `customers` have no slate."""
        return self.customers + self.customers // 100 + 1

    def product(self, customer: int, night: int, rank: int) -> int:
        """The product at this rank."""
        return (customer * 31 + night * 1009 + rank * 97) % self.products + 1

    def seen(self, customer: int, night: int) -> list[tuple[int, str]]:
        """The rank and product of each row that readers see while this night is the customer's current one."""
        placed = ((rank, self.product(customer, night, rank)) for rank in range(1, SLATE_SIZE + 1))
        return [(rank, f"p{product}") for rank, product in placed if self._is_shown(customer, product)]

    def _is_shown(self, customer: int, product: int) -> bool:
        if product % _SOLD_OUT_OF == 7 or product % _HIDDEN_OF == 11:
            return False
        has_bought = customer % _BOUGHT_SINCE_OF == 0
        return not (has_bought and product == self.product(customer, NIGHTS - 1, _BOUGHT_RANK))
