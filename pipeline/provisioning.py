"""The endpoint to ask: the one that is configured, or the offline ranker where none is, which is said aloud."""

import atexit
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from typing import Literal

from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.process import offline_ranker
from pipeline.refusals import SettingNames
from pipeline.settings import OFFLINE_MODEL, Settings
from pipeline.streaming import Endpoint
from pipeline.terms import StructuredOutput, Terms

_STARTING = threading.Lock()  # several threads that ask at once still get one ranker
OPENAI_BASE_URL = "https://api.openai.com/v1"
OFFLINE_NOTICE = (
    "recstream: neither OPENAI_API_KEY nor OPENAI_BASE_URL is set: the offline ranker answers, "
    "by word overlap, which is no language model's judgement"
)


@contextmanager
def provided_endpoint(settings: Settings) -> Iterator[Endpoint]:
    """The endpoint to ask, which lives at least as long as the context.

    Raises:
        ConfigurationError: a key or base URL is set, but no model; or the offline ranker cannot be started.
    """
    if not settings.offline:
        yield _configured_endpoint(settings)
        return
    print(OFFLINE_NOTICE, file=sys.stderr)
    with offline_ranker(tokens_per_second=settings.offline_tokens_per_second) as ranker:
        yield _endpoint(settings, ranker.base_url, api_key="offline", model=OFFLINE_MODEL)


def endpoint_for_this_process(settings: Settings) -> Endpoint:
    """As `provided_endpoint`, with an offline ranker that lives as long as the process."""
    if not settings.offline:
        return _configured_endpoint(settings)
    with _STARTING:
        base_url = _base_url_of_lasting_ranker(settings.offline_tokens_per_second)
    return _endpoint(settings, base_url, api_key="offline", model=OFFLINE_MODEL)


def fallback_endpoint(settings: Settings, own: Endpoint) -> Endpoint | None:
    """Where to ask when the run's own way fails; None where the settings name no other. What they leave out is its own.

    But the key goes to no other address than its own: who needs one there sets `fallback_api_key`.

    Raises:
        ConfigurationError: the fallback is the run's own way once more.
    """
    if not settings.has_fallback:
        return None
    base_url = settings.fallback_base_url or own.base_url
    key = own.api_key if base_url == own.base_url else "none"
    if settings.fallback_api_key is not None:
        key = settings.fallback_api_key.get_secret_value()
    fallback = _endpoint(
        settings,
        base_url,
        api_key=key,
        model=settings.fallback_model or own.model,
    )
    if (fallback.base_url, fallback.model, key) == (own.base_url, own.model, own.api_key):
        raise ConfigurationError(
            f"the fallback is {own.model} at {own.address} too, as the run's own way is: name another fallback_model, "
            "fallback_base_url or fallback_api_key, or none"
        )
    return replace(fallback, names=_names_of_fallback(settings, own))


def _names_of_fallback(settings: Settings, own: Endpoint) -> SettingNames:
    """What it does not have from the run's own way is set by settings of its own."""
    elsewhere = settings.fallback_base_url is not None and settings.fallback_base_url != own.base_url
    return SettingNames(
        api_key="RECSTREAM_FALLBACK_API_KEY" if elsewhere or settings.fallback_api_key else own.names.api_key,
        base_url="RECSTREAM_FALLBACK_BASE_URL" if settings.fallback_base_url else own.names.base_url,
        model="RECSTREAM_FALLBACK_MODEL" if settings.fallback_model else own.names.model,
    )


def varied_endpoint(settings: Settings, own: Endpoint, model: str | None, temperature: float | None) -> Endpoint:
    """The run's own endpoint with another model, another temperature, or both; None leaves what it has."""
    if model is None or model == own.model:
        return own if temperature is None else replace(own, temperature=temperature)
    varied = _endpoint(settings, own.base_url, api_key=own.api_key, model=model)
    return replace(varied, temperature=own.temperature if temperature is None else temperature)


@cache
def _base_url_of_lasting_ranker(tokens_per_second: float) -> str:
    print(OFFLINE_NOTICE, file=sys.stderr)
    lasting = ExitStack()
    ranker = lasting.enter_context(offline_ranker(tokens_per_second=tokens_per_second))
    atexit.register(lasting.close)
    return ranker.base_url


def _configured_endpoint(settings: Settings) -> Endpoint:
    if settings.model is None:
        raise ConfigurationError("no model is named: set RECSTREAM_MODEL (or `model` in recstream.toml, or --model)")
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key is not None else "none"
    return _endpoint(settings, settings.openai_base_url or OPENAI_BASE_URL, api_key=key, model=settings.model)


@cache
def _terms_of(base_url: str, model: str, wanted: str, service_tier: str | None, reasoning_tokens: int) -> Terms:
    """What an endpoint takes is learnt once in a process, whoever asks it."""
    del model  # is part of the key: one model of an endpoint may take what another does not
    output: Literal["auto"] | StructuredOutput = "auto" if wanted == "auto" else StructuredOutput(wanted)
    return Terms(base_url, output, service_tier=service_tier, reasoning_tokens=reasoning_tokens)


def _endpoint(settings: Settings, base_url: str, *, api_key: str, model: str) -> Endpoint:
    return Endpoint(
        base_url=base_url,
        api_key=api_key,
        model=model,
        temperature=settings.temperature,
        connect_timeout_s=settings.connect_timeout_s,
        first_byte_timeout_s=settings.first_byte_patience_s,
        idle_timeout_s=settings.idle_timeout_s,
        answer_timeout_s=settings.answer_patience_s,
        terms=_terms_of(base_url, model, settings.structured_output, settings.service_tier, settings.reasoning_tokens),
        is_offline_ranker=model == OFFLINE_MODEL,
    )
