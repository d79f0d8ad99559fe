"""What an endpoint's error means for us: which of our errors it is, its own words (bounded), and how long to wait."""

import html
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.errors import EndpointFatalError, EndpointRefusedError, PromptRefusedError, RateLimitedError
from pipeline.providers import FATAL_CODES, FATAL_WORDS, NO_CREDIT_CODES, PROMPT_CODES, RATE_LIMIT_CODES

SOMEWHERE = "the endpoint"
"""How a refusal's message begins until its address is known."""
MAX_WORDS = 300
MOST_HEARD = 2_000
"""Characters of an endpoint's words that are searched for their meaning."""
MAX_WAIT_S = 86_400.0  # who asks for more than a day has made a mistake
_MAX_PARTS = 8  # of an error that is a list
_MAX_DEPTH = 4  # of an error inside an error
_MAX_PLACE = 8  # steps of the way to a field
_MAX_RAW = 65_536  # characters of an error that is quoted as JSON text
_FATAL_STATUSES = {401, 402, 403, 404, 405, 407}
_TRANSIENT_STATUSES = {408, 409, 425}
_NO_CREDIT = "the account has no credit left: add some, or use another OPENAI_API_KEY"
_ADVICE = {
    401: "check OPENAI_API_KEY",
    402: _NO_CREDIT,
    403: "check what OPENAI_API_KEY may do",
    404: "check RECSTREAM_MODEL and OPENAI_BASE_URL",
    405: "check OPENAI_BASE_URL",
    407: "check the user and the password in HTTP_PROXY and HTTPS_PROXY",
    413: "ask with fewer candidates",
    429: "wait, or ask for less at a time",
    501: "check RECSTREAM_MODEL and OPENAI_BASE_URL",
}
_ADVICE_BY_KIND = {
    EndpointRefusedError: "the fault is on that side: try again later",
    RateLimitedError: _ADVICE[429],
    PromptRefusedError: "ask with fewer candidates if it is too long, or of another RECSTREAM_MODEL",
    EndpointFatalError: "check OPENAI_API_KEY and RECSTREAM_MODEL",
}
_WORDS = ("message", "error", "detail", "msg", "errors", "title")  # where an error's words stand, the best first
_CODES = ("code", "type", "status")
_STATUSES = ("code", "status", "status_code")
_IS_PAGE = re.compile(r"\s*<(?:!doctype\s+html\b|!--|(?:html|head|body|title|h1|center|div|p)\b)", re.IGNORECASE)
_TITLE = re.compile(r"<title\b[^<>]*>([^<]*)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_AMOUNT = (
    r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|milli|s(?=ec|\b|\d)|m(?=in|\b|\d)|h(?=our|r|\b|\d))[a-z]*"  # 1m26.4s, 20 seconds
)
_WAIT = re.compile(rf"(?:try again|retry) (?:in|after) ((?:{_AMOUNT} ?){{1,3}})", re.ASCII | re.IGNORECASE)
_WAIT_PART = re.compile(_AMOUNT, re.ASCII | re.IGNORECASE)
_TOO_LARGE = re.compile(r"\brequest (?:is )?too large\b", re.IGNORECASE)  # OpenAI's 429 that no waiting cures
_UNIT_S = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class SettingNames:
    """The settings that say which endpoint is asked, as advice names them: those of a fallback are others."""

    api_key: str = "OPENAI_API_KEY"
    base_url: str = "OPENAI_BASE_URL"
    model: str = "RECSTREAM_MODEL"

    def put_into(self, message: str) -> str:
        """A refusal's message with these names in its advice, which stands last; the endpoint's words stay."""
        said, bracket, advice = message.rpartition(" (")
        for usual, ours in (
            (OWN_SETTINGS.api_key, self.api_key),
            (OWN_SETTINGS.base_url, self.base_url),
            (OWN_SETTINGS.model, self.model),
        ):
            advice = advice.replace(usual, ours)
        return said + bracket + advice


OWN_SETTINGS = SettingNames()
"""Those of a run's own endpoint."""


def refusal_of(
    error: object, *, status: int | None, retry_after: float | None, in_band: bool = False
) -> EndpointRefusedError:
    """Our error for an endpoint's error object or text, with its own words (bounded).

    `status` is the HTTP status, None for an error inside a stream, whose code may give one. `retry_after` is in
    seconds, None if no header said it: then the error's words may.
    """
    words, codes = _words_in(error, _MAX_DEPTH), _codes_of(error)
    if status is None:
        status = _status_in(error)
    said = f"answered {status}" if status is not None else "sent an error in its stream"
    kind = _kind(status, codes, words)
    return kind(
        f"{SOMEWHERE} {said}: {_quoted(words)} ({_advice(kind, status, codes)})",
        status=status,
        retry_after=_wait_in(bounded(words)) if retry_after is None else retry_after,
        in_band=in_band,
        words=words[:MOST_HEARD],
    )


