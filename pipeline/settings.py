"""Every setting of recstream, read once at the way in: flags over environment over `recstream.toml` over defaults."""

import os
import tomllib
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from pipeline.domain import OFFLINE_MODEL as _OFFLINE_MODEL
from pipeline.domain import CandidateOrder
from pipeline.errors import ConfigurationError, first_line
from pipeline.gates import Gates
from pipeline.rule_entries import Rules
from pipeline.variant_entries import VariantEntry, read_entries

SETTINGS_FILE = "recstream.toml"
OFFLINE_MODEL = _OFFLINE_MODEL
_SLOW_TIERS = frozenset({"flex"})  # cheaper, for who can wait
_SLOW_TIERS_S = 900.0  # what the flex tier's own documentation tells clients to wait


def _known_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder
        raise ValueError(f"{name!r} is not a time zone name like 'Europe/Berlin'") from error
    return name


def _postgres_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise ValueError("must look like postgresql://user:password@host:5432/database")
    return f"postgresql+psycopg://{rest}"


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:  # brackets or a port that are none, a name too long
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise ValueError("must look like https://host/v1")
    return url.rstrip("/")


def _cap(cap: Decimal | int) -> Decimal | int:
    if cap == 0:
        raise ValueError("a cap of 0 allows nothing: unset it, or run nothing")
    if not cap > 0:
        raise ValueError("must be more than 0")
    return cap


def _header_text(key: SecretStr) -> SecretStr:
    """A key travels in a header: what the way from a file or a shell has put around it is taken off."""
    text = key.get_secret_value().strip()
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("must be a text of visible ASCII characters")
    return SecretStr(text)


class Settings(BaseSettings):
    """The settings of one process. Field names are the keys of `recstream.toml`.

    Four have the environment names that other programs use too: DATABASE_URL, OPENAI_API_KEY, OPENAI_BASE_URL and
    RECSTREAM_MODEL; every other one is RECSTREAM_ and its name in capitals.
    """

    model_config = SettingsConfigDict(
        env_prefix="RECSTREAM_", env_ignore_empty=True, extra="forbid", frozen=True, populate_by_name=True
    )

    database_url: Annotated[str, AfterValidator(_postgres_url)] | None = Field(
        default=None, validation_alias=AliasChoices("database_url", "DATABASE_URL")
    )
    openai_api_key: Annotated[SecretStr, AfterValidator(_header_text)] | None = Field(
        default=None, validation_alias=AliasChoices("openai_api_key", "OPENAI_API_KEY")
    )
    openai_base_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        default=None, validation_alias=AliasChoices("openai_base_url", "OPENAI_BASE_URL")
    )
    model: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    temperature: float = Field(default=0.1, ge=0, le=2, allow_inf_nan=False)
    prompt: Path | None = None  # a folder with system.md and customer.md
    variants: Annotated[tuple[VariantEntry, ...], BeforeValidator(read_entries)] = ()

    fallback_base_url: Annotated[str, AfterValidator(_http_url)] | None = None
    fallback_api_key: Annotated[SecretStr, AfterValidator(_header_text)] | None = None
    fallback_model: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    outage_patience_s: float = Field(default=900, gt=0, allow_inf_nan=False)
    last_resort: Literal["none", "retrieval_order"] = "none"

    slate_size: int = Field(default=10, ge=1, le=200)
    candidate_count: int = Field(default=100, ge=1, le=500)
    candidate_order: CandidateOrder = "shuffled"  # in which the model sees them
    rules: Rules = Rules()
    popularity_days: int = Field(default=30, ge=1, le=3650)
    candidates_every_days: int = Field(default=1, ge=1, le=365)  # more: the same candidates for so many days
    candidate_recipe: Path | None = None  # a file of `recstream candidates tune`; else the measured one
    candidate_method: Literal["auto", "sql", "scipy"] = "auto"
    unchanged_max_age_days: int = Field(default=7, ge=0, le=3650)  # 0: every slate is made anew
    time_zone: Annotated[str, AfterValidator(_known_time_zone)] = "UTC"
    currency: str = Field(default="$", max_length=5)

    price_list: Path | None = None  # prices.toml of the working directory where there is one, else the packaged list
    budget_per_run: Annotated[Decimal, Field(allow_inf_nan=False), AfterValidator(_cap)] | None = None
    budget_per_day: Annotated[Decimal, Field(allow_inf_nan=False), AfterValidator(_cap)] | None = None
    token_budget_per_run: Annotated[int, AfterValidator(_cap)] | None = None
    token_budget_per_day: Annotated[int, AfterValidator(_cap)] | None = None

    service_tier: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")] | None = None
    reasoning_tokens: int = Field(default=0, ge=0, le=200_000)  # room for what a model thinks before it answers

    concurrency: int = Field(default=16, ge=1, le=2000)
    shard_size: int = Field(default=5000, ge=1, le=100_000)
    shards_at_once: int | None = Field(default=None, ge=1, le=10_000)  # None: as many as there are cores, or workers
    placement: Literal["here", "pool", "dask"] = "here"  # where a night's shards are served
    shard_deployment: Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+$")] = "shard/shard"  # what the pool runs
    shard_attempts: int = Field(default=3, ge=1, le=20)  # by workers of a pool, for each shard in one night
    dask_address: str | None = None  # None: a Dask cluster on this machine, for the night
    night_cron: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = "0 3 * * *"  # in `time_zone`
    catch_up_hours: float = Field(default=6, gt=0, le=168, allow_inf_nan=False)  # so late a night may still begin
    take_up_hours: float = Field(default=12, ge=0, le=168, allow_inf_nan=False)  # 0: a night is always planned anew
    attempts: int = Field(default=3, ge=1, le=10)
    structured_output: Literal["auto", "json_schema", "json_object", "prompt"] = "auto"
    connect_timeout_s: float = Field(default=10, gt=0)
    first_byte_timeout_s: float = Field(default=60, gt=0)
    idle_timeout_s: float = Field(default=60, gt=0)
    answer_timeout_s: float = Field(default=300, gt=0)
    notify: bool = True

    gate_served_share: float = Field(default=0.9, ge=0, le=1, allow_inf_nan=False)
    gate_rows_per_slate: float = Field(default=1.0, ge=0, le=200, allow_inf_nan=False)
    gate_refused_share: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    gate_worsening: float = Field(default=0.1, ge=0, le=1, allow_inf_nan=False)

    keep_days: int | None = Field(default=None, ge=1, le=36500)  # what housekeeping prunes to; None: nothing
    prefect_keep_days: int = Field(default=30, ge=1, le=36500)  # older flow runs are deleted from Prefect's server

    home: Path = Path(".recstream")
    offline_tokens_per_second: float = Field(default=50, ge=0, allow_inf_nan=False)

    @property
    def offline(self) -> bool:
        """True where neither a key nor a base URL is set: the offline ranker answers then."""
        return self.openai_api_key is None and self.openai_base_url is None

    @property
    def first_byte_patience_s(self) -> float:
        """`first_byte_timeout_s`, or what the service tier needs where that is not set."""
        return self._patience("first_byte_timeout_s", self.first_byte_timeout_s)

    @property
    def answer_patience_s(self) -> float:
        """`answer_timeout_s`, or what the service tier needs where that is not set."""
        return self._patience("answer_timeout_s", self.answer_timeout_s)

    def _patience(self, name: str, seconds: float) -> float:
        slow = self.service_tier in _SLOW_TIERS and name not in self.model_fields_set
        return max(seconds, _SLOW_TIERS_S) if slow else seconds

    @property
    def has_fallback(self) -> bool:
        """True where another endpoint, another model or another key is named for when the first fails."""
        return any(given is not None for given in (self.fallback_base_url, self.fallback_api_key, self.fallback_model))

    @property
    def gates(self) -> Gates:
        """What a night must have come to before readers see it."""
        return Gates(self.gate_served_share, self.gate_rows_per_slate, self.gate_refused_share, self.gate_worsening)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the file: no dotenv, no secrets folder."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=SETTINGS_FILE)


