"""The words of recstream as types: what travels between the stages. No I/O, no imports from the project."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal, NewType
from uuid import UUID

CustomerId = NewType("CustomerId", str)
ProductId = NewType("ProductId", str)
RunId = NewType("RunId", UUID)
Rank = NewType("Rank", int)  # counts from 1

OFFLINE_MODEL = "offline-ranker"
"""The name of the ranker that needs no model: it costs nothing where the price list does not name it."""


class RunKind(StrEnum):
    """What set a run off: the schedule, or a wish for certain customers now."""

    NIGHTLY = "nightly"
    ON_DEMAND = "on_demand"


class RunState(StrEnum):
    """FINISHED: every customer has a complete slate. FAILED and CANCELLED can be resumed.

    DRAINING is RUNNING without taking on more customers.
    """

    PLANNED = "planned"
    RUNNING = "running"
    DRAINING = "draining"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def goes_on(self) -> bool:
        """Whether somebody works on such a run, or is about to."""
        return self in {RunState.PLANNED, RunState.RUNNING, RunState.DRAINING}


class OrderKind(StrEnum):
    """What a person may order of a run while it goes on; RESUME is not ordered, but marks where a run began anew.

    LIMIT: so many requests at a time over all processes, or, without a number, that limit no more.
    """

    PAUSE = "pause"
    CONTINUE = "continue"
    DRAIN = "drain"
    LIMIT = "limit"
    CANCEL = "cancel"
    RESUME = "resume"


class SlateState(StrEnum):
    """PENDING and STREAMING are unfinished; COMPLETE has all that was asked for; SHORT some of it; FAILED none.

    UNCHANGED asked for nothing: what the customer's slate of an earlier run was made from is still the same.
    """

    PENDING = "pending"
    STREAMING = "streaming"
    COMPLETE = "complete"
    SHORT = "short"
    FAILED = "failed"
    UNCHANGED = "unchanged"


class ShardState(StrEnum):
    """WAITING for somebody; OFFERED to whoever takes it; SERVING; SERVED to its end; BROKEN_OFF before that."""

    WAITING = "waiting"
    OFFERED = "offered"
    SERVING = "serving"
    SERVED = "served"
    BROKEN_OFF = "broken_off"


class Ending(StrEnum):
    """How one attempt's answer ended. COMPLETE and ENOUGH are good; an attempt begins as IN_FLIGHT."""

    IN_FLIGHT = "in_flight"  # it goes on, or its process died and nobody has opened the slate since
    COMPLETE = "complete"  # the model said stop, with at least one recommendation
    ENOUGH = "enough"  # all that was asked for is here: we closed early
    EMPTY = "empty"  # the model said stop without one recommendation
    LENGTH_LIMIT = "length_limit"
    REFUSED = "refused"  # by the model, in its own words
    CONTENT_FILTER = "content_filter"  # by the endpoint
    CUT = "cut"  # the connection or the text broke off
    IDLE = "idle"  # nothing came for too long
    OVERDUE = "overdue"  # the whole took too long
    ERROR_IN_BAND = "error_in_band"  # the answer had begun well, and then held an error
    UNREACHABLE = "unreachable"
    RATE_LIMITED = "rate_limited"
    ENDPOINT_ERROR = "endpoint_error"
    FATAL = "fatal"
    ABANDONED = "abandoned"  # the reader left the loop, or the process was stopped
    TAKEN_OVER = "taken_over"  # another has opened the slate meanwhile
    DIED = "died"  # its process ended without a word: whoever opened the slate next says so


class RejectionReason(StrEnum):
    """Why an object of an answer is not a recommendation."""

    NOT_JSON = "not_json"
    NOT_AN_ITEM = "not_an_item"  # JSON, but it names no product by number or id
    TOO_LARGE = "too_large"
    UNKNOWN_CANDIDATE = "unknown_candidate"  # no product of the shop, or none of those that were offered
    CONTRADICTORY = "contradictory"  # its id is one candidate, its number or its name another
    REPEATED_PRODUCT = "repeated_product"
    MISSING_SCORE = "missing_score"
    UNREADABLE_SCORE = "unreadable_score"  # neither a number nor a text that is one
    SCORE_OUT_OF_RANGE = "score_out_of_range"  # not finite, below 0, or above 100
    BEYOND_ASKED = "beyond_asked"
    REFUSED_BY_DATABASE = "refused_by_database"


