"""The settings: flags over environment over file over defaults, and one line for each mistake."""

from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.gates import Gates
from pipeline.settings import SETTINGS_FILE, Settings, load_settings


def write_file(content: str | bytes) -> None:
    Path(SETTINGS_FILE).write_bytes(content if isinstance(content, bytes) else content.encode())


def refusal(**flags: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def key_of(settings: Settings) -> str | None:
    return settings.openai_api_key.get_secret_value() if settings.openai_api_key is not None else None


def test_with_nothing_set_the_offline_ranker_answers_and_postgres_is_embedded() -> None:
    settings = load_settings()
    assert settings.offline
    assert settings.database_url is None
    assert (settings.temperature, settings.slate_size, settings.home) == (0.1, 10, Path(".recstream"))


@pytest.mark.parametrize(
    "flags", [{"openai_api_key": "key"}, {"openai_base_url": "http://localhost:8000/v1"}], ids=["key", "base URL"]
)
def test_a_key_or_a_base_url_ends_the_offline_ranking(flags: dict[str, str]) -> None:
    assert not load_settings(**flags).offline


def test_a_flag_goes_before_the_environment_and_that_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write_file('model = "file"\nopenai_api_key = "file"\ndatabase_url = "postgresql://file/db"\nslate_size = 3\n')
    assert (load_settings().model, key_of(load_settings()), load_settings().slate_size) == ("file", "file", 3)
    monkeypatch.setenv("RECSTREAM_MODEL", "environment")
    monkeypatch.setenv("OPENAI_API_KEY", "environment")
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment/db")
    monkeypatch.setenv("RECSTREAM_SLATE_SIZE", "4")
    settings = load_settings()
    assert (settings.model, key_of(settings), settings.slate_size) == ("environment", "environment", 4)
    assert settings.database_url == "postgresql+psycopg://environment/db"
    settings = load_settings(model="flag", openai_api_key="flag", database_url="postgresql://flag/db", slate_size=5)
    assert (settings.model, key_of(settings), settings.slate_size) == ("flag", "flag", 5)
    assert settings.database_url == "postgresql+psycopg://flag/db"


def test_a_flag_that_is_none_and_an_empty_variable_count_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("RECSTREAM_TEMPERATURE", "")
    settings = load_settings(temperature=None, model=None)
    assert settings.offline
    assert settings.temperature == 0.1


def test_a_misspelt_setting_in_the_file_is_named() -> None:
    write_file("slate_sice = 3\n")
    assert "slate_sice" in refusal()
    assert SETTINGS_FILE in refusal()


_DAYS = 'must be a number of days from 0 to 36500, or "ever"'


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("[rules]\nbought_day = 3", "setting 'rules.bought_day' is unknown: it has bought_days, bought_days_of, "),
        ("[rules]\nbought_days = -3", f"setting 'rules.bought_days': {_DAYS} (set by"),
        ("[rules]\nbought_days = 'never'", f"setting 'rules.bought_days': {_DAYS}"),
        ("[rules]\nbought_days = true", f"setting 'rules.bought_days': {_DAYS}"),
        ("[rules]\nbought_days_of = {Books = -1}", f"setting 'rules.bought_days_of.Books': {_DAYS}"),
        ("[rules]\nrefused_days = 'x'", "setting 'rules.refused_days': "),
        ("[rules]\nmost_per_brand = 1.5", "setting 'rules.most_per_brand': "),
        ("rules = 3", "setting 'rules': is a table: write [rules] and below it any of bought_days, bought_days_of"),
    ],
)
def test_a_rule_that_is_wrong_is_named_itself(rules: str, said: str) -> None:
    write_file(rules)
    assert refusal().startswith(said)


def test_days_of_rules_are_numbers_or_ever() -> None:
    write_file("[rules]\nbought_days = 'ever'\nbought_days_of = {Books = 0, Coffee = 'ever'}")
    rules = load_settings().rules
    days = [rules.bought_days_in(category) for category in (None, "Books", "Coffee")]
    assert days == [float("inf"), 0, float("inf")]