def load_settings(**flags: Any) -> Settings:
    """Read the settings; flags that are None count as not given.

    Raises:
        ConfigurationError: one line naming the first setting that is wrong, and where it can be mended.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    _refuse_misspelt()
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(_first_problem(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{SETTINGS_FILE} is not valid TOML: {error}") from error
    except SettingsError as error:  # a list in the environment that is no JSON
        raise ConfigurationError(f"{first_line(error)}: write it as JSON, or in {SETTINGS_FILE}") from error
    except OSError as error:
        raise ConfigurationError(f"{SETTINGS_FILE} cannot be read: {error.strerror}") from error


def _refuse_misspelt() -> None:
    """A cap that is misspelt in the environment is none: better refused than not heard."""
    known = [f"RECSTREAM_{name.upper()}" for name in Settings.model_fields]
    for name in os.environ:
        if name.startswith("RECSTREAM_") and name not in known:
            meant = get_close_matches(name, known, n=1, cutoff=0.8)
            if meant:
                raise ConfigurationError(f"unknown setting {name} in the environment: is {meant[0]} meant?")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    setting, *below = map(str, problem["loc"] or ("settings",))
    name = ".".join((setting.lower(), *below))
    if problem["type"] == "extra_forbidden":
        if below:
            return f"setting {name!r} is unknown: it has {', '.join(_keys_of(setting))}"
        return f"unknown setting {name!r} in {SETTINGS_FILE}: remove it or mend its spelling"
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "model_type":
        reason = f"is a table: write [{name}] and below it any of {', '.join(_keys_of(setting))}"
    return f"setting {name!r}: {reason} (set by flag, by environment or in {SETTINGS_FILE})"


def _keys_of(setting: str) -> list[str]:
    """What a setting that is a table may hold."""
    table = Settings.model_fields[setting].annotation
    return list(table.model_fields) if isinstance(table, type) and issubclass(table, BaseModel) else []
