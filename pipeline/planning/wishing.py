"""What a night is planned with: everything that the settings say of it, without opening anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.budgets import Caps
from pipeline.candidates.opening import CandidateWishes
from pipeline.domain import OFFLINE_MODEL, CustomerId, Provenance
from pipeline.limits.sharing import account_of
from pipeline.planning.experience import Asked
from pipeline.pricing.price_list import PriceList, load_prices
from pipeline.provisioning import endpoint_for_this_process
from pipeline.segments import ShopHabits
from pipeline.services import candidates_of, caps_of
from pipeline.settings import Settings
from pipeline.unchanged import Recipe
from pipeline.variants import Variant, load_variants, variant_of


@dataclass(frozen=True, slots=True)
class Wish:
    """A night as the settings want it. `most` bounds its customers.

    `endpoint` and `account` are as the table of limits has them. `tokens_per_second` is the pace of one answer where it
    is known beforehand, as the offline ranker's is.
    """

    own: Recipe
    endpoint: str
    account: str
    variants: Sequence[Variant]
    candidates: CandidateWishes
    habits: ShopHabits
    concurrency: int
    unchanged_max_age_days: int
    most: int | None
    prices: PriceList
    tier: str | None
    caps: Caps
    tokens_per_second: float | None

    def asked_of(self, customer_id: CustomerId) -> Asked:
        """Which model this customer's slate is asked of, and with which prompt."""
        return self._asked(variant_of(customer_id, self.variants))

    def all_asked(self) -> list[Asked]:
        """Whatever a customer's slate may be asked of: the run's own model and prompt first, each but once."""
        return list(dict.fromkeys(self._asked(variant) for variant in self.variants))

    def _asked(self, variant: Variant) -> Asked:
        return Asked(variant.model or self.own.model, variant.templates.version)


def wish_of(settings: Settings, *, most: int | None = None, refresh: bool = False) -> Wish:
    """The night that `recstream run` would make with these settings.

    Raises:
        ConfigurationError: no model is named, or the prompt or the price list cannot be used.
    """
    asked = _asked(settings)
    variants = load_variants(settings.prompt, settings.variants)
    prices = load_prices(settings.price_list)
    return Wish(
        own=Recipe(
            model=asked.model,
            provenance=asked.provenance,
            prompt_version=variants[0].templates.version,
            temperature=settings.temperature,
            slate_size=settings.slate_size,
        ),
        endpoint=asked.endpoint,
        account=asked.account,
        variants=variants,
        candidates=candidates_of(settings),
        habits=ShopHabits(settings.time_zone, settings.currency),
        concurrency=settings.concurrency,
        unchanged_max_age_days=0 if refresh else settings.unchanged_max_age_days,
        most=most,
        prices=prices,
        tier=settings.service_tier,
        caps=caps_of(settings, prices.currency),
        tokens_per_second=(settings.offline_tokens_per_second or None) if settings.offline else None,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    model: str
    provenance: Provenance
    endpoint: str = ""
    account: str = ""


def _asked(settings: Settings) -> _Asked:
    """Who would be asked. Nothing is started: an offline ranker has no address before it is."""
    if settings.offline:
        if settings.model is None:
            return _Asked(OFFLINE_MODEL, Provenance.OFFLINE_RANKER)
        return _Asked(settings.model, Provenance.LANGUAGE_MODEL)  # what it would cost, before there is a key
    endpoint = endpoint_for_this_process(settings)
    return _Asked(endpoint.model, endpoint.provenance, endpoint.address, account_of(endpoint.api_key))
