"""Variants: what the settings may say of them, and that each customer gets one of them for good, by their shares."""

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import CustomerId, RunId, RunKind, RunState
from pipeline.errors import ConfigurationError, RunConflictError
from pipeline.prompts import load_templates
from pipeline.resuming import require_resumable, require_same_prompts
from pipeline.runs import Ranker, Run
from pipeline.settings import SETTINGS_FILE, load_settings
from pipeline.variant_entries import VariantEntry
from pipeline.variants import Variant, definitions, load_variants, variant_of

MANY = [CustomerId(str(number)) for number in range(20_000)]
A = '[[variants]]\nname = "a"\nshare = 0.2\n'


def variants(**shares: float) -> tuple[Variant, ...]:
    return load_variants(None, [VariantEntry(name=name, share=share) for name, share in shares.items()])


def assigned(**shares: float) -> list[str]:
    tried = variants(**shares)
    return [variant_of(customer_id, tried).name for customer_id in MANY]


def moved(before: list[str], after: list[str]) -> float:
    return sum(was != now for was, now in zip(before, after, strict=True)) / len(before)


def refusal(content: str) -> str:
    Path(SETTINGS_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_without_variants_everybody_gets_the_control_and_the_run_keeps_nothing_of_it() -> None:
    alone = load_variants(None)
    assert [(variant.name, variant.share) for variant in alone] == [("control", 1.0)]
    assert variant_of(CustomerId("c"), alone) is alone[0]
    assert definitions(alone) == []


def test_customers_get_variants_by_their_shares() -> None:
    got = assigned(a=0.1, b=0.3, c=0.25)
    for name, share in {"a": 0.1, "b": 0.3, "c": 0.25, "control": 0.35}.items():
        assert abs(got.count(name) / len(got) - share) < 5 * (share * (1 - share) / len(got)) ** 0.5


def test_a_variant_with_every_customer_leaves_none_to_the_control() -> None:
    assert set(assigned(a=1.0)) == {"a"}
    assert set(assigned(a=0.1, b=0.2, c=0.7)) == {"a", "b", "c"}
    assert variants(a=1 - 1e-12)[0].share == 0  # what rounding leaves is no share


def test_a_customer_keeps_his_variant_whatever_the_machine_and_the_order_of_the_variants() -> None:
    tried = variants(a=0.25, b=0.25)
    got = {name: variant_of(CustomerId(name), tried).name for name in ("12345", "ann@example.org", "ä", "", "7", "9")}
    assert got == {"12345": "control", "ann@example.org": "control", "ä": "a", "": "a", "7": "a", "9": "control"}
    assert assigned(a=0.25, b=0.5) == assigned(b=0.5, a=0.25)


@pytest.mark.parametrize("names", ["ab", "abcdefgh"])
def test_a_share_that_changes_moves_few_customers(names: str) -> None:
    shares = dict.fromkeys(names, 0.1)
    before, after = assigned(**shares), assigned(**{**shares, "a": 0.15})
    assert 0.05 * 0.8 < moved(before, after) < 0.05 * 2
    assert not any(was == "a" != now for was, now in zip(before, after, strict=True))


def test_other_names_are_another_experiment() -> None:
    before, after = assigned(a=0.5), assigned(b=0.5)
    both_times_control = sum(was == now == "control" for was, now in zip(before, after, strict=True)) / len(MANY)
    assert abs(both_times_control - 0.25) < 0.02


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.text(max_size=20))
def test_every_customer_gets_one_of_the_variants(weights: list[float], customer_id: str) -> None:
    total = sum(weights) * 1.1
    tried = variants(**{f"v{place}": weight / total for place, weight in enumerate(weights)})
    assert variant_of(CustomerId(customer_id), tried) in tried
    assert variant_of(CustomerId(customer_id), tried) == variant_of(CustomerId(customer_id), tried[::-1])


def test_variants_are_read_from_the_settings_file_and_have_of_their_own_what_they_name(tmp_path: Path) -> None:
    folder = tmp_path / "brief"
    folder.mkdir()
    (folder / "system.md").write_text("Rank.")
    (folder / "customer.md").write_text("$products $profile $asked")
    Path(SETTINGS_FILE).write_text(
        '[[variants]]\nname = "warm"\nshare = 0.25\ntemperature = 0.7\n'
        '[[variants]]\nname = "brief"\nshare = 0.5\nmodel = "small"\nprompt = "brief"\n',
        encoding="utf-8",
    )
    read = load_settings()
    control, warm, brief = load_variants(read.prompt, read.variants)
    assert (control.name, control.share, control.model, control.temperature) == ("control", 0.25, None, None)
    assert (warm.model, warm.temperature, warm.templates) == (None, 0.7, control.templates)
    assert (brief.model, brief.temperature, brief.templates.system) == ("small", None, "Rank.")
    assert definitions((control, warm, brief)) == [
        {"name": "brief", "share": 0.5, "model": "small", "temperature": None, "prompt_version": "34d1e87ffe8f1f22"},
        {
            "name": "control",
            "share": 0.25,
            "model": None,
            "temperature": None,
            "prompt_version": load_templates().version,
        },
        {
            "name": "warm",
            "share": 0.25,
            "model": None,
            "temperature": 0.7,
            "prompt_version": load_templates().version,
        },
    ]


