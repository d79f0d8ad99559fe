"""What the flows may be told, by Python and through a deployment: a misspelt parameter never passes in silence."""

from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError, PrefectHTTPStatusError, SignatureMismatchError
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows.nightly import nightly
from flows.on_demand import on_demand
from flows.parameters import NightlyParameters, OnDemandParameters
from tests.fixtures.prefect_runs import LEAVES_SOCKETS

RUN = "0b8f9d8e-5b1f-4f43-9d0f-000000000001"

pytestmark = [pytest.mark.usefixtures("prefect_in_reach"), LEAVES_SOCKETS]


@pytest.mark.parametrize(
    "wrong",
    [
        {"limt": 3},
        {"limit": 0},
        {"limit": "few"},
        {"resume": "the last one"},
        {"limit": 3, "resume": RUN},
        {"refresh": True, "resume": RUN},
        {"refresh": "perhaps"},
        {"only": "failed"},
        {"only": "failed", "limit": 3},
        {"only": "short", "resume": RUN},
    ],
    ids=str,
)
def test_the_night_refuses_what_it_does_not_know(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NightlyParameters.model_validate(wrong)
    with pytest.raises(ParameterTypeError):
        nightly.validate_parameters({"parameters": wrong})


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ({"resume": RUN}, {"pending", "streaming", "short", "failed"}),
        ({"resume": RUN, "only": "failed"}, {"failed", "streaming"}),
    ],
)
def test_a_run_is_resumed_with_all_that_is_left_or_the_failed_slates_and_what_died_over_them(
    wanted: dict[str, Any], left: set[str]
) -> None:
    assert set(NightlyParameters.model_validate(wanted).left) == left


@pytest.mark.parametrize(
    "wrong",
    [{}, {"customer_id": ""}, {"customer_id": "1", "limit": 3}, {"customer_id": "1" * 201}],
    ids=["nobody", "empty", "unknown parameter", "too long"],
)
def test_one_customer_is_asked_for_by_his_id_alone(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OnDemandParameters.model_validate(wrong)
    with pytest.raises(ParameterTypeError):
        on_demand.validate_parameters({"parameters": wrong})


def test_a_parameter_outside_of_the_model_is_refused_when_the_run_begins() -> None:
    with pytest.raises(SignatureMismatchError, match="limit"):
        nightly.validate_parameters({"limit": 3})
    with pytest.raises(SignatureMismatchError, match="customer"):
        on_demand.validate_parameters({"customer": "12345"})


async def test_a_deployment_refuses_a_misspelt_parameter_before_anything_runs() -> None:
    async with get_client() as client:
        flow_id = await client.create_flow(nightly)
        schema = parameter_schema(nightly).model_dump()
        deployment_id = await client.create_deployment(flow_id, "nightly", parameter_openapi_schema=schema)
        with pytest.raises(PrefectHTTPStatusError, match="409"):
            await client.create_flow_run_from_deployment(deployment_id, parameters={"parameters": {"limt": 3}})