@dataclass(frozen=True, slots=True)
class ShardLease:
    """The right to serve one shard of a run. `attempt` is the fencing token: one that is not the newest gives none."""

    run_id: RunId
    shard: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Product:
    """A line of the catalog as the ranking needs it. `price` is in the shop's currency, None if unknown."""

    product_id: ProductId
    name: str
    brand: str | None = None
    category: str | None = None
    price: float | None = None


class FoundBy(StrEnum):
    """What brought a product among a customer's candidates."""

    NEIGHBOURS = "neighbours"  # buyers of what he has purchased bought it too
    REPEAT = "repeat"  # he has purchased it, and buys such things again
    POPULAR = "popular"
    NEWCOMER = "newcomer"  # hardly anybody has purchased it yet, and it is like what he has purchased
    PINNED = "pinned"  # by the shop, or by his own list
    CATALOG = "catalog"  # there are no more products than places


class Rule(StrEnum):
    """Why a product that was found is no candidate all the same."""

    BOUGHT = "bought"  # within the time in which nobody wants it again
    OUT_OF_STOCK = "out_of_stock"
    HIDDEN = "hidden"
    PRICE_BAND = "price_band"  # of the customer
    REFUSED = "refused"  # he said not interested, not long ago
    EXCLUDED_BRAND = "excluded_brand"  # by the customer
    EXCLUDED_CATEGORY = "excluded_category"  # by the customer
    BANNED = "banned"  # by the shop
    TOO_MANY_OF_BRAND = "too_many_of_brand"
    TOO_MANY_OF_CATEGORY = "too_many_of_category"


CandidateOrder = Literal["shuffled", "retrieval", "windows"]
"""In which the model is shown the candidates: in any; best first; best first by windows, and in any within each."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One product worth ranking for one customer. Scores of different sources are not comparable."""

    product: Product
    score: float
    found_by: FoundBy


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of one customer, best first, and what the rules took out.

    `offered` are the same products in the order in which the model is shown them: so many neighbours of `found` as
    `interchangeable` says may be shown in any order, the first of them, the next, and so on.
    """

    found: tuple[Candidate, ...]
    offered: tuple[Product, ...]
    as_of: datetime
    build_id: int | None = None  # None: found without a build
    removed: tuple[tuple[Rule, ProductId], ...] = ()
    interchangeable: int = 1

    def __len__(self) -> int:
        """How many there are."""
        return len(self.found)


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one customer, in segments ready to be read: title to text, in the order of the prompt.

    A segment with nothing in it is absent. Every text is bounded (see `pipeline.profiles`).
    """

    customer_id: CustomerId
    segments: tuple[tuple[str, str], ...] = ()
    pinned_candidates: tuple[ProductId, ...] = ()

    def as_text(self) -> str:
        """The profile in the form `Title: text`, a segment a line."""
        return "\n".join(f"{title}: {text}" for title, text in self.segments)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One validated place on a slate. `relevance_score` is 0 to 1: an ordering, not a probability."""

    rank: Rank
    product_id: ProductId
    product_name: str
    relevance_score: float


class Provenance(StrEnum):
    """What made a ranking."""

    LANGUAGE_MODEL = "language_model"
    OFFLINE_RANKER = "offline_ranker"  # word overlap, which is no language model's judgement
    RETRIEVAL_ORDER = "retrieval_order"  # no model answered: the order in which the candidates were found


@dataclass(frozen=True, slots=True)
class Origin:
    """What ranked a row that the run's own model did not: another model, or none."""

    provenance: Provenance
    model: str | None = None


@dataclass(frozen=True, slots=True)
class CommittedRecommendation:
    """A recommendation that is durable: its transaction has committed."""

    recommendation: Recommendation
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Rejection:
    """An object of the answer that was refused, with the raw text (bounded)."""

    reason: RejectionReason
    detail: str
    raw: str


Outcome = Recommendation | Rejection


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer as the endpoint reported them; `estimated` if it did not and we counted characters."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    estimated: bool = False


@dataclass(slots=True)
class AnswerRecord:
    """What one attempt leaves for the ledger. The streaming stage fills it while it reads.

    Times are seconds since the request was sent; None for what never came.
    """

    request_id: str | None = None
    status: int | None = None
    model: str | None = None
    usage: Usage = field(default_factory=Usage)
    finish_reason: str | None = None
    first_byte_s: float | None = None
    whole_s: float | None = None
    refused_objects: int = 0
    score_rises: int = 0
    said: str = ""  # how the answer's text begins
    cost: Decimal | None = None  # in the currency of the price list, None without a price
