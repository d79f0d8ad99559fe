"""What the offline ranker's tokens cost here, so that there is something to plan and to cap: any prices would do."""

from decimal import Decimal
from pathlib import Path

from pipeline.domain import Usage
from pipeline.pricing.price_list import Price

PRICE = Price(input=Decimal("0.25"), cached_input=Decimal("0.025"), output=Decimal("2.00"))


def write_price_list(folder: Path) -> Path:
    """A price list with the ranker in it."""
    path = folder / "prices.toml"
    path.write_text(
        'currency = "USD"\nas_of = 2026-01-01\n\n[models."offline-ranker"]\n'
        f"input = {PRICE.input}\ncached_input = {PRICE.cached_input}\noutput = {PRICE.output}\n",
        encoding="utf-8",
    )
    return path


def cost(tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> Decimal:
    """What so many tokens cost."""
    return PRICE.cost(Usage(tokens_in=tokens_in, tokens_out=tokens_out, tokens_cached=tokens_cached))
