"""What a night has come to, as a page of Markdown for the people who look after it: figures, and what to do next."""

import re
from collections.abc import Iterator, Sequence
from datetime import date

from pipeline.run_details import RunDetails
from pipeline.runs import RunSummary
from pipeline.shard_ledger import Shard

_MOST_SHARDS = 200  # lines; a page of thousands of rows is read by nobody
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-!|~$])")
_ADDRESS = re.compile(r":(?=//)|@|(?<=www)\.", re.IGNORECASE)
# They would write over what stands before them, or turn the order of what comes after them around.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_BUDGET = "not attempted: budget"


def night_report(summary: RunSummary, details: RunDetails, shards: Sequence[Shard], day: date) -> str:
    """The page. What shops and providers have written stands in it as text: no markup of theirs, no link, no image."""
    parts = [
        f"# {_title(summary, day)}",
        *([plain(summary.reason)] if summary.reason else []),
        "## What to do next",
        *(f"- {line}" for line in next_steps(summary, details)),
        "## Figures",
        _table(("Figure", "Value"), _figures(summary)),
        *_section("Refused objects", ("Reason", "Objects"), _refusals(details)),
        *_section("Customers without a slate", ("State", "Reason", "Customers"), _left(details)),
        *_section("Slowest customers", ("Customer", "Whole slate", "First row", "Attempts"), _slowest(details)),
        *_section(_shards_title(shards), _SHARD_COLUMNS, _shards(shards, details)),
    ]
    return "\n".join(_spaced(parts)) + "\n"


def next_steps(summary: RunSummary, details: RunDetails) -> list[str]:
    """What a person could do now, in words; one line at least."""
    run_id = summary.run_id
    steps = []
    if any((left.reason or "").startswith(_BUDGET) for left in details.left):
        steps.append("The budget is spent: raise `budget_per_run`, `budget_per_day` or their token caps, then resume.")
    if summary.left:
        steps.append(f"{_customers(summary.left)} without a complete slate: `recstream resume {run_id}` serves them.")
    if summary.kept_back and summary.complete:
        steps.append(
            f"Readers do not see this night: `recstream publish {run_id} --force` shows it all the same; "
            "else they keep what they had."
        )
    if summary.withdrawn_at is not None:
        steps.append(f"It was rolled back: `recstream publish {run_id}` brings it back.")
    return steps or ["Nothing: every customer has a slate, and readers see them."]


def plain(text: str) -> str:
    """Somebody else's words in one line of Markdown that shows them as they are."""
    line = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    escaped = _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return _ADDRESS.sub(lambda match: f"\\{match[0]}", escaped)  # Prefect's page makes links of bare addresses


def code(text: str) -> str:
    """An id as code; one that code cannot hold as plain text."""
    whole = text.isprintable() and text == text.strip() and text and not set(text) & set("`|\\")
    return f"`{text}`" if whole else plain(text)


def _title(summary: RunSummary, day: date) -> str:
    kind = summary.kind.replace("_", "-")
    return f"{kind} {day}: {summary.state}, {summary.complete:,} of {summary.customers:,} customers"


def _figures(summary: RunSummary) -> Iterator[tuple[str, ...]]:
    yield "Run", code(str(summary.run_id))
    yield "Model", f"{code(summary.model)} ({plain(summary.provenance.replace('_', ' '))})"
    yield "Customers", _customers_line(summary)
    yield (
        "Rows",
        f"{summary.rows:,}" + (f", {summary.rows_of_others:,} of another model" * bool(summary.rows_of_others)),
    )
    yield "Refused objects", f"{summary.refused_objects:,}"
    yield "Tokens", f"{summary.tokens_in:,} in ({summary.tokens_cached:,} cached), {summary.tokens_out:,} out"
    yield (
        "Cost",
        "no price known" if summary.cost is None else f"{summary.cost:,.2f} {plain(summary.currency or '')}".strip(),
    )
    yield "First row", f"p50 {_seconds(summary.first_row_p50_s)}, p95 {_seconds(summary.first_row_p95_s)}"
    yield "Duration", _seconds(summary.duration_s)
    yield "Readers see", _seen(summary)
    if summary.died:
        yield "Attempts that died", f"{summary.died:,}"


def _customers_line(summary: RunSummary) -> str:
    parts = {
        "complete": summary.complete,
        "unchanged": summary.unchanged,
        "short": summary.short,
        "failed": summary.failed,
        "not served": summary.unfinished,
        "filled up in retrieval order": summary.filled_up,
    }
    told = ", ".join(f"{number:,} {name}" for name, number in parts.items() if number)
    return f"{summary.customers:,}" + (f" ({told})" if told else "")


def _seen(summary: RunSummary) -> str:
    if summary.published_at is None:
        return "nothing of it"
    if summary.withdrawn_at is not None:
        return f"nothing of it since {summary.withdrawn_at:%Y-%m-%d %H:%M %Z}"
    return f"{summary.published:,} slates since {summary.published_at:%Y-%m-%d %H:%M %Z}"


def _refusals(details: RunDetails) -> Iterator[tuple[str, ...]]:
    for reason, objects in details.refusals.items():
        yield plain(reason), f"{objects:,}"


def _left(details: RunDetails) -> Iterator[tuple[str, ...]]:
    for left in details.left:
        yield str(left.state), plain(left.reason or "not come to"), f"{left.customers:,}"


def _slowest(details: RunDetails) -> Iterator[tuple[str, ...]]:
    for slate in details.slowest:
        yield code(slate.customer_id), _seconds(slate.whole_s), _seconds(slate.first_row_s), f"{slate.attempts}"


_SHARD_COLUMNS = ("Shard", "Customers", "Served", "State", "Attempts", "Machine", "Took", "Reason")


def _shards_title(shards: Sequence[Shard]) -> str:
    return f"Shards (the first {_MOST_SHARDS} of {len(shards):,})" if len(shards) > _MOST_SHARDS else "Shards"


def _shards(shards: Sequence[Shard], details: RunDetails) -> Iterator[tuple[str, ...]]:
    for shard in shards[:_MOST_SHARDS]:
        first = shard.customers_before + 1
        yield (
            f"{shard.shard + 1:,} of {len(shards):,}",
            f"{first:,}-{first + shard.customers - 1:,}" if shard.customers != 1 else f"{first:,}",
            f"{details.served.get(shard.shard, 0):,}",
            shard.state.replace("_", " "),
            f"{shard.attempt}",
            plain(shard.machine or ""),
            _seconds(shard.taken_s),
            plain(shard.reason or ""),
        )


def _section(title: str, columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> list[str]:
    """A heading and a table; nothing where there is no row."""
    found = list(rows)
    return [f"## {title}", _table(columns, iter(found))] if found else []


def _table(columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spaced(parts: Sequence[str]) -> Iterator[str]:
    """An empty line between two parts, but for the lines of one list."""
    for before, part in zip(["", *parts], parts, strict=False):
        if before and not (before.startswith("- ") and part.startswith("- ")):
            yield ""
        yield part


def _customers(number: int) -> str:
    return "1 customer is" if number == 1 else f"{number:,} customers are"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "\N{EN DASH}"
    return f"{seconds:.2f} s" if seconds < 120 else f"{seconds / 60:,.1f} min"
