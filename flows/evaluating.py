"""What an evaluation is to measure, and how the settings have it measured: for the command and the flow alike."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

from flows.moments import read_moment
from flows.parameters import EvaluationParameters
from pipeline.candidates.recipe import load_recipe
from pipeline.comparing import read_name
from pipeline.evaluating.extra import require_extra
from pipeline.evaluating.report import Evaluation
from pipeline.settings import Settings


def evaluated(settings: Settings, url: str, wanted: EvaluationParameters, tell: Callable[[str], None]) -> Evaluation:
    """Measure what is wanted; says on the way what it is doing.

    Raises:
        ConfigurationError: the extra is not installed, or the recipe of the candidates cannot be used.
        InputError: the split, or a run, knows what is to be foretold.
        DatabaseError: the build failed, a statement was refused, or the connection was lost.
    """
    require_extra()
    from pipeline.evaluating.measuring_candidates import Way, evaluate_candidates  # noqa: PLC0415 - libraries of an extra
    from pipeline.evaluating.measuring_runs import evaluate_runs  # noqa: PLC0415 - libraries of an extra

    zone = ZoneInfo(settings.time_zone)
    begins = None if wanted.as_of is None else read_moment(wanted.as_of, zone, "--as-of")
    if wanted.runs:
        names = [read_name(run) for run in wanted.runs]
        places = settings.candidate_count
        return evaluate_runs(url, names, begins=begins, days=wanted.days, zone=zone, places=places, seed=wanted.seed)
    recipe = load_recipe(settings.candidate_recipe)
    way = Way(recipe, settings.rules, settings.candidate_method, settings.candidate_count)
    return evaluate_candidates(
        url,
        way,
        begins=begins,
        days=wanted.days,
        zone=zone,
        seed=wanted.seed,
        slates=not wanted.candidates_only,
        tell=tell,
    )
