"""Writes down what is ordered of a run, with the login on this machine and its name; Postgres adds its own login."""

import getpass
import os
import socket

from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.database import statement
from pipeline.domain import OrderKind, RunId


async def write_order(
    connection: AsyncConnection,
    run_id: RunId,
    kind: OrderKind,
    concurrency: int | None = None,
    through: str | None = None,
) -> int:
    """The number of the order. The caller holds the run's row, so that the orders of a run have one order.

    `through` is what an order came through whose giver nobody here knows.

    Raises:
        DatabaseError: there is no such run.
    """
    by = this_login() if through is None else heard_from(through)
    order = {"run_id": run_id, "kind": kind, "concurrency": concurrency, "ordered_by": by}
    order_id: int = (await connection.execute(statement("give_order"), order)).scalar_one()
    return order_id


def heard_from(through: str) -> str:
    """`somebody in Prefect, as anna@shop-1 heard`: who gives an order elsewhere."""
    return f"somebody in {through}, as {this_login()} heard"


def this_login() -> str:
    """`anna@shop-1`: who gives an order here."""
    return f"{_login()}@{socket.gethostname()}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has a number and no name
        return f"uid-{os.getuid()}"
