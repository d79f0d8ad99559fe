"""Token counts: close to those that were published, never above the bound, and corrected by what is reported."""

import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pricing.calibration import Calibration
from pipeline.pricing.token_counts import (
    estimated_request_tokens,
    estimated_tokens,
    most_request_tokens,
    most_tokens,
)


class Counted(NamedTuple):
    """A text and its number of tokens."""

    said: str
    tokens: int


PUBLISHED = [
    Counted(one["said"], one["tokens"])
    for one in tomllib.loads(Path(__file__).with_name("token_counts.toml").read_text(encoding="utf-8"))["text"]
]
NUMBERED = " ".join(f"token{number}" for number in range(200))  # 400 tokens of cl100k_base: a word and a number each
COMPACT = ",".join('{"i":3,"s":92}' for _ in range(20))  # 8.5 tokens for each, by the measurements of the compact form


@pytest.mark.parametrize("counted", [*PUBLISHED, Counted(NUMBERED, 400), Counted(COMPACT, 170)])
def test_an_estimate_is_within_a_tenth_of_the_published_count(counted: Counted) -> None:
    assert estimated_tokens(counted.said) == pytest.approx(counted.tokens, rel=0.1)


@given(st.text())
def test_no_estimate_is_above_the_bound_by_more_than_rounding(text: str) -> None:
    assert 0 <= estimated_tokens(text) <= 2 * most_tokens(text) + 1


@given(st.lists(st.text(max_size=40), max_size=5))
def test_lines_are_counted_wherever_they_stand(lines: list[str]) -> None:
    text = "\n".join(lines)
    alone = sum(estimated_tokens(line) for line in lines)
    assert estimated_tokens(text) == pytest.approx(alone, abs=2 * len(lines) + 1)


def test_the_number_of_a_line_in_a_list_counts_the_same_wherever_it_stands() -> None:
    counts = {estimated_tokens(f"{number}. Linen Shirt | Nordvik | 39.95") for number in (1, 27, 100)}
    assert len(counts) == 1


def test_half_a_character_is_counted_like_any_other_text() -> None:
    assert estimated_tokens("a \ud800 b") > 0
    assert most_tokens("\ud800") == 3


@pytest.mark.parametrize("text", ["", "a", "été", "これは猫です", "🙂" * 9, "\n\n\n", "0" * 50])
def test_a_token_has_a_byte_at_least(text: str) -> None:
    assert most_tokens(text) == len(text.encode())


def test_a_request_has_its_template_besides_its_messages() -> None:
    messages = ("You rank.", "Products:\n1. Shoe")
    assert estimated_request_tokens(*messages) > sum(map(estimated_tokens, messages))
    assert most_request_tokens(*messages) >= sum(map(most_tokens, messages)) + 500


def test_a_model_that_reports_more_than_was_estimated_is_estimated_higher_from_then_on() -> None:
    calibration = Calibration()
    assert calibration.corrected(1_000) == 1_000
    for _ in range(100):
        calibration.note(1_000, 1_200)
    assert calibration.corrected(1_000) == pytest.approx(1_200, rel=0.01)


def test_a_ratio_follows_an_endpoint_that_changes() -> None:
    calibration = Calibration(10_000_000, 12_000_000)
    for _ in range(2_000):
        calibration.note(1_000, 900)
    assert calibration.ratio == pytest.approx(0.9, rel=0.02)


@pytest.mark.parametrize(("estimated", "reported"), [(0, 100), (100, 0), (-1, 5), (5, -1)])
def test_a_report_without_both_numbers_teaches_nothing(estimated: int, reported: int) -> None:
    calibration = Calibration()
    calibration.note(estimated, reported)
    assert calibration.ratio == 1


def test_one_odd_report_does_not_throw_the_ratio_off() -> None:
    calibration = Calibration(200_000, 200_000)
    calibration.note(1_000, 50_000)
    assert calibration.ratio < 1.3


def test_a_ratio_stays_within_reason() -> None:
    calibration = Calibration()
    for _ in range(50):
        calibration.note(100, 1_000_000)
    assert calibration.ratio == 4
