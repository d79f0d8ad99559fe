"""Finds the item objects in an answer's text while it arrives, without I/O, in one pass, linear in its length.

An item is an object of the answer that may be a recommendation:

- An object directly in a list is an item, whatever wraps the list and whatever the object holds.
- An object that is in no list (alone, one a line, the value of a key) is an item as soon as it shows an item key of its
  own. Until then it is undecided: if an item begins inside it, it is only a wrapper.
- An undecided object that ends outside of all others comes out too, for the judge to refuse, unless it held a list.

Only balanced objects come out: what was cut is never an item. What lies inside an item stays inside it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.prose import ProseReader

MAX_ITEM_CHARACTERS = 100_000
MAX_DEPTH = 64  # brackets beyond it are counted, not remembered
ITEM_KEYS = frozenset({"i", "s", "product_id", "product_name", "relevance_score"})
PAIRED_KEYS = frozenset({"id", "score"})  # each alone may be a wrapper's; both in one object make it an item
# Linear without possessive quantifiers, which Python 3.11.2 gets wrong: no two parts can match the same character.
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_REST_OF_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_FLAT_OBJECT = re.compile(r'\{[^{}\[\]"]*(?:' + _STRING + r'[^{}\[\]"]*)*\}', re.DOTALL)
_UP_TO_BRACKET = re.compile(r'[^{}\[\]"]*(?:' + _STRING + r'[^{}\[\]"]*)*', re.DOTALL)
_IN_LIST = re.compile(r'["{}\[\]]')
_IN_OBJECT = re.compile(r'["{}\[\],:]')


@dataclass(slots=True)
class _Bracket:
    """A bracket that is open outside of any item."""

    kind: str  # { or [
    begin: int
    undecided: bool  # an object that may turn out an item or a wrapper
    holds_list: bool = False
    expects_key: bool = True
    paired: str = ""  # which of the paired keys it has shown


class ObjectScanner:
    """Scans one answer. `feed` may be called with any split of the text; the items do not depend on the split.

    Places are counted from the start of the answer. Memory is bounded by the longest item, or MAX_ITEM_CHARACTERS.
    """

    def __init__(self, tags: Sequence[tuple[str, str]] = ()) -> None:
        self._prose = ProseReader(tags)
        self._text = ""
        self._base = 0  # the place of the text's first character
        self._at = 0  # up to here, in the text, all has been looked at
        self._kept: list[str] = []  # earlier text, from `_kept_from` on: what may belong to an item
        self._kept_from = 0
        self._outer: list[_Bracket] = []  # the brackets that are open, outside of an item
        self._inner: list[str] = []  # and inside it
        self._beyond = 0  # open brackets beyond MAX_DEPTH
        self._item = 0  # where the item begins, if `_inner` is not empty
        self._in_string: Literal["", "string", "escape"] = ""
        self._string = 0  # where that string begins
        self._found = 0

    @property
    def unfinished(self) -> bool:
        """True while a bracket is open, or reasoning that began after an item: an answer that ends here was cut."""
        return bool(self._inner or self._outer or (self._found and self._prose.in_reasoning))

    def feed(self, text: str) -> Iterator[str]:
        """Yield the raw text of each item that `text` completes; of one that is too long, a little over the bound.

        Raises:
            AnswerCutError: what seemed the answer turns out to have been reasoning.
        """
        self._text, self._at = self._prose.held + text, 0
        self._prose.held = ""
        while self._at < len(self._text):
            raw = self._step()
            if raw is not None:
                self._found += 1
                yield raw
        self._keep()

    def _step(self) -> str | None:
        if self._in_string:
            self._go_on_in_string()
        elif self._inner:
            return self._go_on_in_item()
        elif self._outer:
            return self._take_token()
        else:
            return self._leave_prose()
        return None

    # Outside of JSON

    def _leave_prose(self) -> str | None:
        begin = self._prose.seek(self._text, self._at, objects_before=self._found > 0)
        if begin is None:
            self._at = len(self._text) - len(self._prose.held)
            self._drop_held()
            return None
        self._at = begin
        raw = self._flat_object()
        if raw is None:
            self._open(self._text[begin])
        return raw

    def _drop_held(self) -> None:
        """What prose holds back comes again in front of the next text."""
        self._text = self._text[: self._at]

    def _flat_object(self) -> str | None:
        """The object that begins here, if it is whole and holds no other, as nearly every item of a fast answer."""
        flat = _FLAT_OBJECT.match(self._text, self._at)
        if flat is None or flat.end() - self._at > MAX_ITEM_CHARACTERS:
            return None
        self._at = flat.end()
        return flat.group()

    # In wrappers and lists

    def _take_token(self) -> str | None:
        """Take the next character that matters outside of items."""
        innermost = self._outer[-1]
        found = (_IN_OBJECT if innermost.kind == "{" else _IN_LIST).search(self._text, self._at)
        if found is None:
            self._at = len(self._text)
            return None
        self._at, mark = found.start(), found.group()
        if mark in "{[":
            return self._begin_bracket(mark)
        self._at += 1
        if mark in "}]":
            return self._close(mark)
        if mark == '"':
            self._begin_string()
        else:
            innermost.expects_key = mark == ","
        return None

    def _begin_bracket(self, bracket: str) -> str | None:
        raw = None
        if bracket == "{" and self._outer[-1].kind == "[" and not self._beyond:
            self._decide_wrappers()
            raw = self._flat_object()
        if raw is None:
            self._open(bracket)
        return raw

    def _open(self, bracket: str) -> None:
        place, in_list = self._base + self._at, bool(self._outer) and self._outer[-1].kind == "["
        self._at += 1
        if self._beyond:
            self._beyond += 1
        elif bracket == "{" and in_list:
            self._begin_item(place)
        elif len(self._outer) >= MAX_DEPTH:
            self._beyond += 1
        else:
            if bracket == "[":
                for outer in self._outer:
                    outer.holds_list = True
            self._outer.append(_Bracket(bracket, place, undecided=bracket == "{"))

    def _close(self, bracket: str) -> str | None:
        if self._beyond:
            self._beyond -= 1
            return None
        if bracket == "]":
            if self._outer[-1].kind == "[":
                self._outer.pop()
            return None
        while self._outer and self._outer[-1].kind == "[":  # a list that was not closed ends with its object
            self._outer.pop()
        if not self._outer:
            return None
        closed = self._outer.pop()
        is_wrapper = closed.holds_list and not closed.paired
        if self._outer or not closed.undecided or is_wrapper or self._is_too_long(closed.begin):
            return None
        return self._since(closed.begin)

    def _decide_wrappers(self) -> None:
        for outer in self._outer:
            outer.undecided = False

    def _begin_item(self, place: int) -> None:
        self._decide_wrappers()
        self._item = place
        self._inner.append("{")

    # Strings

    def _begin_string(self) -> None:
        """Just after the opening quote."""
        self._string = self._base + self._at - 1
        self._in_string = "string"

    def _go_on_in_string(self) -> None:
        if self._in_string == "escape":
            self._at += 1
            self._in_string = "string"
        rest = _REST_OF_STRING.match(self._text, self._at)
        self._at = len(self._text) if rest is None else rest.end()
        if self._at == len(self._text):
            return
        self._at += 1
        if self._text[self._at - 1] == "\\":
            self._in_string = "escape"
            return
        self._in_string = ""
        if not self._inner:
            self._end_outer_string()

    def _end_outer_string(self) -> None:
        """A key of its own tells an item from a wrapper."""
        innermost = self._outer[-1]
        if self._beyond or not (innermost.undecided and innermost.expects_key) or self._is_too_long(innermost.begin):
            return
        key = _key(self._since(self._string))
        if key in ITEM_KEYS or (key in PAIRED_KEYS and innermost.paired not in {"", key}):
            self._outer.pop()
            self._begin_item(innermost.begin)
        elif key in PAIRED_KEYS:
            innermost.paired = key

    # In an item

    def _go_on_in_item(self) -> str | None:
        """Go on to the next bracket; the item's text if that closes it."""
        skipped = _UP_TO_BRACKET.match(self._text, self._at)
        self._at = len(self._text) if skipped is None else skipped.end()
        if self._at == len(self._text):
            return None
        bracket = self._text[self._at]
        self._at += 1
        if bracket == '"':
            self._begin_string()
        elif bracket in "{[":
            self._open_inner(bracket)
        elif self._beyond:
            self._beyond -= 1
        else:
            self._close_inner(bracket)
        return None if self._inner else self._since(self._item)

    def _open_inner(self, bracket: str) -> None:
        if self._beyond or len(self._inner) >= MAX_DEPTH:
            self._beyond += 1
        else:
            self._inner.append(bracket)

    def _close_inner(self, bracket: str) -> None:
        if bracket == "]":
            if self._inner[-1] == "[":
                self._inner.pop()
            return
        while self._inner.pop() == "[":  # a list that was not closed spoils its own item, not those that follow
            pass

    # What is kept

    def _is_too_long(self, begin: int) -> bool:
        return self._base + self._at - begin > MAX_ITEM_CHARACTERS

    def _since(self, begin: int) -> str:
        """The text from a place up to here, cut a little over the bound."""
        end = min(self._at, begin + MAX_ITEM_CHARACTERS + 1 - self._base)
        if begin >= self._base:
            return self._text[begin - self._base : end]
        self._kept = ["".join(self._kept)]  # joined once: an object of many keys asks again and again
        return (self._kept[0][begin - self._kept_from :] + self._text[: max(end, 0)])[: MAX_ITEM_CHARACTERS + 1]

    def _keep(self) -> None:
        """Let go of the text, but for what may belong to an item."""
        end = self._base + len(self._text)
        begin = self._first_needed(end)
        if begin >= self._base:
            self._kept, self._kept_from = ([self._text[begin - self._base :]] if begin < end else []), begin
        elif self._base - begin <= MAX_ITEM_CHARACTERS:
            self._kept.append(self._text)
        self._base = end

    def _first_needed(self, end: int) -> int:
        if self._inner:
            return self._item
        for outer in self._outer:
            if outer.undecided and end - outer.begin <= MAX_ITEM_CHARACTERS:
                return outer.begin
            outer.undecided = False  # no item is so long
        return end


def _key(string: str) -> str:
    if "\\" not in string:
        return string[1:-1]
    try:
        return str(json.loads(string, strict=False))
    except ValueError:
        return ""
