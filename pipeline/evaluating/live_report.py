"""What the judgement of published slates has come to: plain figures, whose names stay as they are for programs."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.domain import RunId
from pipeline.evaluating.live_figures import LiveHits, VariantHits
from pipeline.evaluating.report import Interval


@dataclass(frozen=True, slots=True)
class LiveNight:
    """A run whose slates are judged: when readers came to see it, and who ranked it."""

    run_id: RunId
    published_at: datetime
    model: str
    provenance: str


@dataclass(frozen=True, slots=True)
class RankResponses:
    """What became of the products that were shown at one rank. Intervals are Wilson's, at 95%."""

    rank: int
    shown: int
    clicked: int
    bought: int
    refused: int
    click_rate: Interval


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What the published slates came to after `since` and up to `until`.

    `customers` had a slate, `buyers` of them bought anything while they saw one: `bought` products. `hits` and
    `variants` are empty where there is nothing to judge: `notes` say why, and what cannot be concluded from the rest.
    """

    since: datetime
    until: datetime
    days: int
    popularity_days: int
    seed: int
    nights: tuple[LiveNight, ...]
    customers: int
    buyers: int
    bought: int
    hits: tuple[LiveHits, ...]
    variants: tuple[VariantHits, ...]
    responses: tuple[RankResponses, ...]
    notes: tuple[str, ...]