def words_of(error: object) -> str:
    """An error's own words in one line of at most 300 characters, wherever its dialect puts them."""
    return _quoted(_words_in(error, _MAX_DEPTH))


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """How long these headers ask to wait, in seconds from 0 to a day; None if they do not say.

    Reads `retry-after-ms` (Azure's), and `retry-after` as seconds or as an HTTP date, held against the answer's own.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    seconds = _seconds(said)
    return _seconds_until(said, headers.get("date")) if seconds is None and said is not None else seconds


def bounded(words: str | bytes) -> str:
    """The words in one line of printable characters, cut to 300 of them."""
    if len(words) > MAX_WORDS * 20:
        words = words[: MAX_WORDS * 20]  # a megabyte need not be split into words to keep a line of it
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    text = " ".join(text.split())
    if not text.isprintable():  # half a surrogate pair breaks every terminal, U+0000 the database
        text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"


def _quoted(words: str) -> str:
    return bounded(words) or "it gives no reason"


def _words_in(error: object, depth: int) -> str:
    if isinstance(error, str):
        return _words_of_page(error) if error.lstrip()[:1] == "<" else error
    if not depth or not isinstance(error, dict | list):
        return ""
    if isinstance(error, list):
        return next((words for part in error[:_MAX_PARTS] if (words := _words_in(part, depth - 1))), "")
    fields = error
    found = (_words_in(fields.get(name), depth - 1) for name in _WORDS)
    words = next((words for words in found if words.strip()), "") or _code_text(fields)
    place, behind = _place(fields), _words_behind(fields, depth)
    if words and place not in words:
        words = f"{place}: {words}"
    return words if behind in words else f"{words}: {behind}" if words else behind


def _words_behind(fields: dict[str, Any], depth: int) -> str:
    """The words of the endpoint behind this one, which OpenRouter passes on as text or JSON: its own say nothing."""
    metadata = fields.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    try:
        said = json.loads(raw) if isinstance(raw, str) and len(raw) <= _MAX_RAW else raw
    except (ValueError, RecursionError):
        said = raw
    words = _words_in(said, depth - 1)
    return words or (raw if isinstance(raw, str) else "")


def _words_of_page(page: str) -> str:
    """What a web page in the place of an error is called, or the text of another document in angle brackets."""
    page = page[:_MAX_RAW]
    title = _TITLE.search(page)
    name = bounded(html.unescape(_TAG.sub(" ", title[1]))) if title else ""
    if name:
        return f"a web page titled {name!r}"
    return "a web page without a title" if _IS_PAGE.match(page) else _TAG.sub(" ", page).strip() or page


def _place(fields: dict[str, Any]) -> str:
    """Which part of the request the error is about: OpenAI's `param`, or the `loc` of a validation."""
    place = fields.get("param") or fields.get("loc")
    if isinstance(place, list):
        place = ".".join(str(step) for step in place[:_MAX_PLACE] if isinstance(step, str | int))
    return place[:MAX_WORDS] if isinstance(place, str) else ""


def _code_text(fields: dict[str, Any]) -> str:
    return next((str(code) for name in _CODES if isinstance(code := fields.get(name), str | int) and code), "")


def _codes_of(error: object) -> set[str]:
    return {
        code.lower()
        for fields in _objects_in(error, _MAX_DEPTH)
        for name in _CODES
        if isinstance(code := fields.get(name), str)
    }


def _status_in(error: object) -> int | None:
    """The HTTP status that some endpoints give as an error's code."""
    for fields in _objects_in(error, _MAX_DEPTH):
        for name in _STATUSES:
            code = fields.get(name)
            if isinstance(code, str | int) and re.fullmatch(r"[45]\d\d", str(code), re.ASCII):
                return int(code)
    return None


def _objects_in(error: object, depth: int) -> list[dict[str, Any]]:
    """The error's object and those it wraps (`[{"error": {"error": ...}}]`), the outermost first."""
    if isinstance(error, list) and error and depth:
        return _objects_in(error[0], depth - 1)
    if not isinstance(error, dict):
        return []
    return [error, *(_objects_in(error.get("error"), depth - 1) if depth else [])]


def _advice(kind: type[EndpointRefusedError], status: int | None, codes: set[str]) -> str:
    if codes & NO_CREDIT_CODES:
        return _NO_CREDIT
    if status is not None and status < 400:
        return "check OPENAI_BASE_URL"
    return _ADVICE_BY_KIND[kind] if status is None else _ADVICE.get(status, _ADVICE_BY_KIND[kind])


def _kind(status: int | None, codes: set[str], words: str) -> type[EndpointRefusedError]:
    if status in _FATAL_STATUSES or codes & FATAL_CODES or words.startswith(FATAL_WORDS):
        return EndpointFatalError
    if codes & PROMPT_CODES or _TOO_LARGE.search(words[:MOST_HEARD]):
        return PromptRefusedError
    if status == 429 or codes & RATE_LIMIT_CODES:
        return RateLimitedError
    if status is not None and status not in _TRANSIENT_STATUSES and status < 500:
        return PromptRefusedError
    return EndpointRefusedError


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(seconds) or math.isinf(seconds) else min(max(seconds, 0.0), MAX_WAIT_S)


def _seconds_until(said: str, answered: str | None) -> float | None:
    """From the answer's own date on, where it has one: a wrong clock of ours does no harm then."""
    moment = _moment(said)
    if moment is None:
        return None
    begin = (None if answered is None else _moment(answered)) or datetime.now(UTC)
    return min(max((moment - begin).total_seconds(), 0.0), MAX_WAIT_S)


def _moment(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _wait_in(words: str) -> float | None:
    said = _WAIT.search(words)
    if said is None:
        return None
    parts = _WAIT_PART.findall(said[1])
    return min(sum(float(amount) * _UNIT_S[unit.lower()] for amount, unit in parts), MAX_WAIT_S)
