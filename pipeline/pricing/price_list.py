"""What a model's tokens cost: a price list in TOML that a person can edit, dated, read once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

from pipeline.domain import OFFLINE_MODEL, Usage
from pipeline.errors import ConfigurationError
from pipeline.pricing.model_names import without_its_date
from pipeline.pricing.price_file import ModelEntry, PriceFile, read_price_file

__all__ = ["PRICE_FILE", "Price", "PriceList", "load_prices", "require_price"]

PRICE_FILE: Final = "prices.toml"
OLD_AFTER_DAYS: Final = 90
_MILLION: Final = Decimal(1_000_000)
_STANDARD: Final = frozenset({None, "auto", "default", "standard"})


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost in the list's currency."""

    input: Decimal
    cached_input: Decimal
    output: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """What this usage costs, exactly: nothing is rounded. Cached tokens are a part of `tokens_in`."""
        cached = min(usage.tokens_cached, usage.tokens_in)
        of_input = (usage.tokens_in - cached) * self.input + cached * self.cached_input
        return (of_input + usage.tokens_out * self.output) / _MILLION

    def most(self, tokens_in: int, tokens_out: int) -> Decimal:
        """The most that a request of at most so many tokens can cost: none of them need be cached."""
        return (tokens_in * max(self.input, self.cached_input) + tokens_out * self.output) / _MILLION

    def dearer(self, other: "Price") -> "Price":
        """The higher of both in each part: what a request costs at most that may be billed either way."""
        return Price(
            max(self.input, other.input), max(self.cached_input, other.cached_input), max(self.output, other.output)
        )


FREE: Final = Price(Decimal(0), Decimal(0), Decimal(0))


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of some models at one day. `source` is where the list was read."""

    currency: str
    as_of: date
    source: str
    prices: Mapping[str, Mapping[str | None, Price]]

    def price_of(self, model: str, tier: str | None = None) -> Price | None:
        """The price of this model in this service tier; None where the list does not say it.

        A model is found by its exact name, or by its name without the date of a snapshot: `gpt-4o-mini-2024-07-18` is
        a `gpt-4o-mini`, but `gpt-4o-mini` is no `gpt-4o`.
        """
        tiers = self.prices.get(model) or self.prices.get(without_its_date(model))
        if tiers is None:
            return FREE if model == OFFLINE_MODEL else None
        return tiers.get(None if tier in _STANDARD else tier)

    def highest_price_of(self, model: str, tier: str | None = None) -> Price | None:
        """What a request costs at most that asks for this tier: an endpoint may serve it in the standard one."""
        price, standard = self.price_of(model, tier), self.price_of(model)
        return None if price is None or standard is None else price.dearer(standard)

    def age_days(self, today: date) -> int:
        """How old the list is."""
        return (today - self.as_of).days

    def remark(self, today: date) -> str | None:
        """What has to be said beside every cost that an old list gave; None for a list that is not old."""
        age = self.age_days(today)
        if age <= OLD_AFTER_DAYS:
            return None
        return f"the prices are {age} days old ({self.source}, as of {self.as_of}): compare them with the provider's"


def load_prices(path: Path | None) -> PriceList:
    """The price list at `path`; without one, `prices.toml` of the working directory, else the packaged list.

    Raises:
        ConfigurationError: the file cannot be read or has a mistake: a line with the file, the key and what is allowed.
    """
    if path is None and Path(PRICE_FILE).exists():
        path = Path(PRICE_FILE)
    source = "the packaged list" if path is None else str(path)
    return _price_list(source, read_price_file(path))


def require_price(prices: PriceList, model: str, tier: str | None, wanted_by: str) -> Price:
    """The price of this model in this tier. `wanted_by` is what cannot be done without: a setting, a command.

    Raises:
        ConfigurationError: the list does not say it; the message has the lines to write.
    """
    price = prices.price_of(model, tier)
    if price is not None:
        return price
    named = f'[models."{model}"]'
    if tier not in _STANDARD and prices.price_of(model) is not None:
        named = f'[models."{model}".tiers.{tier}]'
    raise ConfigurationError(
        f"{wanted_by} needs the price of {model!r}{'' if tier in _STANDARD else f' in the tier {tier!r}'}, which "
        f"{prices.source} does not say: write to {PRICE_FILE} {named} with input = …, cached_input = …, output = … "
        f"({prices.currency} for a million tokens)"
    )


def _price_list(source: str, file: PriceFile) -> PriceList:
    return PriceList(file.currency, file.as_of, source, {name: _tiers(entry) for name, entry in file.models.items()})


def _tiers(entry: ModelEntry) -> dict[str | None, Price]:
    return {None: _price(entry.input, entry.cached_input, entry.output)} | {
        name: _price(tier.input, tier.cached_input, tier.output) for name, tier in entry.tiers.items()
    }


def _price(of_input: Decimal, cached_input: Decimal | None, output: Decimal) -> Price:
    return Price(of_input, of_input if cached_input is None else cached_input, output)
