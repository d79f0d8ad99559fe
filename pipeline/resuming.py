"""Says whether a run can be gone on with: one run has one model, temperature and prompt, and the same variants."""

from collections.abc import Iterator, Sequence

from pipeline.errors import RunConflictError
from pipeline.runs import Ranker, Run
from pipeline.variants import Definition

_ANEW = "or start a new one with `recstream run`"


def require_resumable(run: Run, ranker: Ranker) -> None:
    """Refuse a run that cannot be gone on with: nobody may work on it, and its rows must be there.

    Raises:
        RunConflictError: it was made otherwise, its rows were pruned, or another process works on it.
    """
    require_rows(run)
    if run.state.goes_on:
        raise RunConflictError(f"run {run.run_id} is going on in another process: wait for it, or stop it first")
    require_same_ranker(run, ranker)


def require_same_ranker(run: Run, ranker: Ranker) -> None:
    """Refuse a run that was made otherwise than it would be now: one run is ranked in one way.

    Raises:
        RunConflictError: by another model, at another temperature, with another prompt or other variants.
    """
    if (run.model, run.provenance) != (ranker.model, ranker.provenance):
        raise RunConflictError(
            f"run {run.run_id} was made with {run.model}, but {ranker.model} is set: "
            f"set RECSTREAM_MODEL={run.model} to resume it, {_ANEW}"
        )
    if run.temperature != ranker.temperature:
        raise RunConflictError(
            f"run {run.run_id} was made at temperature {run.temperature:g}, but {ranker.temperature:g} is set: "
            f"set RECSTREAM_TEMPERATURE={run.temperature:g} to resume it, {_ANEW}"
        )
    require_same_prompts(run, ranker)


def require_same_prompts(run: Run, ranker: Ranker) -> None:
    """Refuse a run whose templates or variants are not those that this process has read: its files may be others.

    Raises:
        RunConflictError: the run was planned with another prompt or other variants.
    """
    if run.prompt_version != ranker.prompt_version:
        raise RunConflictError(
            f"run {run.run_id} was made with prompt version {run.prompt_version} of recstream {run.code_version}, "
            f"which is not this one's ({ranker.prompt_version}): "
            f"resume it with that recstream and that `prompt` folder, {_ANEW}"
        )
    different = next(_differences(run, ranker), None)
    if different is not None:
        raise RunConflictError(
            f"run {run.run_id} was made with other variants: {different}; "
            f"set [[variants]] as they were to resume it, {_ANEW}"
        )


def require_rows(run: Run) -> None:
    """Refuse a run whose rows are there no more.

    Raises:
        RunConflictError: they were pruned.
    """
    if run.pruned_at is not None:
        raise RunConflictError(
            f"the rows of run {run.run_id} were pruned on {run.pruned_at:%Y-%m-%d}: start another with `recstream run`"
        )


def _differences(run: Run, ranker: Ranker) -> Iterator[str]:
    before, now = _by_name(run.variants), _by_name(ranker.variants)
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            yield f"{name!r} is not set now"
        elif name not in before:
            yield f"{name!r} was not among them"
        else:
            yield from (
                f"{key} of {name!r} was {_shown(before[name].get(key))}, now it is {_shown(value)}"
                for key, value in now[name].items()
                if before[name].get(key) != value
            )


def _by_name(variants: Sequence[Definition]) -> dict[str, Definition]:
    return {str(definition["name"]): definition for definition in variants}


def _shown(value: str | float | None) -> str:
    return "the run's own" if value is None else str(value)
