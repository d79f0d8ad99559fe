"""How things look on a terminal, and how they are printed for programs."""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.reading import ReadSlate, SlateRow
from pipeline.runs import RunSummary

OFFLINE_REMARK = "Ranked by the offline ranker: word overlap, no language model's judgement."


class _Output(Console):
    """Goes on where nobody reads any more (`recstream … | head -1`): a night does not end for want of readers."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console() -> Console:
    """Stdout, for what was asked for."""
    return _output(stderr=False)


def notes() -> Console:
    """Stderr, for what happens on the way."""
    return _output(stderr=True)


def _output(*, stderr: bool) -> Console:
    found = _Output(stderr=stderr, highlight=False)
    found.soft_wrap = not found.is_terminal  # a file gets whole lines, a person whole words
    return found


def print_prose(out: Console, text: str) -> None:
    """A sentence or more beside tables: as wide as they are, and broken between words, on a terminal or not."""
    out.print(text, markup=False, soft_wrap=False)


def print_json(document: Any) -> None:
    """One JSON document on stdout; dataclasses, moments and ids included."""
    json.dump(document, sys.stdout, default=_plain, ensure_ascii=False, allow_nan=False, indent=2)
    sys.stdout.write("\n")


def slate_document(slate: ReadSlate) -> dict[str, Any]:
    """A slate for programs."""
    return {
        "customer_id": slate.customer_id,
        "run_id": slate.run_id,
        "provenance": slate.provenance,
        "state": slate.state,
        "published_at": slate.published_at,
        "recommendations": [asdict(row) for row in slate.rows],
    }


def slate_table(slate: ReadSlate) -> Table:
    """A slate for people."""
    table = Table(title=f"Customer {slate.customer_id}", title_justify="left")
    for heading, justify in (("rank", "right"), ("product", "left"), ("id", "left"), ("score", "right")):
        table.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    for row in slate.rows:
        table.add_row(str(row.rank), Text(row.product_name), Text(row.product_id), f"{row.relevance_score:.2f}")
    return table


def summary_table(summary: RunSummary) -> Table:
    """What a run has come to, for people."""
    table = Table(title=f"Run {summary.run_id}", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="left", overflow="fold")
    for name, value in _summary_lines(summary):
        table.add_row(name, Text(value))
    return table


def row_line(row: SlateRow, after_s: float | None = None) -> str:
    """One committed row on one line."""
    moment = "" if after_s is None else f"{after_s:6.2f} s  "
    return f"  {moment}{row.rank:>3}  {row.product_name}  {row.relevance_score:.2f}"


def _summary_lines(summary: RunSummary) -> Iterable[tuple[str, str]]:
    yield "state", summary.state if summary.reason is None else f"{summary.state}: {summary.reason}"
    yield "ranked by", _ranked_by(summary)
    yield "customers", f"{summary.complete:,} of {summary.customers:,} complete{_others(summary)}"
    yield "rows", f"{summary.rows:,} committed{_by_others(summary)}{_pruned(summary)}"
    yield "readers see", _seen(summary)
    yield "refused objects", f"{summary.refused_objects:,}"
    if summary.died:
        yield "died", f"{summary.died:,} attempt{'' if summary.died == 1 else 's'} ended with the process"
    yield "tokens", f"{summary.tokens_in:,} in{_cached(summary)}, {summary.tokens_out:,} out"
    yield "cost", money(summary.cost, summary.currency) if summary.tokens_in else "nothing was asked"
    yield "first row", f"p50 {_seconds(summary.first_row_p50_s)}, p95 {_seconds(summary.first_row_p95_s)}"
    yield "start to end", _seconds(summary.duration_s)


def _by_others(summary: RunSummary) -> str:
    return f", {summary.rows_of_others:,} of them by another model" if summary.rows_of_others else ""


def _ranked_by(summary: RunSummary) -> str:
    if summary.provenance == "offline_ranker":
        return "the offline ranker: word overlap, no language model's judgement"
    return f"{summary.model} at {summary.endpoint}"


def _pruned(summary: RunSummary) -> str:
    if summary.pruned_at is None:
        return ""
    return f", all that readers still saw when the run was pruned on {summary.pruned_at:%Y-%m-%d}"


def _seen(summary: RunSummary) -> str:
    if summary.withdrawn_at is not None:
        return f"none of it, since it was rolled back {summary.withdrawn_at:%Y-%m-%d %H:%M} UTC"
    if summary.published_at is None:
        return "none of it: it is not published"
    slates = "1 slate" if summary.published == 1 else f"{summary.published:,} slates"
    if summary.unchanged:
        slates = f"{slates} of it and {summary.unchanged:,} kept"
    return f"{slates}, published {summary.published_at:%Y-%m-%d %H:%M} UTC"


def _others(summary: RunSummary) -> str:
    others = {"short": summary.short, "failed": summary.failed, "unfinished": summary.unfinished}
    others["skipped (unchanged)"] = summary.unchanged
    others["of them filled up in retrieval order"] = summary.filled_up
    return "".join(f", {number:,} {name}" for name, number in others.items() if number)


def money(cost: Decimal | None, currency: str | None = None) -> str:
    """A cost for people, in this currency: small amounts with the places that say something."""
    if cost is None:
        return "unknown: no price was known"
    amount = f"{cost:,.2f}" if cost >= 1 or not cost else f"{cost:.6f}"
    return f"{amount} {currency or ''}".rstrip()


def _cached(summary: RunSummary) -> str:
    return f" ({summary.tokens_cached:,} of them cached)" if summary.tokens_cached else ""


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f} s"


def _plain(value: object) -> Any:
    if isinstance(value, date):  # a moment is one too
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (UUID, Path)):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")
