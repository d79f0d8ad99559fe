"""The candidates flow on a real Prefect server: what goes into service, what it says, and what stays when it fails."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.parameters import CandidatesParameters
from pipeline.errors import ConfigurationError, InputError
from tests.fixtures.prefect_runs import LEAVES_SOCKETS
from tests.fixtures.shop import add_customer, add_event, add_product, read, scalar

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.schemas.objects import State

pytestmark = [pytest.mark.usefixtures("_settings_of_the_flows"), LEAVES_SOCKETS]

THEN = datetime(2024, 5, 31, 12, tzinfo=UTC)
IN_SERVICE = "SELECT build_id FROM candidate_builds WHERE in_service_at IS NOT NULL ORDER BY in_service_at DESC LIMIT 1"


async def run_candidates(**parameters: Any) -> "State[Any]":
    from flows.candidates import candidates

    state: State[Any] = await candidates(CandidatesParameters(**parameters), return_state=True)
    return state


async def add_shop(engine: AsyncEngine) -> None:
    """Three customers who have a and b, of whom ann has b since a day ago only."""
    for product_id in "ab":
        await add_product(engine, product_id)
    for customer_id in ("ann", "ben", "cy"):
        await add_customer(engine, customer_id)
        await add_event(engine, customer_id, "purchase", product_id="a", at=THEN - timedelta(days=9))
        days_ago = 1 if customer_id == "ann" else 8
        await add_event(engine, customer_id, "purchase", product_id="b", at=THEN - timedelta(days=days_ago))


async def test_the_flow_puts_a_build_into_service_and_says_what_is_in_it(engine: AsyncEngine) -> None:
    await add_shop(engine)

    state = await run_candidates()

    assert state.is_completed()
    assert state.message == f"build {await scalar(engine, IN_SERVICE)} is in service: 3 customers, 2 pairs"


async def test_the_flow_builds_as_of_a_moment_and_by_a_method(engine: AsyncEngine) -> None:
    await add_shop(engine)

    state = await run_candidates(as_of=THEN - timedelta(days=2), method="scipy")

    assert state.message is not None
    assert state.message.endswith("is in service: 3 customers, 0 pairs")  # only two had both by then
    (built,) = await read(engine, "SELECT method, as_of FROM candidate_builds")
    assert built == ("scipy", THEN - timedelta(days=2))


async def test_what_is_in_service_stays_where_the_flow_fails(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: "Path"
) -> None:
    await add_shop(engine)
    await run_candidates()
    before = await scalar(engine, IN_SERVICE)

    in_the_future = await run_candidates(as_of=datetime.now(UTC) + timedelta(days=1))
    monkeypatch.setenv("RECSTREAM_CANDIDATE_RECIPE", str(tmp_path / "nowhere.toml"))
    without_recipe = await run_candidates()

    with pytest.raises(InputError, match="that is in the future"):
        await in_the_future.aresult()
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml cannot be read"):
        await without_recipe.aresult()
    assert await scalar(engine, IN_SERVICE) == before


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"asof": "2024-05-31"}, "Extra inputs"),
        ({"as_of": "2024-05-31T12:00:00"}, "as_of needs a zone"),
        ({"method": "spark"}, "Input should be 'auto', 'sql' or 'scipy'"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(parameters: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CandidatesParameters.model_validate(parameters)
