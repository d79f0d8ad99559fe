"""The flags that several commands share, and how they become settings."""

import os
from typing import Annotated, Any

import typer

from pipeline.settings import Settings, load_settings

DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", metavar="URL", help="Postgres to use instead of DATABASE_URL or the embedded one."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="An OpenAI-compatible endpoint, instead of OPENAI_BASE_URL."),
]
Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="The model to ask, instead of RECSTREAM_MODEL.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]

_ENVIRONMENT = {
    "database_url": "DATABASE_URL",
    "openai_base_url": "OPENAI_BASE_URL",
    "model": "RECSTREAM_MODEL",
}


def settings_from(**flags: Any) -> Settings:
    """The settings with these flags on top.

    The flags also become environment, because a flow reads its settings where it runs, which is not always here.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    settings = load_settings(**flags)
    for name, value in flags.items():
        if value is not None:
            os.environ[_ENVIRONMENT.get(name, f"RECSTREAM_{name.upper()}")] = str(value)
    return settings
