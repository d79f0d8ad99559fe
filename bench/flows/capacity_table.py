"""The arithmetic of the capacity table: from what a customer takes to hours, dollars, machines and gigabytes."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import ceil
from typing import Final

CORES: Final = 4
MODEL: Final = "gpt-4.1-mini"
CACHED_SHARE: Final = 0.0
NIGHTS_KEPT: Final = 7
STREAMS_PER_CORE: Final = 800
"""Of 50 tokens a second: `make bench-stream`."""
WINDOW_H: Final = 4.0
"""How long a night may last, at most, where the provider allows it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one customer takes, of ten recommendations out of a hundred candidates; connections of a whole process."""

    tokens_in: int
    tokens_out: int
    bytes_per_customer: int
    cpu_ms_per_customer: float
    connections: int


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop's customers, what its provider allows in tokens a minute, and how long one answer takes, in seconds."""

    customers: int
    tokens_per_minute: int
    answer_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Needs:
    """What a night comes to. `streams` are open at a time, `gigabytes` are those of all nights that are kept."""

    hours: float
    dollars: float
    streams: int
    machines: int
    gigabytes: float


SHOPS: Final[Sequence[Shop]] = (
    Shop(10_000, 2_000_000),
    Shop(100_000, 2_000_000),
    Shop(100_000, 10_000_000),
    Shop(1_000_000, 10_000_000),
    Shop(1_000_000, 30_000_000),
    Shop(1_000_000, 150_000_000),
)


def needs_of(shop: Shop, measured: Measured) -> Needs:
    """What a night over this shop needs.

    hours     = customers * (tokens in + out) / tokens a minute / 60
    streams   = customers / seconds of the night * seconds of an answer
    machines  = the larger of streams / (800 * cores), and CPU time / (cores * seconds of the night)
    """
    seconds = 60 * shop.customers * (measured.tokens_in + measured.tokens_out) / shop.tokens_per_minute
    streams = ceil(shop.customers * shop.answer_s / seconds)
    busy_cores = shop.customers * measured.cpu_ms_per_customer / 1000 / seconds
    return Needs(
        hours=seconds / 3600,
        dollars=shop.customers * _dollars(measured),
        streams=streams,
        machines=max(1, ceil(max(streams / STREAMS_PER_CORE, busy_cores) / CORES)),
        gigabytes=shop.customers * measured.bytes_per_customer * NIGHTS_KEPT / 1e9,
    )


def lines(measured: Measured) -> Iterator[str]:
    """The table as Markdown."""
    yield "| customers | tokens a minute | hours | dollars | streams at a time | machines | gigabytes |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for shop in SHOPS:
        needs = needs_of(shop, measured)
        yield (
            f"| {shop.customers:,} | {shop.tokens_per_minute:,} | {_short(needs.hours)} | {needs.dollars:,.0f} "
            f"| {needs.streams:,} | {needs.machines} | {_short(needs.gigabytes)} |"
        )


def _dollars(measured: Measured) -> float:
    """Of one customer, without what the provider has cached."""
    listed = tomllib.loads(files("pipeline.pricing").joinpath("prices.toml").read_text(encoding="utf-8"))
    prices = listed["models"][MODEL]
    return float(measured.tokens_in * prices["input"] + measured.tokens_out * prices["output"]) / 1e6


def _short(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2g}"
