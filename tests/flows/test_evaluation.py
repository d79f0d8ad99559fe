"""The evaluation flow on a real Prefect server: its figures in its message, and no build left behind."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.parameters import EvaluationParameters
from pipeline.errors import InputError
from tests.fixtures.prefect_runs import LEAVES_SOCKETS
from tests.fixtures.shop import add_customer, add_event, add_product, scalar

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

pytestmark = [pytest.mark.usefixtures("_settings_of_the_flows"), LEAVES_SOCKETS]

LAST = datetime(2024, 5, 31, 12, tzinfo=UTC)


async def run_evaluation(**parameters: Any) -> "State[Any]":
    from flows.evaluation import evaluation

    state: State[Any] = await evaluation(EvaluationParameters(**parameters), return_state=True)
    return state


async def add_shop(engine: AsyncEngine) -> None:
    await add_product(engine, "a")
    await add_customer(engine, "ann")
    for days_ago in (0, 40):
        await add_event(engine, "ann", "purchase", product_id="a", at=LAST - timedelta(days=days_ago))


async def test_the_flow_says_what_came_out_and_drops_what_it_built(engine: AsyncEngine) -> None:
    await add_shop(engine)

    state = await run_evaluation(days=30, candidates_only=True)

    assert state.is_completed()
    assert state.message is not None
    assert state.message.startswith("our candidates, in order: found@")
    assert "beside popular, 14 days: too few: 1" in state.message
    assert await scalar(engine, "SELECT count(*) FROM candidate_builds WHERE state IN ('ready', 'building')") == 0


async def test_a_split_that_leaks_fails_the_flow_run(engine: AsyncEngine) -> None:
    await add_shop(engine)
    state = await run_evaluation(as_of="2024-05-30", days=30)
    with pytest.raises(InputError, match="end after the last purchase"):
        await state.aresult()


def test_an_unknown_parameter_and_a_third_run_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        EvaluationParameters.model_validate({"day": 3})
    with pytest.raises(ValidationError, match="at most 2"):
        EvaluationParameters(runs=("a", "b", "c"))
