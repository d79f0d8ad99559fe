"""Reads the templates of a prompt from a folder, and refuses those that could not become one.

`system.md` is sent as it stands, the same for every customer. `customer.md` has a place for each of `$products`,
`$profile` and `$asked`; a dollar sign that is no place is written `$$`.
"""

import re
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from pipeline.errors import ConfigurationError
from pipeline.prompts.digest import digest

MOST_BYTES = 200_000
_PLACES = ("products", "profile", "asked")
_PLACE_IN_SYSTEM = re.compile(r"\$(?:[A-Za-z_]|\{)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Templates:
    """The two texts that prompts are made of: the static one, and the one with the places to fill in."""

    system: str
    customer: str

    @property
    def version(self) -> str:
        """Sixteen hex digits over both: the same text has the same version, everywhere."""
        return digest(self.system, self.customer)


def load_templates(folder: Path | None = None) -> Templates:
    """The templates `system.md` and `customer.md` of this folder, or recstream's own.

    White space around them and the way in which lines end make no other version.

    Raises:
        ConfigurationError: one is missing, empty, no UTF-8, or lacks a place; one line that names the file.
    """
    source: Traversable = files(__package__) if folder is None else _existing(folder.expanduser())
    system, customer = _read(source / "system.md"), _read(source / "customer.md")
    _require_static(system, source / "system.md")
    _require_places(customer, source / "customer.md")
    return Templates(system, customer)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "is not there"
        raise ConfigurationError(f"the prompt folder {folder} {what}: name one with system.md and customer.md in it")
    return folder


def _read(file: Traversable) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigurationError(f"the prompt template {file} is missing: write it beside the other") from error
    except OSError as error:
        raise ConfigurationError(f"the prompt template {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"the prompt template {file} is not UTF-8 (byte {error.start + 1}): save it as UTF-8"
        ) from error
    if len(content) > MOST_BYTES:
        raise ConfigurationError(f"the prompt template {file} has more than {MOST_BYTES:,} bytes: shorten it")
    return _sendable("\n".join(re.split(r"\r\n?|\n", text)).strip(), file)


def _sendable(text: str, file: Traversable) -> str:
    if not text:
        raise ConfigurationError(f"the prompt template {file} is empty: write into it what the model is told")
    odd = _CONTROL.search(text)
    if odd is not None:
        raise ConfigurationError(
            f"the prompt template {file} has the control character U+{ord(odd[0]):04X} "
            f"in line {_line(text, odd.start())}: remove it"
        )
    return text


def _require_static(text: str, file: Traversable) -> None:
    """What is the same for all customers comes first, where a provider can cache it: nothing is filled in there."""
    found = _PLACE_IN_SYSTEM.search(text)
    if found is not None:
        raise ConfigurationError(
            f"the prompt template {file} has a place to fill in, in line {_line(text, found.start())}: it is the same "
            "for every customer, so only customer.md has places"
        )


def _require_places(text: str, file: Traversable) -> None:
    found: Counter[str] = Counter()
    for place in Template.pattern.finditer(text):
        name = place["named"] or place["braced"]
        if place["escaped"] is None and name not in _PLACES:
            raise ConfigurationError(
                f"the prompt template {file} has {_quoted(text, place.start())} in line {_line(text, place.start())}: "
                "only $products, $profile and $asked are filled in; write $$ for a dollar sign"
            )
        if name is not None:
            found[name] += 1
    for name in _PLACES:
        if not found[name]:
            raise ConfigurationError(f"the prompt template {file} lacks ${name}: write it where that belongs")
        if found[name] > 1 and name != "asked":
            raise ConfigurationError(
                f"the prompt template {file} has ${name} {found[name]} times: it would be paid for each time, keep one"
            )


def _quoted(text: str, start: int) -> str:
    return repr(text[start : start + 20].partition("\n")[0])


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
