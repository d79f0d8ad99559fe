"""A plan as people and programs read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What one model would be asked. `cost` is in the currency of the price list.

    `runs` are the last nights that the figures lean on, `input_ratio` their reported tokens for an estimated one.
    """

    model: str
    customers: int
    requests: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost: Decimal
    runs: int
    input_ratio: float


@dataclass(frozen=True, slots=True)
class BudgetCheck:
    """One cap against the plan. `cap`, `spent` and `planned` are tokens, or money as `unit` says."""

    scope: str
    unit: str
    cap: Decimal
    spent: Decimal
    planned: Decimal

    @property
    def suffices(self) -> bool:
        """Whether the plan fits into what is left."""
        return self.spent + self.planned <= self.cap


@dataclass(frozen=True, slots=True)
class Sample:
    """How many customers were looked at where not all were, and how far tokens and cost may be off: a share, 95%."""

    customers: int
    margin: float


@dataclass(frozen=True, slots=True)
class Duration:
    """How long the requests would take, None if nobody knows; what bounds it, and what that is known from."""

    seconds: float | None
    because: str


@dataclass(frozen=True, slots=True)
class NightPlan:
    """A night that has not begun. Of `customers`, `asked` would be asked for; the others are skipped, and why.

    `unchanged_unknown`: the night would build candidates anew, and only then is it known who is unchanged. All are
    counted as asked for: it is the most that the night can come to.
    """

    as_of: datetime
    customers: int
    not_active: int
    unchanged: int
    unchanged_unknown: bool
    no_candidates: int
    asked: int
    models: Sequence[ModelPlan]
    currency: str
    prices_as_of: date
    prices_from: str
    prices_remark: str | None
    duration: Duration
    budgets: Sequence[BudgetCheck]
    sample: Sample | None

    @property
    def requests(self) -> int:
        """To all models."""
        return sum(it.requests for it in self.models)

    @property
    def tokens_in(self) -> int:
        """Of all requests, cached ones among them."""
        return sum(it.tokens_in for it in self.models)

    @property
    def tokens_cached(self) -> int:
        """Of those, what the endpoints' caches would hold."""
        return sum(it.tokens_cached for it in self.models)

    @property
    def tokens_out(self) -> int:
        """Of all answers."""
        return sum(it.tokens_out for it in self.models)

    @property
    def cost(self) -> Decimal:
        """In the currency of the price list."""
        return sum((it.cost for it in self.models), Decimal(0))

    @property
    def suffices(self) -> bool:
        """Whether every budget does."""
        return all(check.suffices for check in self.budgets)
