"""How candidates are found: the few numbers of the method, checked, read from a file and written to one.

For products i and j, with n the buyers of a product and d the different products of a customer:

- g(i, j) = Σ over customers who purchased both of 1 ÷ d^basket_exponent, where at least `least_shared` did;
- W(i→j) = g ÷ (n_i^source_exponent · n_j^target_exponent) · (recent buyers of j + offset)^popularity_exponent.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import ConfigurationError

_MOST_BYTES: Final = 100_000
_ROUNDED: Final = 1e-9  # 0.7 + 0.2 + 0.1 is not 1


def _a_number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("must be a number, without quotes")  # noqa: TRY004 - what pydantic makes a problem of
    return value


_Exponent = Annotated[float, BeforeValidator(_a_number), Field(ge=0, le=4, allow_inf_nan=False)]
_Share = Annotated[float, BeforeValidator(_a_number), Field(ge=0, le=1, allow_inf_nan=False)]
_Days = Annotated[int, BeforeValidator(_a_number), Field(ge=1, le=3650)]
_Count = Annotated[int, BeforeValidator(_a_number), Field(ge=1)]


class CandidateRecipe(BaseModel):
    """The method's numbers. What is above `repeat_share` shapes a build, what is below is used when one is looked up.

    `history` is how many products of a customer count, his newest; without a limit one customer with a hundred
    thousand of them would make more pairs than all others. A product with fewer than `newcomer_buyers` buyers is a
    newcomer, and found by what it is like. Shares are of the places on a list of candidates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbours: _Count = Field(default=40, le=1000)
    least_shared: _Count = Field(default=3, le=1000)
    history: _Count = Field(default=2000, le=20_000)
    popularity_days: _Days = 14
    popularity_offset: Annotated[float, BeforeValidator(_a_number), Field(gt=0, le=1000, allow_inf_nan=False)] = 0.1
    popularity_exponent: _Exponent = 0.5
    source_exponent: _Exponent = 0.5
    target_exponent: _Exponent = 1.0
    basket_exponent: _Exponent = 1.0
    newcomers: _Count = Field(default=10, le=1000)
    newcomer_buyers: _Count = Field(default=3, le=1000)

    repeat_share: _Share = 0.3
    newcomer_share: _Share = 0.02

    @model_validator(mode="after")
    def _leave_places(self) -> "CandidateRecipe":
        if self.repeat_share + self.newcomer_share > 1 + _ROUNDED:
            raise ValueError("repeat_share and newcomer_share come to more than 1: they are shares of the same places")
        return self

    @classmethod
    def written_by_any_version(cls, written: Mapping[str, object]) -> "CandidateRecipe":
        """A recipe as the ledger has it: what only another version knows is left out, what it lacked is as measured."""
        return cls.model_construct(**{name: written[name] for name in cls.model_fields if name in written})  # type: ignore[arg-type] # a version checked them when it wrote them

    def shapes_as(self, other: "CandidateRecipe") -> bool:
        """Whether a build by the other recipe serves this one too: they differ in nothing that shapes a build."""
        lookup = {"repeat_share", "newcomer_share"}
        return self.model_dump(exclude=lookup) == other.model_dump(exclude=lookup)

    def as_toml(self) -> str:
        """The recipe as a file that `load_recipe` reads: a line each, in the order in which they are explained."""
        return "".join(f"{name} = {value}\n" for name, value in self.model_dump().items())


def load_recipe(path: Path | None) -> CandidateRecipe:
    """The recipe in the TOML file at `path`, or the measured one where that is None.

    Raises:
        ConfigurationError: the file cannot be read, or has a mistake.
    """
    if path is None:
        return CandidateRecipe()
    try:
        written = tomllib.loads(_text(path))
        if not written:
            raise ConfigurationError(
                f"candidate recipe {path} says nothing: write one with `recstream candidates tune`, or set no "
                "candidate_recipe for the measured one"
            )
        return CandidateRecipe.model_validate(written)
    except OSError as error:
        raise ConfigurationError(f"candidate recipe {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"candidate recipe {path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"candidate recipe {path}: {_first_problem(error)}") from error


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ConfigurationError(f"candidate recipe {path} has more than {_MOST_BYTES:,} bytes: it is none")
    return content.decode()


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {name!r}: it has {', '.join(CandidateRecipe.model_fields)}"
    said = problem["msg"].removeprefix("Value error, ")
    return f"{name!r}: {said}" if name else said
