"""Finds the item objects in an answer's text while it arrives, without I/O, in one pass.

An item is an object that stands alone, in a row of others, or directly in a list: `{"recommendations": [ITEM, ITEM]}`
under any key, `[ITEM, ITEM]`, `ITEM ITEM`, one a line, with prose or code fences around. Only balanced objects come
out: what was cut is never an item. Objects inside an item stay inside it; an object that holds nothing but an empty
list is a list without items, not an item.
"""

import re
from collections.abc import Iterator

from pipeline.errors import AnswerCutError

MAX_ITEM_CHARACTERS = 100_000
MAX_DEPTH = 64
MAX_BLANKS = 1_000  # between a bracket in prose and what follows it: models can get lost in blanks
_OUTSIDE = re.compile(r"[{\[]")
_INSIDE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')
_ITEM_KEY = re.compile(r'"(?:i|s|product_id|product_name|relevance_score)"\s*:')
_EMPTY_LIST = re.compile(r'\{\s*"[^"\\]*"\s*:\s*\[\s*\]\s*\}')
_BLANKS = re.compile(r"\s*")
_PARTNER = {"}": "{", "]": "["}
_FOLLOWERS = {"{": ('"', "}"), "[": ("{",)}  # what makes JSON of a bracket in prose


class ObjectScanner:
    """Scans one answer. `feed` may be called with any split of the text; the items do not depend on the split."""

    def __init__(self) -> None:
        self._text = ""  # what is kept: from the start of the open item, or of an undecided bracket
        self._at = 0  # up to here `_text` has been looked at
        self._open: list[str] = []  # the brackets around the current place
        self._item: int | None = None  # where in `_text` the open item begins
        self._item_depth = 0  # brackets that were open before it
        self._may_wrap = False  # it stands in no list and has shown no key of an item: it may hold the list of items
        self._in_string = False

    @property
    def unfinished(self) -> bool:
        """True inside an object that has not ended: the answer, if it ends here, was cut."""
        return self._item is not None

    def feed(self, text: str) -> Iterator[str]:
        """Yield the raw text of each item that `text` completes.

        Raises:
            AnswerCutError: an item exceeds the bounds in size or depth.
        """
        self._text += text
        while self._step():
            if self._item is not None and len(self._open) == self._item_depth:
                raw = self._end_item(self._item)
                if raw is not None:
                    yield raw
        self._forget()

    def _step(self) -> bool:
        """Go to the next character that matters and take it; False when more text is needed."""
        if self._in_string:
            return self._step_in_string()
        if not self._open:
            return self._step_outside()
        found = _INSIDE.search(self._text, self._at)
        if found is None:
            self._at = len(self._text)
            return False
        self._at = found.end()
        character = found.group()
        if character == '"':
            self._in_string = True
        elif character in _PARTNER:
            self._close(character)
        else:
            self._enter(character, found.start())
        return True

    def _step_in_string(self) -> bool:
        found = _IN_STRING.search(self._text, self._at)
        if found is None:
            self._at = len(self._text)
            return False
        if found.group() == "\\":
            if found.end() == len(self._text):
                self._at = found.start()
                return False
            self._at = found.end() + 1
        else:
            self._at = found.end()
            self._in_string = False
        return True

    def _step_outside(self) -> bool:
        """In prose a bracket counts only if what follows it could be JSON."""
        found = _OUTSIDE.search(self._text, self._at)
        if found is None:
            self._at = len(self._text)
            return False
        blanks = _BLANKS.match(self._text, found.end(), found.end() + MAX_BLANKS)
        following = found.end() if blanks is None else blanks.end()
        if following == len(self._text):
            self._at = found.start()
            return False
        self._at = found.end()
        if self._text[following : following + 1] in _FOLLOWERS[found.group()]:
            self._enter(found.group(), found.start())
        return True

    def _enter(self, bracket: str, at: int) -> None:
        if bracket == "{" and self._begins_item(at):
            self._may_wrap = not self._in_list()
            self._item, self._item_depth = at, len(self._open)
        self._open.append(bracket)
        if len(self._open) > MAX_DEPTH:
            raise AnswerCutError(
                f"the answer nests deeper than {MAX_DEPTH} levels: it is not a list of recommendations"
            )

    def _begins_item(self, at: int) -> bool:
        if self._item is None:
            return not self._open or self._in_list()
        if not (self._may_wrap and self._in_list()):
            return False
        self._refuse_beyond_bound(at - self._item)
        self._may_wrap = _ITEM_KEY.search(self._text, self._item, at) is None
        return self._may_wrap  # what seemed an item is the object around the list of items

    def _in_list(self) -> bool:
        return bool(self._open) and self._open[-1] == "["

    def _close(self, bracket: str) -> None:
        if bracket == "}" and self._item is not None:
            while self._open[-1] == "[":  # a list that was not closed spoils its own item, not those that follow
                self._open.pop()
        if self._open[-1] == _PARTNER[bracket]:
            self._open.pop()

    def _end_item(self, begin: int) -> str | None:
        raw, self._item = self._text[begin : self._at], None
        self._refuse_beyond_bound(len(raw))
        return None if self._may_wrap and _EMPTY_LIST.fullmatch(raw) else raw

    def _forget(self) -> None:
        keep_from = self._at if self._item is None else self._item
        self._text = self._text[keep_from:]
        self._at -= keep_from
        if self._item is not None:
            self._item = 0
        self._refuse_beyond_bound(len(self._text))

    def _refuse_beyond_bound(self, size: int) -> None:
        if size > MAX_ITEM_CHARACTERS:
            raise AnswerCutError(f"an object of the answer exceeds {MAX_ITEM_CHARACTERS:,} characters")
