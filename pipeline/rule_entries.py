"""Reads `[rules]` of the settings: what keeps a product from a customer's candidates, as the shop wants it."""

from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

EVER: Final = "ever"
_MOST_DAYS: Final = 36_500


def _a_number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number of days")  # noqa: TRY004 - pydantic turns a ValueError into a problem
    return value


Days = Annotated[int, BeforeValidator(_a_number), Field(ge=0, le=_MOST_DAYS)]


def _days_or_ever(value: object, judge: ValidatorFunctionWrapHandler) -> object:
    """One message in place of one for each thing that it might have been."""
    try:
        return judge(value)
    except ValidationError:
        raise ValueError(f'must be a number of days from 0 to {_MOST_DAYS}, or "{EVER}"') from None


DaysOrEver = Annotated[Days | Literal["ever"], WrapValidator(_days_or_ever)]


def _regardless_of_case(days: dict[str, DaysOrEver]) -> dict[str, DaysOrEver]:
    folded = {category.casefold(): of_it for category, of_it in days.items()}
    if len(folded) < len(days):
        raise ValueError("names a category twice: case makes no difference")
    return folded


DaysOfCategories = Annotated[dict[str, DaysOrEver], AfterValidator(_regardless_of_case)]


class Rules(BaseModel):
    """The shop's rules for all customers.

    `bought_days`: what was bought is not offered again for so many days; 0 is never minded, "ever" is once in a life.
    `bought_days_of` says it for a category, regardless of case: `bought_days_of = {Books = "ever", Coffee = 5}`.
    `refused_days`: for how long a customer's "not interested" holds.
    `most_per_category`, `most_per_brand`: of the candidates of one customer, as long as there are others; 0 is any
    number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bought_days: DaysOrEver = 3
    bought_days_of: DaysOfCategories = Field(default_factory=dict, max_length=10_000)
    refused_days: Days = 180
    most_per_category: int = Field(default=50, ge=0, le=500)
    most_per_brand: int = Field(default=30, ge=0, le=500)

    def bought_days_in(self, category: str | None) -> float:
        """For how many days something of this category is not offered again; infinite for "ever"."""
        days = self.bought_days
        if category is not None and self.bought_days_of:
            days = self.bought_days_of.get(category.casefold(), days)
        return float("inf") if days == EVER else float(days)
