"""A program of implicit's own environment: fits its models to purchases and says what the best hundred of each held.

On stdin comes one JSON object: `customers`, `products` and `days` (before the split) of each purchase, all numbers, and
`wanted`, from a customer's number to those of his targets. `quick` asks for one setting of each model alone. On stdout
goes a line of JSON for each setting.

The grids are those that a careful person tries first: what a purchase weighs (once, the logarithm of how often, the
same fading with time), how many factors, and how hard they are held. More factors or less of a hold gained nothing.
"""

import json
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Protocol

import numpy as np
from implicit.als import (  # type: ignore[import-not-found, unused-ignore]  # lives in an environment of its own
    AlternatingLeastSquares,
)
from implicit.bpr import (  # type: ignore[import-not-found, unused-ignore]  # as above
    BayesianPersonalizedRanking,
)
from implicit.nearest_neighbours import (  # type: ignore[import-not-found, unused-ignore]  # as above
    BM25Recommender,
)
from implicit.utils import ParameterWarning  # type: ignore[import-not-found, unused-ignore]  # as above
from numpy.typing import NDArray
from scipy import sparse

_PLACES = 100
_SEED = 1
_FADING_DAYS = 60.0  # after so many days a purchase weighs half, where weights fade


class Model(Protocol):
    """What implicit's models have in common."""

    def fit(self, purchases: sparse.csr_matrix, show_progress: bool) -> None:
        """Learn from a row of weights for each customer."""
        ...

    def recommend(self, rows: NDArray[np.int64], purchases: sparse.csr_matrix, N: int) -> Any:  # noqa: N803 - theirs
        """The best products of some rows, without what those hold, and their scores."""
        ...


def main() -> None:
    """Read, fit, and say what each held."""
    warnings.simplefilter("ignore", ParameterWarning)  # BM25 hands its own matrix over in another form
    told = json.load(sys.stdin)
    wanted = {int(customer): frozenset(products) for customer, products in told["wanted"].items()}
    matrices = {weight: _matrix(told, weight) for weight in ("once", "log", "fading")}
    for name, settings, model in _first_of_each() if told["quick"] else _all():
        weights = matrices[str(settings["weight"])]
        model.fit(weights, show_progress=False)
        print(json.dumps({"model": name, **settings, "recall": _recall(model, weights, wanted)}), flush=True)


def _matrix(told: Mapping[str, Sequence[float]], weight: str) -> sparse.csr_matrix:
    days = np.asarray(told["days"], dtype=np.float32)
    each = np.exp2(-days / _FADING_DAYS) if weight == "fading" else np.ones_like(days)
    matrix = sparse.csr_matrix((each, (told["customers"], told["products"])), dtype=np.float32)
    matrix.sum_duplicates()
    matrix.data = np.ones_like(matrix.data) if weight == "once" else np.log1p(matrix.data)
    return matrix


def _recall(model: Model, purchases: sparse.csr_matrix, wanted: Mapping[int, frozenset[int]]) -> float:
    rows = np.asarray(list(wanted))
    lists, _ = model.recommend(rows, purchases[rows], N=_PLACES)
    held = [
        len(hits.intersection(found.tolist())) / len(hits) for hits, found in zip(wanted.values(), lists, strict=True)
    ]
    return float(np.mean(held))


_Setting = tuple[str, dict[str, object], Model]


def _first_of_each() -> Iterator[_Setting]:
    for models in (_neighbours(), _factors(), _orderings()):
        yield next(models)


def _all() -> Iterator[_Setting]:
    yield from _neighbours()
    yield from _factors()
    yield from _orderings()


def _neighbours() -> Iterator[_Setting]:
    for weight, most, (k1, b) in product(("once", "log", "fading"), (50, 200), ((1.2, 0.2), (1.2, 0.75), (100.0, 0.2))):
        yield "BM25", {"weight": weight, "K": most, "K1": k1, "B": b}, BM25Recommender(K=most, K1=k1, B=b)


def _factors() -> Iterator[_Setting]:
    for weight, factors, alpha, held in product(("once", "fading"), (32, 64), (1.0, 5.0, 20.0), (1.0, 10.0)):
        model = AlternatingLeastSquares(
            factors=factors, alpha=alpha, regularization=held, iterations=15, random_state=_SEED
        )
        yield "ALS", {"weight": weight, "factors": factors, "alpha": alpha, "regularization": held}, model


def _orderings() -> Iterator[_Setting]:
    for factors, rate, held in product((64, 128), (0.05, 0.1), (0.001, 0.01)):
        model = BayesianPersonalizedRanking(
            factors=factors, learning_rate=rate, regularization=held, iterations=100, random_state=_SEED, num_threads=1
        )  # with more threads it is another model each time
        settings = {"weight": "once", "factors": factors, "learning_rate": rate, "regularization": held}
        yield "BPR", settings, model


if __name__ == "__main__":
    main()
