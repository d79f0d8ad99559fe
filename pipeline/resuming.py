"""Says whether a run can be gone on with: one run has one model, one temperature and one prompt version."""

from pipeline.errors import RunConflictError
from pipeline.prompts import prompt_version
from pipeline.runs import Ranker, Run


def require_resumable(run: Run, ranker: Ranker) -> None:
    """Refuse a run that cannot be gone on with: one run has one model, prompt version and temperature.

    Raises:
        RunConflictError: it was made otherwise, its rows were pruned, or another process works on it.
    """
    require_rows(run)
    if run.state.goes_on:
        raise RunConflictError(f"run {run.run_id} is going on in another process: wait for it, or stop it first")
    if (run.model, run.provenance) != (ranker.model, ranker.provenance):
        raise RunConflictError(
            f"run {run.run_id} was made with {run.model}, but {ranker.model} is set: "
            f"set RECSTREAM_MODEL={run.model} to resume it, or start a new one with `recstream run`"
        )
    if run.temperature != ranker.temperature:
        raise RunConflictError(
            f"run {run.run_id} was made at temperature {run.temperature:g}, but {ranker.temperature:g} is set: "
            f"set RECSTREAM_TEMPERATURE={run.temperature:g} to resume it, or start a new one with `recstream run`"
        )
    if run.prompt_version != prompt_version():
        raise RunConflictError(
            f"run {run.run_id} was made with prompt version {run.prompt_version} of recstream {run.code_version}, "
            f"which is not this one's ({prompt_version()}): resume it with that recstream, or start a new one with "
            "`recstream run`"
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
