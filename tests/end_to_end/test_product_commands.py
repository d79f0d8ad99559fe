"""`ban` and `pin` as they are typed: what is said of a rule that another one takes the place of."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fixtures.command_line import CommandLine
from tests.fixtures.shop import add_product


async def test_the_reason_that_a_new_ban_takes_the_place_of_is_told(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    await add_product(engine, "lamp", "Lamp")
    recstream = CommandLine(tmp_path, {"DATABASE_URL": database_url})
    later = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"

    first = recstream("ban", "lamp", "--reason", "recalled")
    second = recstream("ban", "lamp", "--reason", "sold out", "--until", later)

    assert first.stdout == "Product lamp is banned: readers see it no more.\n"
    assert second.stdout == (
        f"Product lamp is banned until {later}: readers see it no more. "
        "This takes the place of the ban of before: recalled\n"
    )
    assert "--until 'soon' is no date" in recstream("ban", "lamp", "--reason", "r", "--until", "soon").complaint
