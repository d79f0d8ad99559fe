"""A recipe comes from a file and goes into one; each mistake is one line that says where it is."""

from pathlib import Path

import pytest

from pipeline.candidates.recipe import CandidateRecipe, load_recipe
from pipeline.errors import ConfigurationError


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    recipe = CandidateRecipe(neighbours=70, popularity_exponent=0.25, repeat_share=0.1)
    path = tmp_path / "candidates.toml"
    path.write_text(recipe.as_toml())
    assert load_recipe(path) == recipe


def test_without_a_file_it_is_the_measured_one() -> None:
    assert load_recipe(None) == CandidateRecipe()


def test_a_build_serves_recipes_that_differ_in_the_lookup_alone() -> None:
    assert CandidateRecipe().shapes_as(CandidateRecipe(repeat_share=0.1, newcomer_share=0))
    assert not CandidateRecipe().shapes_as(CandidateRecipe(neighbours=51))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("neigbours = 50", "unknown key 'neigbours'"),
        ('neighbours = "50"', "'neighbours': must be a number, without quotes"),
        ("neighbours = 0", "'neighbours': Input should be greater than or equal to 1"),
        ("popularity_offset = 0", "'popularity_offset': Input should be greater than 0"),
        ("target_exponent = nan", "'target_exponent': "),
        ("repeat_share = 1.5", "'repeat_share': Input should be less than or equal to 1"),
        ("repeat_share = 0.95\nnewcomer_share = 0.06", "repeat_share and newcomer_share come to more than 1"),
        ("", "says nothing: write one with `recstream candidates tune`, or set no candidate_recipe"),
        ("# neighbours = 50\n", "says nothing"),
        ("neighbours", "is not valid TOML"),
        ("a" * 100_001, "has more than 100,000 bytes"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_in_it(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "candidates.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as told:
        load_recipe(path)
    assert f"candidate recipe {path}" in str(told.value)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read: No such file"):
        load_recipe(tmp_path / "none.toml")