@pytest.mark.parametrize("content", ["model = ", b'model = "\xff"', "= 1"], ids=["half a line", "no UTF-8", "no name"])
def test_a_file_that_is_no_toml_is_named(content: str | bytes) -> None:
    write_file(content)
    assert SETTINGS_FILE in refusal()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "hot"),
        ("temperature", "nan"),
        ("temperature", "-1"),
        ("temperature", "3"),
        ("slate_size", "0"),
        ("slate_size", "many"),
        ("attempts", "0"),
        ("time_zone", "Mars/Olympus"),
        ("idle_timeout_s", "0"),
        ("connect_timeout_s", "nan"),
        ("model", " "),
        ("gate_served_share", "1.1"),
        ("gate_rows_per_slate", "-1"),
        ("gate_refused_share", "nan"),
        ("gate_worsening", "2"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_the_setting_s_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"RECSTREAM_{name.upper()}", value)
    assert repr(name) in refusal()


def test_each_gate_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().gates == Gates()
    wanted = Gates(served_share=0.25, rows_per_slate=7.5, refused_share=0.125, worsening=1)
    for name, value in asdict(wanted).items():
        monkeypatch.setenv(f"RECSTREAM_GATE_{name.upper()}", str(value))
    assert load_settings().gates == wanted


@pytest.mark.parametrize("url", ["", "http://", "http://[::1", "http://h:99999/v1", "http://a b/v1", "ftp://h", "h/v1"])
def test_a_base_url_that_cannot_be_one_is_refused(url: str) -> None:
    assert "'openai_base_url'" in refusal(openai_base_url=url)


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "https://api.openai.com/v1", "http://[::1]:8000/v1", "http://user:word@host"]
)
def test_a_base_url_is_taken_without_a_slash_at_its_end(url: str) -> None:
    assert load_settings(openai_base_url=f"{url}/").openai_base_url == url


@pytest.mark.parametrize("url", ["mysql://h/db", "host/db", ""])
def test_a_database_url_that_is_not_postgres_is_refused(url: str) -> None:
    assert "'database_url'" in refusal(database_url=url)


@pytest.mark.parametrize("url", ["postgresql://h/db", "postgres://h/db", "postgresql+psycopg://h/db"])
def test_every_spelling_of_a_postgres_url_means_psycopg(url: str) -> None:
    assert load_settings(database_url=url).database_url == "postgresql+psycopg://h/db"


@pytest.mark.parametrize("key", ["", " ", "clé", "two\nlines"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    told = refusal(openai_api_key=key)
    assert "'openai_api_key'" in told
    assert not key.strip() or key not in told


def test_a_key_loses_the_line_end_of_the_file_it_was_read_from() -> None:
    assert key_of(load_settings(openai_api_key="key\n")) == "key"


def test_secrets_are_not_in_the_text_of_the_settings() -> None:
    assert "hidden" not in repr(load_settings(openai_api_key="hidden"))


@pytest.mark.parametrize("name", ["budget_per_run", "budget_per_day", "token_budget_per_run", "token_budget_per_day"])
def test_a_cap_of_nothing_is_refused_and_says_what_to_do(name: str) -> None:
    assert "a cap of 0 allows nothing: unset it" in refusal(**{name: 0})
    assert name in refusal(**{name: 0})
    assert "must be more than 0" in refusal(**{name: -1})
    assert getattr(load_settings(), name) is None
    assert getattr(load_settings(**{name: 5}), name) == 5


def test_a_cap_is_an_exact_amount_wherever_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    write_file("budget_per_day = 0.1\n")
    monkeypatch.setenv("RECSTREAM_BUDGET_PER_RUN", "0.3")
    assert (load_settings().budget_per_run, load_settings().budget_per_day) == (Decimal("0.3"), Decimal("0.1"))
    for wrong in ("nan", "Infinity", "ten"):
        monkeypatch.setenv("RECSTREAM_BUDGET_PER_RUN", wrong)
        assert "budget_per_run" in refusal()


def test_a_slow_service_tier_is_waited_for_longer_unless_a_person_says_how_long() -> None:
    assert (load_settings().first_byte_patience_s, load_settings().answer_patience_s) == (60, 300)
    flex = load_settings(service_tier="flex")
    assert (flex.first_byte_patience_s, flex.answer_patience_s) == (900, 900)
    said = load_settings(service_tier="flex", first_byte_timeout_s=5)
    assert (said.first_byte_patience_s, said.answer_patience_s) == (5, 900)
    assert load_settings(service_tier="priority").first_byte_patience_s == 60


def test_a_service_tier_is_one_word() -> None:
    assert "service_tier" in refusal(service_tier="Flex tier")


def test_a_cap_that_is_misspelt_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSTREAM_BUDGET_PER_RUNN", "4")
    with pytest.raises(ConfigurationError, match=r"_PER_RUNN in the environment: is RECSTREAM_BUDGET_PER_RUN meant"):
        load_settings()
