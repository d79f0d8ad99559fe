"""`candidates tune`: a recipe that suits this shop better than the one in force, if there surely is one."""

import asyncio
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from flows.cli.options import AsJson, DatabaseUrl, Quiet, settings_from
from flows.cli.output import console, notes, print_json
from pipeline.candidates.recipe import load_recipe
from pipeline.database import open_engine
from pipeline.errors import InputError
from pipeline.evaluating.extra import require_extra
from pipeline.evaluating.report import Interval
from pipeline.evaluating.splits import Span, read_span
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current

if TYPE_CHECKING:
    from tempfile import _TemporaryFileWrapper

    # needs an extra
    from pipeline.evaluating.tuning import Tuned


def tune(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where a better recipe is written.")] = Path(
        "candidates.toml"
    ),
    minutes: Annotated[float, typer.Option(min=0.1, max=720, help="After so long no other recipe is tried.")] = 10,
    trials: Annotated[int, typer.Option(min=2, max=1000, help="So many recipes are tried at most.")] = 40,
    days: Annotated[int, typer.Option(min=1, max=366, help="How long each window of purchases is.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples that give the interval.")] = 1,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Look for a recipe whose candidates hold more purchases.

    It is written to a file if it surely finds more of all purchases. Recipes are chosen on one window of purchases and
    confirmed on the next; the last days, which `eval` uses, are left alone. Each is tried by a build of its own, which
    is dropped. Needs: pip install 'recstream[eval]'

    Example: recstream candidates tune --minutes 30 --output candidates.toml
    """
    settings = settings_from(database_url=database_url)
    require_extra()
    from pipeline.evaluating.measuring_candidates import Way  # noqa: PLC0415 - needs an extra
    from pipeline.evaluating.tuning import Budget, tuned_recipe, windows  # noqa: PLC0415 - needs an extra

    _require_free(output, settings.candidate_recipe)
    recipe, zone = load_recipe(settings.candidate_recipe), ZoneInfo(settings.time_zone)
    way = Way(recipe, settings.rules, settings.candidate_method, settings.candidate_count)
    tell = (lambda _: None) if quiet else partial(notes().print, markup=False)
    with provided_database(settings) as url:
        require_current(url)
        splits = windows(asyncio.run(_span(url)), days=days, zone=zone)
        tuned = tuned_recipe(url, way, splits, zone=zone, budget=Budget(trials, minutes * 60), seed=seed, tell=tell)
    if as_json:
        print_json(tuned)
    else:
        _tell(tuned, console())
    if tuned.is_better:
        _write(output, _document(tuned))  # after what was found is told: where it cannot be written, that is not lost
        if not as_json:
            _tell_where(output, console())
    return 0


async def _span(url: str) -> Span:
    async with open_engine(url, connections=1) as engine:
        return await read_span(engine)


def _require_free(output: Path, in_force: Path | None) -> None:
    """A file of somebody else's is not overwritten, and a place must take one: both are said before the work."""
    if output.exists() and (in_force is None or not in_force.exists() or not output.samefile(in_force)):
        raise InputError(
            f"{output} is there already, and is not the recipe in force: name another with --output, or remove it"
        )
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output.absolute().parent} is no folder: make it, or name another place with --output")
    try:
        with _beside(output):
            pass
    except OSError as error:
        raise InputError(
            f"nothing can be written in {output.absolute().parent} ({error.strerror}): name another place with --output"
        ) from error


def _beside(output: Path, *, delete: bool = True) -> "_TemporaryFileWrapper[str]":
    return NamedTemporaryFile("w", encoding="utf-8", dir=output.absolute().parent, prefix=".candidates-", delete=delete)


def _write(output: Path, text: str) -> None:
    """Whole or not at all: a night may be reading it."""
    with _beside(output, delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(output)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _document(tuned: "Tuned") -> str:
    window = f"{tuned.confirmed_on.begins:%Y-%m-%d} to {tuned.confirmed_on.until:%Y-%m-%d}"
    return (
        f"# Tuned {datetime.now(UTC):%Y-%m-%d} on purchases of {window}, by {tuned.customers:,} customers.\n"
        f"# Of all purchases it finds {_signed(tuned.gain)}, beside the recipe before;\n"
        f"# of those of products new to the customer {_signed(tuned.gain_new)}.\n{tuned.recipe.as_toml()}"
    )


def _tell(tuned: "Tuned", out: Console) -> None:
    for name, (before, found) in tuned.changed.items():
        out.print(f"{name}: {before:g} → {found:g}", markup=False)
    if not tuned.changed:
        out.print(f"none of {tuned.trials:,} recipes was better: the one in force stays", markup=False)
        return
    window = f"{tuned.confirmed_on.begins:%Y-%m-%d} to {tuned.confirmed_on.until:%Y-%m-%d}"
    out.print(
        f"on the later window ({window}, {tuned.customers:,} customers) it finds {_signed(tuned.gain)} of all "
        f"purchases, and {_signed(tuned.gain_new)} of those of products new to the customer",
        markup=False,
    )
    if not tuned.is_better:
        why = "that surely finds less of what is new" if tuned.loses_new else "that may be chance"
        out.print(f"{why}: the recipe in force stays, and nothing was written", markup=False)


def _tell_where(output: Path, out: Console) -> None:
    out.print(f'written to {output}: set candidate_recipe = "{output}" in recstream.toml to use it', markup=False)


def _signed(gain: Interval) -> str:
    if gain.mean is None or gain.low is None or gain.high is None:
        return "nothing"
    return f"{100 * gain.mean:+.2f} points (95% between {100 * gain.low:+.2f} and {100 * gain.high:+.2f})"