def test_variants_may_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSTREAM_VARIANTS", json.dumps([{"name": "a", "share": 1}]))
    assert load_settings().variants == (VariantEntry(name="a", share=1),)
    monkeypatch.setenv("RECSTREAM_VARIANTS", "a=1")
    with pytest.raises(ConfigurationError, match=r"variants.*write it as JSON") as refused:
        load_settings()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (A + "shar = 1\n", "entry 1: unknown key 'shar': did you mean 'share'?"),
        (A + "q = 1\n", "unknown key 'q': it may have name, share, model, prompt, temperature"),
        ('[[variants]]\nname = "a"\n', "entry 1: it has no share"),
        ("[[variants]]\nshare = 0.5\n", "entry 1: it has no name"),
        (A.replace("0.2", "0"), "entry 1: share: Input should be greater than 0"),
        (A.replace("0.2", "1.5"), "entry 1: share: Input should be less than or equal to 1"),
        (A.replace("0.2", "nan"), "entry 1: share: Input should be"),
        (A.replace("0.2", "true"), "entry 1: share: Input should be a valid number"),
        (A.replace("0.2", '"20%"'), "entry 1: share: Input should be a valid number"),
        (A + "temperature = 3\n", "entry 1: temperature: Input should be less than or equal to 2"),
        (A + 'model = " "\n', "entry 1: model: String should have at least 1 character"),
        (A.replace('"a"', '"a:b"'), "entry 1: name: at most 40 letters"),
        (A.replace('"a"', '"control"'), "entry 1: 'control' is the name of those that no variant gets"),
        (A + A, "'a' is there 2 times"),
        (A.replace("0.2", "0.6") + A.replace("0.2", "0.5").replace('"a"', '"b"'), "their shares come to 1.1"),
        ('[variants]\nname = "a"\nshare = 0.2\n', "write each as [[variants]]"),
        ("variants = [1]\n", "entry 1: write each as [[variants]]"),
        ("variants = 1\n", "write each as [[variants]]"),
    ],
)
def test_a_variant_that_cannot_be_is_said_in_one_line(content: str, words: str) -> None:
    said = refusal(content)
    assert said.startswith("setting 'variants': ")
    assert words in said


MADE = Run(
    RunId(UUID(int=1)),
    date(2024, 3, 12),
    RunKind.NIGHTLY,
    RunState.FAILED,
    10,
    datetime(2024, 3, 12, tzinfo=UTC),
    "big",
    "language_model",
    0.1,
    load_templates().version,
    "0.1",
)


def ranker(*entries: VariantEntry) -> Ranker:
    tried = load_variants(None, entries)
    return Ranker("big", "http://127.0.0.1", "language_model", 0.1, tried[0].templates.version, definitions(tried))


def test_a_run_is_gone_on_with_under_the_variants_that_the_ledger_kept_of_it() -> None:
    now = ranker(VariantEntry(name="b", share=0.3), VariantEntry(name="a", share=0.1, model="small", temperature=0))
    kept = json.loads(json.dumps(list(now.variants)))
    require_resumable(replace(MADE, variants=kept), now)
    require_resumable(MADE, ranker())


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "'a' is not set now; set [[variants]] as they were"),
        ([VariantEntry(name="a", share=0.3)], "share of 'a' was 0.2, now it is 0.3"),
        ([VariantEntry(name="a", share=0.2, model="small")], "model of 'a' was the run's own, now it is small"),
        ([VariantEntry(name="a", share=0.2, temperature=1)], "temperature of 'a' was the run's own, now it is 1.0"),
        ([VariantEntry(name="a", share=0.2), VariantEntry(name="b", share=0.2)], "'b' was not among them"),
    ],
)
def test_a_run_is_not_gone_on_with_under_other_variants(entries: list[VariantEntry], words: str) -> None:
    made = replace(MADE, variants=ranker(VariantEntry(name="a", share=0.2)).variants)
    with pytest.raises(RunConflictError, match=re.escape(words)) as refused:
        require_resumable(made, ranker(*entries))
    assert "\n" not in str(refused.value)


def test_a_run_is_not_gone_on_with_under_another_prompt(tmp_path: Path) -> None:
    (tmp_path / "system.md").write_text("Rank.")
    (tmp_path / "customer.md").write_text("$products $profile $asked")
    other = replace(ranker(), prompt_version=load_templates(tmp_path).version)
    with pytest.raises(RunConflictError, match="with that recstream and that `prompt` folder"):
        require_same_prompts(MADE, other)


def test_a_prompt_folder_that_is_not_there_is_said_before_anything_begins() -> None:
    with pytest.raises(ConfigurationError, match="the prompt folder nowhere is not there"):
        load_variants(None, [VariantEntry(name="a", share=0.5, prompt=Path("nowhere"))])
