"""The last runs for people: two lines each, so that ten of them fit on a screen."""

from collections.abc import Iterable, Iterator
from zoneinfo import ZoneInfo

from rich.console import Console

from pipeline.run_list import RunLine


def print_runs(lines: Iterable[RunLine], zone: str, out: Console) -> None:
    """Print the runs, the newest first, with times of this zone. A terminal cuts what does not fit; a file nothing."""
    for text in _texts(lines, ZoneInfo(zone)):
        out.print(text, markup=False, no_wrap=True, overflow=None if out.soft_wrap else "ellipsis")


def _texts(lines: Iterable[RunLine], zone: ZoneInfo) -> Iterator[str]:
    yield f"{'run':<36}  {'planned':<20}  {'kind':<9}  {'state':<9}  customers        cost"
    for line in lines:
        planned = f"{line.created_at.astimezone(zone):%Y-%m-%d %H:%M %Z}"
        customers = "" if line.customers is None else f"{line.customers:,}"
        cost = "" if line.cost is None else f"{line.cost:,.2f}"
        named = f"{line.run_id}  {planned:<20}  {line.kind.replace('_', ' '):<9}  {line.state:<9}"
        yield f"{named}  {customers:>9}  {cost:>10}".rstrip()
        why = _why(line)
        if why:
            yield f"    {why}"


def _why(line: RunLine) -> str:
    pruned = None if line.pruned_at is None else f"its rows were pruned on {line.pruned_at:%Y-%m-%d}"
    skipped = f"{line.unchanged:,} skipped (unchanged)" if line.unchanged else None
    return "; ".join(filter(None, (skipped, line.reason, pruned)))
