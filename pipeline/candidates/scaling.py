"""The neighbours of a build through sparse matrices: the same as the statements find, sooner where there are many.

numpy and scipy are the extra `recstream[scale]`. Memory: 17 bytes for each different product of a customer, and a few
hundred megabytes beside them, however many pairs there are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal

import psycopg

from pipeline.candidates.builds import Build, Method
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

MANY_PURCHASES: Final = 10_000_000
"""From so many on the matrices are worth their memory."""
_INSTALL: Final = 'pip install "recstream[scale]"'
_CELLS: Final = 8_000_000  # of the product of two matrices, at a time
_PAGE: Final = 2_000  # histories that are fetched at a time

_PRODUCTS = "SELECT number, buyers, recent_buyers FROM candidate_products WHERE build_id = %s ORDER BY number"
_HISTORIES = "SELECT numbers[1:%s] FROM candidate_histories WHERE build_id = %s"
_NEIGHBOURS = "COPY candidate_neighbours (build_id, number, neighbours, weights) FROM STDIN (FORMAT binary)"


def scale_is_installed() -> bool:
    """Whether the extra is there."""
    return find_spec("numpy") is not None and find_spec("scipy") is not None


def choose_method(wanted: Literal["auto"] | Method, purchases: int, tell: Callable[[str], None]) -> Method:
    """How to build from so many purchases; tells why where that was left open and there are many.

    Raises:
        ConfigurationError: scipy is wanted and not installed.
    """
    if wanted == "scipy":
        require_scale()
    if wanted != "auto":
        return wanted
    if purchases < MANY_PURCHASES:
        return "sql"
    if scale_is_installed():
        tell(f"{purchases:,} purchases: neighbours are found with scipy; candidate_method sql leaves it to Postgres")
        return "scipy"
    tell(f"{purchases:,} purchases: Postgres alone takes long over so many, scipy is quicker: `{_INSTALL}`")
    return "sql"


def require_scale() -> None:
    """See that the extra is there.

    Raises:
        ConfigurationError: it is not.
    """
    if not scale_is_installed():
        raise ConfigurationError(
            f"candidates cannot be built with scipy, which is not installed: `{_INSTALL}`, "
            "or set candidate_method to sql"
        )


def neighbours_by_scipy(connection: psycopg.Connection, build: Build, recipe: CandidateRecipe) -> None:
    """Fill `candidate_neighbours` of the build from its products and histories, in one transaction.

    Weights are those of the statements to the last digit of a `real` but for rounding; equal ones stand in the order
    of their numbers.

    Raises:
        ConfigurationError: the extra is not installed.
        psycopg.Error: the database failed.
    """
    require_scale()
    with connection.transaction():
        weights = _Weights.read(connection, build.build_id, recipe)
        with connection.cursor() as cursor, cursor.copy(_NEIGHBOURS) as copy:
            copy.set_types(["int4", "int4", "int4[]", "float4[]"])
            for number, neighbours, heavy in weights.rows():
                copy.write_row((build.build_id, number, neighbours, heavy))


@dataclass(frozen=True, slots=True)
class _Weights:
    """Who purchased what, both ways round, and what a pair's weight is made of.

    `customers` has a row of ones for each customer, `buyers` the same for each product. `shares` is what a purchase
    of each customer counts; `sources` and `targets` are what a product brings as i and as j of W(i→j).
    """

    recipe: CandidateRecipe
    customers: "csr_matrix"
    buyers: "csr_matrix"
    shares: "NDArray[np.float64]"
    sources: "NDArray[np.float64]"
    targets: "NDArray[np.float64]"

    @classmethod
    def read(cls, connection: psycopg.Connection, build_id: int, recipe: CandidateRecipe) -> "_Weights":
        import numpy as np  # noqa: PLC0415 - of the extra, which may be missing

        counted = np.array(connection.execute(_PRODUCTS, [build_id]).fetchall(), dtype=np.int64).reshape(-1, 3)
        numbers, buyers, recent = counted.T
        size = int(numbers.max(initial=-1)) + 1
        sources, targets = np.zeros(size), np.zeros(size)
        bought = np.maximum(buyers, 1).astype(np.float64)
        sources[numbers] = bought**-recipe.source_exponent
        popularity = (recent + recipe.popularity_offset) ** recipe.popularity_exponent
        targets[numbers] = bought**-recipe.target_exponent * popularity
        customers = _read_customers(connection, build_id, recipe.history, size)
        lengths = np.maximum(np.diff(customers.indptr), 1)
        shares = lengths**-recipe.basket_exponent
        return cls(recipe, customers.astype(np.float64), customers.T.tocsr(), shares, sources, targets)

    def rows(self) -> "Iterator[tuple[int, list[int], list[float]]]":
        """For each product that has any: its neighbours, heaviest first, and their weights."""
        for begin, end in self._blocks():
            yield from self._rows(begin, end)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of products whose pairs fit into memory together, one product at the least."""
        import numpy as np  # noqa: PLC0415 - as above

        lengths = np.diff(self.customers.indptr)
        met = np.add.reduceat(np.append(lengths[self.buyers.indices], 0), self.buyers.indptr[:-1])
        cells = np.cumsum(np.minimum(met, len(self.targets)))
        begin = 0
        while begin < len(cells):
            before = cells[begin - 1] if begin else 0
            end = max(int(np.searchsorted(cells, before + _CELLS, side="right")), begin + 1)
            yield begin, end
            begin = end

    def _rows(self, begin: int, end: int) -> "Iterator[tuple[int, list[int], list[float]]]":
        block = self.buyers[begin:end]
        # The same cells meet in both products, so they come in the same order.
        shared = block @ self.customers
        block.data = self.shares[block.indices]
        together = block @ self.customers
        for row in range(end - begin):
            cells = slice(shared.indptr[row], shared.indptr[row + 1])
            number = begin + row
            is_pair = (shared.data[cells] >= self.recipe.least_shared) & (shared.indices[cells] != number)
            others = shared.indices[cells][is_pair]
            if others.size:
                weights = together.data[cells][is_pair] * self.sources[number] * self.targets[others]
                yield number, *_heaviest(others, weights, self.recipe.neighbours)


def _heaviest(others: "NDArray[np.int32]", weights: "NDArray[np.float64]", most: int) -> tuple[list[int], list[float]]:
    """Ordered by what is stored: digits beyond it differ with the order in which they were added up."""
    import numpy as np  # noqa: PLC0415 - as above

    stored = weights.astype(np.float32)
    if stored.size > most:
        least = np.partition(stored, stored.size - most)[stored.size - most]
        others, stored = others[stored >= least], stored[stored >= least]
    best = np.lexsort((others, -stored))[:most]
    return others[best].tolist(), stored[best].tolist()


def _read_customers(connection: psycopg.Connection, build_id: int, history: int, products: int) -> "csr_matrix":
    import numpy as np  # noqa: PLC0415 - as above
    from scipy.sparse import csr_matrix  # noqa: PLC0415 - as above

    numbers, lengths = [np.zeros(0, np.int32)], [0]
    with connection.cursor(f"histories_{build_id}", binary=True) as cursor:
        cursor.itersize = _PAGE
        cursor.execute(_HISTORIES, [history, build_id])
        while page := cursor.fetchmany(_PAGE):
            numbers.append(np.concatenate([np.array(row[0], dtype=np.int32) for row in page]))
            lengths += [len(row[0]) for row in page]
    indices = np.concatenate(numbers)
    ones = np.ones(indices.size, np.int8)
    return csr_matrix((ones, indices, np.cumsum(lengths)), shape=(len(lengths) - 1, products))
