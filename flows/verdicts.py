"""What Prefect is told of what ended a flow before its end: Cancelled where a person or a budget did, else Failed."""

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Failed

from pipeline.errors import NightPassedError, NightTakenError, RecstreamError, RunHaltedError, first_line


def verdict_on(error: RecstreamError, told: str | None = None) -> State[Any]:
    """The state of a flow that this ended: one line, without a traceback. `told` says more than the error does."""
    message = told or first_line(error)
    if isinstance(error, (RunHaltedError, NightTakenError, NightPassedError)):
        return Cancelled(message=message, data=error)
    return Failed(message=message, data=error)
