"""The prompt: what it says, what it does not let through, and the version that its templates have."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.domain import Product, ProductId
from pipeline.prompts import MAX_LINE_CHARACTERS, Prompt, catalog_line, compose, prompt_version

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine too

CHAIR = Product(ProductId("a7"), "Oak chair", "Ikea", "Furniture", 49.9)
LAMP = Product(ProductId("b8"), "Desk lamp")


def test_candidates_are_numbered_from_1_in_their_order() -> None:
    lines = compose("likes chairs", [CHAIR, LAMP], 2).customer.splitlines()
    assert "1. Oak chair | Ikea | Furniture | 49.90" in lines
    assert "2. Desk lamp" in lines


def test_the_profile_and_the_number_asked_for_come_after_the_products() -> None:
    customer = compose("  Recent purchases: Laptop \n", [CHAIR], 7).customer
    assert customer.index("Oak chair") < customer.index("Recent purchases: Laptop") < customer.index("the 7 most")


def test_the_static_part_is_the_same_for_every_customer() -> None:
    assert compose("a", [CHAIR], 1).system == compose("b", [LAMP, CHAIR], 2).system


def test_signs_of_the_template_language_are_plain_text_in_data() -> None:
    tricky = Product(ProductId("1"), "$profile ${asked} $$5 {x} %s")
    customer = compose("spends $500, $products", [tricky], 1).customer
    assert "1. $profile ${asked} $$5 {x} %s" in customer
    assert "spends $500, $products" in customer


def test_a_product_stays_on_its_line() -> None:
    assert catalog_line(Product(ProductId("1"), "two\nlines\u2028and\x85more\x00", "a\tb", " ", 0.0)) == (
        "two lines and more | a b | 0.00"
    )


def test_a_line_is_bounded() -> None:
    line = catalog_line(Product(ProductId("1"), "x" * 10_000, "brand"))
    assert len(line) == MAX_LINE_CHARACTERS
    assert line.endswith("…")


def test_the_profile_keeps_its_lines() -> None:
    assert "first\n\tsecond  third" in compose("first\n\tsecond \x07third", [CHAIR], 1).customer


@UNHURRIED
@given(st.text(max_size=40), st.text(min_size=1, max_size=40), st.text(max_size=10) | st.none())
def test_every_text_gives_a_prompt_that_can_be_sent(profile: str, name: str, brand: str | None) -> None:
    odd = Product(ProductId("1"), name + "\ud800", brand)
    prompt = compose(profile + "\udfff", [odd, LAMP], 2)
    json.dumps(prompt.customer, ensure_ascii=False).encode("utf-8")
    assert "\n2. Desk lamp\n" in prompt.customer
    assert "\x00" not in prompt.customer


def test_the_version_and_the_hash_depend_on_the_text_alone() -> None:
    assert prompt_version() == prompt_version()
    assert len(prompt_version()) == 16
    assert compose("a", [CHAIR], 1).input_hash == compose("a", [CHAIR], 1).input_hash
    assert compose("a", [CHAIR], 1).input_hash != compose("a", [CHAIR], 2).input_hash
    assert Prompt("ab", "c").input_hash != Prompt("a", "bc").input_hash
