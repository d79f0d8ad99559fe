"""Reads the file of a price list: each mistake is one line with the file, the key and what is allowed."""

import tomllib
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.errors import ConfigurationError

_MOST_BYTES: Final = 1_000_000


def _a_number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("must be a number, without quotes")  # noqa: TRY004 - what pydantic makes a problem of
    return value


def _a_currency(code: str) -> str:
    if len(code) != 3 or not code.isascii() or not code.isupper():
        raise ValueError("must be three capitals like 'USD'")
    return code


_Amount = Annotated[
    Decimal, BeforeValidator(_a_number), Field(ge=0, le=1_000_000, decimal_places=6, allow_inf_nan=False)
]


class TierEntry(BaseModel):
    """Prices for a million tokens. `cached_input` is what `input` is where it is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: _Amount
    output: _Amount
    cached_input: _Amount | None = None


class ModelEntry(TierEntry):
    """The prices of one model: of the standard tier, and of others by their names. `source` is for people."""

    source: str | None = None
    tiers: dict[str, TierEntry] = {}


class PriceFile(BaseModel):
    """A price list as its file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: Annotated[str, AfterValidator(_a_currency)]
    as_of: date
    models: dict[str, ModelEntry]


def read_price_file(path: Path | None) -> PriceFile:
    """The price list at `path`, or the packaged one where that is None.

    Raises:
        ConfigurationError: it cannot be read, or has a mistake.
    """
    name = "the packaged price list" if path is None else str(path)
    try:
        return PriceFile.model_validate(tomllib.loads(_text(path), parse_float=Decimal))
    except OSError as error:
        raise ConfigurationError(f"price list {name} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"price list {name} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"price list {name}: {_first_problem(error)}") from error


def _text(path: Path | None) -> str:
    if path is None:
        return (files("pipeline.pricing") / "prices.toml").read_text(encoding="utf-8")
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ConfigurationError(f"price list {path} is larger than {_MOST_BYTES:,} bytes: it is something else")
    return content.decode("utf-8-sig")


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    # A key that is misspelt is missing as well: its spelling says more.
    problem = min(problems, key=lambda one: one["type"] != "extra_forbidden")
    place, key = problem["loc"][:-1], str(problem["loc"][-1]) if problem["loc"] else ""
    return f"{_dotted((*place, key))}: {_reason(problem['type'], problem['msg'], place, key)}"


def _reason(kind: str, message: str, place: tuple[int | str, ...], key: str) -> str:
    if kind == "missing":
        return "is missing"
    if kind != "extra_forbidden":
        return message.removeprefix("Value error, ")
    allowed = _allowed_at(place)
    nearest = get_close_matches(key, allowed, n=1)
    meant = f"; {nearest[0]!r} is meant?" if nearest else ""
    return f"is no key of a price list{meant} (allowed are {', '.join(allowed)})"


def _allowed_at(place: tuple[int | str, ...]) -> list[str]:
    if not place:
        return list(PriceFile.model_fields)
    return list(cast(type[BaseModel], TierEntry if "tiers" in place else ModelEntry).model_fields)


def _dotted(place: tuple[int | str, ...]) -> str:
    return ".".join(f'"{part}"' if "." in str(part) else str(part) for part in place)
