"""The `prompt` setting: the model is told what the folder holds, and a template that cannot be used begins nothing."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.prompts import load_templates
from tests.fixtures.command_line import CommandLine
from tests.fixtures.shop import ARTICLE_CUSTOMER, add_article_shop, read, scalar


@pytest.fixture
def recstream(database_url: str, tmp_path: Path) -> CommandLine:
    """The command line on a database of its own."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "system.md").write_text('Rank. Answer with JSON: {"recommendations":[{"i":4,"s":93}]}')
    (folder / "customer.md").write_text("Products:\n$products\n\n$profile\n\nRank the $asked most relevant of them.")
    return CommandLine(tmp_path, {"DATABASE_URL": database_url, "RECSTREAM_PROMPT": "prompts"})


async def test_a_folder_of_templates_is_what_the_model_is_told(recstream: CommandLine, engine: AsyncEngine) -> None:
    await add_article_shop(engine)

    told = recstream("recommend", ARTICLE_CUSTOMER, RECSTREAM_SLATE_SIZE="3", RECSTREAM_OFFLINE_TOKENS_PER_SECOND="0")

    assert told.status == 0, told.stderr
    assert await read(engine, "SELECT rank FROM recommendations ORDER BY rank") == [(1,), (2,), (3,)]
    version = load_templates(recstream.folder / "prompts").version
    assert await read(engine, "SELECT prompt_version, kind FROM runs") == [(version, "on_demand")]


async def test_a_template_that_lacks_a_place_is_one_line_and_nothing_begins(
    recstream: CommandLine, engine: AsyncEngine
) -> None:
    await add_article_shop(engine)
    template = recstream.folder / "prompts" / "customer.md"
    template.write_text("Products:\n$products\n\nRank the $asked most relevant of them.")

    for command in (("run", "--quiet"), ("recommend", ARTICLE_CUSTOMER)):
        told = recstream(*command)
        assert told.status == 2
        assert told.stderr.splitlines()[-1] == (
            "recstream: the prompt template prompts/customer.md lacks $profile: write it where that belongs"
        )
    assert await scalar(engine, "SELECT count(*) FROM runs") == 0
