"""What Prefect's runs are called, and the tags that they are found by: the day is the shop's, not the server's."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from pipeline.domain import RunKind
from pipeline.errors import ConfigurationError
from pipeline.runs import Run
from pipeline.settings import load_settings
from pipeline.shard_ledger import Shard

TAG = "recstream"
OUR_FLOWS = ("nightly", "shard", "on-demand", "candidates", "evaluation", "housekeeping")


def day_of(run: Run, zone: str) -> date:
    """The day of the run in the shop's time zone; that in the ledger is of UTC, for it names partitions."""
    return run.day if run.created_at is None else run.created_at.astimezone(ZoneInfo(zone)).date()


def night_run_name(run: Run, zone: str) -> str:
    """The parent of a night: `nightly 2026-11-23`."""
    return f"{run.kind} {day_of(run, zone)}"


def coming_night_run_name() -> str:
    """As `night_run_name`, while there is no run yet: by the day that it is in the shop.

    Settings that cannot be read are for the flow itself to tell.
    """
    try:
        zone = load_settings().time_zone
    except ConfigurationError:
        return str(RunKind.NIGHTLY)
    return f"{RunKind.NIGHTLY} {datetime.now(UTC).astimezone(ZoneInfo(zone)).date()}"


def shard_run_name(run: Run, shard: Shard, shards: int, zone: str, attempt: int = 1) -> str:
    """One shard of so many: `nightly 2026-11-23 · 3 of 12 · customers 40,001-60,000`.

    Customers are counted as the night has them in order; `attempt` is named from the second on. The hyphen is one
    because Prefect's timeline leaves out a dash, and the two numbers would be read as one.
    """
    first, last = shard.customers_before + 1, shard.customers_before + shard.customers
    customers = f"customers {first:,}-{last:,}" if last > first else f"customer {first:,}"
    named = [night_run_name(run, zone), f"{shard.shard + 1:,} of {shards:,}", customers]
    if attempt > 1:
        named.append(f"attempt {attempt}")
    return " · ".join(named)


def on_demand_run_name(customers: Sequence[str]) -> str:
    """One customer by his id, more of them by their number."""
    return f"on-demand {customers[0]}" if len(customers) == 1 else f"on-demand {len(customers):,} customers"


def run_tags(run: Run, zone: str) -> list[str]:
    """The project, the kind of run, its id in the ledger and the shop's day."""
    return [TAG, str(run.kind), str(run.run_id), str(day_of(run, zone))]
