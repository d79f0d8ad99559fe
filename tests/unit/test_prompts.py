"""The prompt: what it says, what it does not let through, and the version that its templates have."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.domain import Product, ProductId
from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.prompt_reading import read_prompt
from pipeline.prompts import MAX_LINE_CHARACTERS, Prompt, Templates, catalog_line, compose, load_templates

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine too

CHAIR = Product(ProductId("a7"), "Oak chair", "Ikea", "Furniture", 49.9)
LAMP = Product(ProductId("b8"), "Desk lamp")
OURS = load_templates()
CUSTOMER_TEMPLATE = "Products:\n$products\n\nCustomer:\n$profile\n\nRank the $asked most relevant products."


def write_templates(folder: Path, system: str | bytes = "Rank.", customer: str | bytes = CUSTOMER_TEMPLATE) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in (("system.md", system), ("customer.md", customer)):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load_templates(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_candidates_are_numbered_from_1_in_their_order() -> None:
    lines = compose(OURS, "likes chairs", [CHAIR, LAMP], 2).customer.splitlines()
    assert "1. Oak chair | Ikea | Furniture | 49.90" in lines
    assert "2. Desk lamp" in lines


def test_the_profile_and_the_number_asked_for_come_after_the_products() -> None:
    customer = compose(OURS, "  Recent purchases: Laptop \n", [CHAIR], 7).customer
    assert customer.index("Oak chair") < customer.index("Recent purchases: Laptop") < customer.index("the 7 most")


def test_the_static_part_is_the_same_for_every_customer() -> None:
    assert compose(OURS, "a", [CHAIR], 1).system == compose(OURS, "b", [LAMP, CHAIR], 2).system


def test_signs_of_the_template_language_are_plain_text_in_data() -> None:
    tricky = Product(ProductId("1"), "$profile ${asked} $$5 {x} %s")
    customer = compose(OURS, "spends $500, $products", [tricky], 1).customer
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
    assert "first\n\tsecond  third" in compose(OURS, "first\n\tsecond \x07third", [CHAIR], 1).customer


@UNHURRIED
@given(st.text(max_size=40), st.text(min_size=1, max_size=40), st.text(max_size=10) | st.none())
def test_every_text_gives_a_prompt_that_can_be_sent(profile: str, name: str, brand: str | None) -> None:
    odd = Product(ProductId("1"), name + "\ud800", brand)
    prompt = compose(OURS, profile + "\udfff", [odd, LAMP], 2)
    json.dumps(prompt.customer, ensure_ascii=False).encode("utf-8")
    assert "\n2. Desk lamp\n" in prompt.customer
    assert "\x00" not in prompt.customer


def test_the_hash_depends_on_the_text_alone() -> None:
    assert compose(OURS, "a", [CHAIR], 1).input_hash == compose(OURS, "a", [CHAIR], 1).input_hash
    assert compose(OURS, "a", [CHAIR], 1).input_hash != compose(OURS, "a", [CHAIR], 2).input_hash
    assert Prompt("ab", "c").input_hash != Prompt("a", "bc").input_hash


def test_the_version_is_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    first = load_templates(write_templates(tmp_path / "first"))
    second = load_templates(write_templates(tmp_path / "second"))
    other = load_templates(write_templates(tmp_path / "other", system="Rank well."))
    assert first.version == second.version != other.version
    assert len(first.version) == 16
    assert Templates("ab", "c").version != Templates("a", "bc").version


def test_runs_of_before_had_the_version_that_our_own_templates_still_have() -> None:
    assert OURS.version == "a55a724302613ffb"  # change it with the templates: such a run cannot be resumed then


def test_a_byte_order_mark_line_ends_and_white_space_around_make_no_other_version(tmp_path: Path) -> None:
    plain = load_templates(write_templates(tmp_path / "plain", "Rank\nwell."))
    windows = b"\xef\xbb\xbfRank\r\nwell.\r\n\r\n"
    edited = load_templates(
        write_templates(tmp_path / "edited", windows, CUSTOMER_TEMPLATE.replace("\n", "\r\n") + "\n")
    )
    assert edited == plain


def test_a_template_of_a_folder_is_filled_in(tmp_path: Path) -> None:
    folder = write_templates(tmp_path, "Be brief. $5 is $$5 here.", "${asked} of:\n$products\nfor $profile, for $$1")
    prompt = compose(load_templates(folder), "likes $profile", [CHAIR], 3)
    assert prompt.system == "Be brief. $5 is $$5 here."
    assert prompt.customer == "3 of:\n1. Oak chair | Ikea | Furniture | 49.90\nfor likes $profile, for $1"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("customer.md", "$products $profile", "lacks $asked"),
        ("customer.md", "$products $asked", "lacks $profile"),
        ("customer.md", "$$products $profile $asked", "lacks $products"),
        ("customer.md", "$products $profile $asked $products", "has $products 2 times"),
        ("customer.md", "$products\n$profil $asked", "'$profil $asked' in line 2"),
        ("customer.md", "$products $profile $asked\n\nspends $500", "'$500' in line 3"),
        ("customer.md", "$products $profile $asked ${", "only $products, $profile and $asked are filled in"),
        ("customer.md", b"$products $profile $asked \xff", "is not UTF-8 (byte 27)"),
        ("customer.md", " \n ", "is empty"),
        ("system.md", "", "is empty"),
        ("system.md", "Rank\nfor $profile", "has a place to fill in, in line 2"),
        ("system.md", "Rank ${asked}", "has a place to fill in, in line 1"),
        ("system.md", "Rank\x00", "control character U+0000 in line 1"),
        ("system.md", b"\xff\xfeR\x00", "is not UTF-8 (byte 1)"),
        ("system.md", "x" * 200_001, "has more than 200,000 bytes"),
    ],
)
def test_a_template_that_could_not_become_a_prompt_is_named(
    file: str, content: str | bytes, words: str, tmp_path: Path
) -> None:
    write_templates(tmp_path)
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refusal(tmp_path)
    assert words in said
    assert str(tmp_path / file) in said


@pytest.mark.parametrize("file", ["system.md", "customer.md"])
def test_a_template_that_is_not_there_is_named(file: str, tmp_path: Path) -> None:
    (write_templates(tmp_path) / file).unlink()
    assert f"{tmp_path / file} is missing" in refusal(tmp_path)


def test_a_template_that_is_a_folder_cannot_be_read(tmp_path: Path) -> None:
    (write_templates(tmp_path) / "system.md").unlink()
    (tmp_path / "system.md").mkdir()
    assert "cannot be read" in refusal(tmp_path)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not there" in refusal(tmp_path / "nowhere")
    assert "is no folder" in refusal(tmp_path / "file")


def test_the_offline_ranker_reads_our_own_prompt_back() -> None:
    reading = read_prompt(compose(OURS, "Preferred brands: Ikea", [CHAIR, LAMP], 2).customer)
    assert [candidate.name for candidate in reading.candidates] == ["Oak chair", "Desk lamp"]
    assert reading.wanted == 2
    assert [wish.phrase for wish in reading.wishes if wish.weight > 1] == ["Ikea"]
