"""Reads a prompt back into what it says: the products, what the customer likes, and how many to rank.

Two forms are understood. The first is a line `Products:` with lines `NUMBER. text` under it. The second is a
line that asks to rank the products and ends with a colon, with lines `NUMBER text` or `ID text` under it. The
first list of a prompt counts. It ends at an empty line or at the first line of another shape, and everything
outside it is the profile.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

_PLAIN_HEADING = re.compile(r"(?:candidate )?(?:products|candidates)\s*:", re.IGNORECASE)
_ASKING_HEADING = re.compile(r"\brank\b.*\b(?:products?|candidates)\b", re.IGNORECASE)
_INSTRUCTION = re.compile(r"^\s*rank\b", re.IGNORECASE)
_WANTED = re.compile(r"\brank\s+the\s+(\d{1,6})\s+most\s+relevant\b", re.IGNORECASE)
_LABEL = re.compile(r"^\s*([^:\d]{2,60}?)\s*:\s*(.*)$")
_PRICE = re.compile(r"^\W{0,4}(\d[\d,]*(?:\.\d+)?)$")
_AMOUNT = re.compile(r"\d[\d,]*(?:\.\d+)?")
_STARS = re.compile(r"^(.+?)\s*:\s*(\d(?:\.\d+)?)\b")
_PHRASE_END = re.compile(r"[,;]")

# A prompt may be anything that a client sends: what is longer than these cannot be a profile worth more time.
_LONGEST_HEADING = 300
_LONGEST_PHRASE = 200
_MOST_WISHES = 2_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One product to rank. `number` is what the prompt calls it; `labels` are its brand and category."""

    number: str
    name: str
    description: str
    labels: tuple[str, ...]
    price: float | None


@dataclass(frozen=True, slots=True)
class Wish:
    """Some words of the profile and how much they weigh; below zero they speak against a product."""

    phrase: str
    weight: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What one prompt says. `wanted` and `spend` (money a month) are None where it does not say."""

    candidates: tuple[Candidate, ...]
    wishes: tuple[Wish, ...]
    spend: float | None
    wanted: int | None


def read_prompt(text: str) -> Reading:
    """Read the text of a prompt. A text that lists no products has no candidates; it is no error."""
    candidates: dict[str, Candidate] = {}
    profile: list[str] = []
    lines = iter(text.split("\n"))
    for line in lines:
        if not candidates and _is_list_heading(line):
            entries, first_line_after = _take_entries(lines)
            for entry in entries:
                candidates.setdefault(entry.number, entry)
            profile.extend(first_line_after)
        else:
            profile.append(line)
    wanted = _WANTED.findall(text)
    return Reading(
        candidates=tuple(candidates.values()),
        wishes=tuple(islice(_wishes(profile), _MOST_WISHES)),
        spend=_spend(profile),
        wanted=int(wanted[-1]) if wanted else None,
    )


def _is_list_heading(line: str) -> bool:
    text = line.strip()
    if not text.endswith(":") or len(text) > _LONGEST_HEADING:
        return False
    return bool(_PLAIN_HEADING.fullmatch(text) or _ASKING_HEADING.search(text))


def _take_entries(lines: Iterator[str]) -> tuple[list[Candidate], list[str]]:
    """Take the list off `lines`; the second part is the line of another shape that ended it, if any."""
    entries: list[Candidate] = []
    numbered: bool | None = None
    for line in lines:
        if not line.strip():
            if entries:
                break
            continue
        number, _, text = line.strip().partition(" ")
        has_digit = any(map(str.isdigit, number))
        if not text or _INSTRUCTION.match(line) or (numbered and not has_digit):
            return entries, [line]
        numbered = has_digit if numbered is None else numbered
        entries.append(_candidate(number.rstrip(".):"), text))
    return entries, []


def _candidate(number: str, text: str) -> Candidate:
    title, *fields = (part.strip() for part in text.split(" | "))
    name, _, description = title.partition(" - ")
    price = _PRICE.match(fields[-1]) if fields else None
    return Candidate(
        number=number,
        name=name,
        description=description,
        labels=tuple(field for field in (fields[:-1] if price else fields) if field),
        price=_money(price[1]) if price else None,
    )


def _money(text: str) -> float:
    return float(text.replace(",", ""))


def _segments(profile: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each line of the profile with its label in small letters, "" where it has none."""
    label = ""
    for line in profile:
        if not line.strip():
            label = ""
            continue
        labelled = None if line.lstrip().startswith(("- ", "* ")) else _LABEL.match(line)
        if labelled:
            label = labelled[1].casefold()
        value = labelled[2] if labelled else line
        if value.strip() and not _INSTRUCTION.match(line):
            yield label, value


def _wishes(profile: Iterable[str]) -> Iterator[Wish]:
    for label, value in _segments(profile):
        read = next((read for keyword, read in _SEGMENTS if keyword in label), _listed_free)
        yield from read(value)


def _spend(profile: Iterable[str]) -> float | None:
    for label, value in _segments(profile):
        amount = _AMOUNT.search(value) if "spend" in label else None
        if amount:
            return _money(amount[0])
    return None


def _phrases(value: str) -> Iterator[str]:
    return (phrase.strip()[:_LONGEST_PHRASE] for phrase in _PHRASE_END.split(value) if phrase.strip())


def _listed(value: str, *, weight: float, fading: float) -> Iterator[Wish]:
    """Weigh a list that is written newest first: each phrase counts `fading` times the one before it."""
    for place, phrase in enumerate(_phrases(value)):
        yield Wish(phrase, weight * fading**place)


def _rated(value: str) -> Iterator[Wish]:
    for phrase in _phrases(value):
        stars = _STARS.match(phrase)
        if stars:
            yield Wish(stars[1], (float(stars[2]) - 3) * 0.6)


def _answered(value: str) -> Iterator[Wish]:
    for phrase in _phrases(value):
        refused = re.search(r"\bnot[ _-]interested\b|\bdislike|\brejected\b", phrase, re.IGNORECASE)
        yield Wish(phrase, -4.0 if refused else 1.5)


def _silent(_value: str) -> Iterator[Wish]:
    """Read a segment that says nothing about products."""
    return iter(())


_listed_free = partial(_listed, weight=0.4, fading=0.98)

_SEGMENTS: tuple[tuple[str, Callable[[str], Iterator[Wish]]], ...] = (
    ("response", _answered),
    ("rating", _rated),
    ("search", partial(_listed, weight=2.5, fading=0.85)),
    ("purchase", partial(_listed, weight=1.2, fading=0.9)),
    ("brand", partial(_listed, weight=2.0, fading=0.97)),
    ("categor", partial(_listed, weight=1.5, fading=0.95)),
    ("spend", _silent),
    ("loyal", _silent),
    ("time", _silent),
    ("customer id", _silent),
)
