"""Price lists: exact costs, unambiguous names, and one line for each mistake in the file."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain import OFFLINE_MODEL, Usage
from pipeline.errors import ConfigurationError
from pipeline.pricing.price_file import read_price_file
from pipeline.pricing.price_list import PRICE_FILE, Price, PriceList, load_prices, require_price

PRICE = Price(Decimal("0.15"), Decimal("0.075"), Decimal("0.60"))
GOOD = """
currency = "EUR"
as_of = 2026-11-01

[models.house]
source = "our contract"
input = 2
cached_input = 0.5
output = 8.25
tiers.flex = { input = 1, output = 4 }

[models."gpt-4o-mini"]
input = 0.15
output = 0.60

[models."gpt-4o-mini-2024-07-18-tuned"]
input = 0.30
output = 1.20
"""


def write(content: str | bytes, name: str = PRICE_FILE) -> Path:
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def good() -> PriceList:
    return load_prices(write(GOOD))


def refusal(content: str | bytes) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_prices(write(content))
    assert "\n" not in str(caught.value)
    assert PRICE_FILE in str(caught.value)
    return str(caught.value)


def test_a_cost_is_exact_and_its_cached_part_is_cheaper() -> None:
    assert PRICE.cost(Usage(1_500, 260, 1_024)) == Decimal("0.0003042")
    assert PRICE.cost(Usage(1_500, 260)) == Decimal("0.000381")
    assert PRICE.cost(Usage()) == 0


def test_an_endpoint_that_reports_more_cached_tokens_than_tokens_costs_no_less_than_nothing() -> None:
    assert PRICE.cost(Usage(100, 0, 5_000)) == Decimal("0.0000075")


@given(
    st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 1_000), st.integers(0, 1_000)
)
def test_no_usage_within_the_bound_costs_more_than_the_most(
    tokens_in: int, tokens_out: int, cached: int, fewer_in: int, fewer_out: int
) -> None:
    most = PRICE.most(tokens_in, tokens_out)
    assert PRICE.cost(Usage(max(tokens_in - fewer_in, 0), max(tokens_out - fewer_out, 0), cached)) <= most


def test_a_cache_that_costs_more_than_it_saves_is_within_the_most() -> None:
    dear = Price(Decimal(1), Decimal(2), Decimal(1))
    assert dear.most(100, 0) >= dear.cost(Usage(100, 0, 100))


def test_a_model_is_found_by_its_name_or_by_that_of_its_snapshot_and_never_by_another() -> None:
    prices = good()
    mini = prices.price_of("gpt-4o-mini")
    assert mini == Price(Decimal("0.15"), Decimal("0.15"), Decimal("0.60"))
    for snapshot in ("gpt-4o-mini-2024-07-18", "gpt-4o-mini-20240718", "gpt-4o-mini@20240718"):
        assert prices.price_of(snapshot) == mini
    for other in ("gpt-4o", "gpt-4o-mini-latest", "gpt-4o-mini-2024", "openai/gpt-4o-mini", "gpt-4o-mini-x-2024-07-18"):
        assert prices.price_of(other) is None
    assert prices.price_of("gpt-4o-mini-2024-07-18-tuned") != mini


def test_a_tier_has_its_own_price_and_one_that_is_not_listed_has_none() -> None:
    prices = good()
    assert prices.price_of("house", "flex") == Price(Decimal(1), Decimal(1), Decimal(4))
    assert prices.price_of("house", "auto") == prices.price_of("house", "default") == prices.price_of("house")
    assert prices.price_of("house", "priority") is None
    assert prices.price_of("gpt-4o-mini", "flex") is None


def test_the_highest_price_covers_a_request_that_is_billed_in_the_standard_tier_after_all() -> None:
    assert good().highest_price_of("house", "flex") == Price(Decimal(2), Decimal(1), Decimal("8.25"))
    assert good().highest_price_of("house", "priority") is None
    assert good().highest_price_of("house") == good().price_of("house")


def test_the_offline_ranker_costs_nothing_unless_the_list_names_it() -> None:
    free = good().price_of(OFFLINE_MODEL)
    assert free is not None
    assert free.cost(Usage(10**6, 10**6)) == 0
    named = load_prices(write(GOOD + f'[models."{OFFLINE_MODEL}"]\ninput = 1\noutput = 1\n')).price_of(OFFLINE_MODEL)
    assert named is not None
    assert named.cost(Usage(10**6, 0)) == 1


def test_an_unknown_price_is_asked_for_with_the_lines_to_write() -> None:
    with pytest.raises(ConfigurationError) as caught:
        require_price(good(), "strange", None, "budget_per_run")
    assert str(caught.value) == (
        "budget_per_run needs the price of 'strange', which prices.toml does not say: write to prices.toml "
        '[models."strange"] with input = …, cached_input = …, output = … (EUR for a million tokens)'
    )
    with pytest.raises(ConfigurationError, match=r"in the tier 'priority', .* \[models\.\"house\"\.tiers\.priority\]"):
        require_price(good(), "house", "priority", "budget_per_run")
    assert require_price(good(), "house", None, "budget_per_run") == good().price_of("house")


def test_the_list_of_the_working_directory_goes_before_the_packaged_one() -> None:
    assert load_prices(None).source == "the packaged list"
    write(GOOD)
    assert load_prices(None).currency == "EUR"
    assert load_prices(write(GOOD.replace("EUR", "GBP"), "ours.toml")).currency == "GBP"


def test_an_old_list_is_said_aloud() -> None:
    prices = good()
    assert prices.remark(date(2026, 12, 1)) is None
    assert prices.remark(date(2027, 1, 30)) is None
    assert prices.remark(date(2027, 1, 31)) == (
        "the prices are 91 days old (prices.toml, as of 2026-11-01): compare them with the provider's"
    )


def test_the_packaged_list_says_where_each_price_is_from() -> None:
    packaged = read_price_file(None)
    assert packaged.currency == "USD"
    assert packaged.models
    assert all(entry.source for entry in packaged.models.values())
    assert load_prices(None).price_of("gpt-4o-mini") == PRICE


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (GOOD.replace("cached_input = 0.5", "cashed_input = 0.5"), "models.house.cashed_input: is no key of a price"),
        (GOOD.replace("cached_input = 0.5", "cashed_input = 0.5"), "'cached_input' is meant?"),
        (GOOD.replace("currency", "curency"), "curency: is no key of a price list; 'currency' is meant? (allowed are"),
        (GOOD.replace("output = 8.25\n", ""), "models.house.output: is missing"),
        (GOOD.replace("output = 4", "outputs = 4"), "models.house.tiers.flex.output"),
        (GOOD.replace("input = 2", "input = -2"), "models.house.input: Input should be greater than or equal to 0"),
        (GOOD.replace("input = 2", "input = nan"), "models.house.input: Input should be a finite number"),
        (GOOD.replace("input = 2", "input = inf"), "models.house.input: Input should be a finite number"),
        (GOOD.replace("input = 2", 'input = "2"'), "models.house.input: must be a number, without quotes"),
        (GOOD.replace("input = 2", "input = true"), "models.house.input: must be a number, without quotes"),
        (GOOD.replace("input = 2", "input = 2000000"), "models.house.input: Input should be less than"),
        (GOOD.replace("input = 0.15", "input = -1"), "models.gpt-4o-mini.input"),
        (GOOD.replace("2026-11-01", "2026-13-01"), "is not valid TOML"),
        (GOOD.replace("2026-11-01", '"soon"'), "as_of: Input should be a valid date"),
        (GOOD.replace('"EUR"', '"€"'), "currency: must be three capitals like 'USD'"),
        (GOOD.replace("as_of = 2026-11-01", ""), "as_of: is missing"),
        ("", "currency: is missing"),
        ("[[", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        (b"#" * 1_000_001, "larger than"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_the_key(wrong: str | bytes, said: str) -> None:
    assert said in refusal(wrong)


def test_a_list_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"price list .*absent\.toml cannot be read: No such file"):
        load_prices(tmp_path / "absent.toml")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load_prices(tmp_path)


def test_a_list_with_a_mark_of_its_byte_order_is_read() -> None:
    assert load_prices(write(b"\xef\xbb\xbf" + GOOD.encode())).currency == "EUR"
