"""Says whether a text mentions a customer, and takes the mention out. Plain functions, without I/O.

An id is looked for with its borders: customer `12` is not in `123`, nor in `12-7`, `0.12`, `12:3` or `12.b`, and
`ann@example.org` not in `mary.ann@example.org` or `ann@example.org.uk`. An id that could as well
be another thing (a short number, a word) counts in running text only where recstream writes of a customer: `customer
'12'`, `on-demand 12`. One that is hardly anything else (`ann@example.org`, `c-1729`, eight digits) counts wherever it
stands. An id without a letter or digit is compared as a whole: with a quoted value, or with a line.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pipeline.domain import CustomerId

ERASED: Final = "[erased]"

_LONG_NUMBER = 8
_LONG_WORD = 12
_SHORT_CODE = 4
# A letter after a backslash is part of a JSON escape, and no letter of a word.
_BEGIN = r"(?:(?<=\\[nrtbf])|(?<![\w@-])(?<!\w[.:/+]))"
_END = r"(?![\w@-])(?![.:/+]\w)"
_BEGIN_OF_MAIL = r"(?:(?<=\\[nrtbf])|(?<![\w.+@-]))"
_END_OF_MAIL = r"(?![\w@+-])(?!\.\w)"
_NAMED = r"""(?P<before>\b(?:customer(?:_?id)?|on-demand)\\?["']?\s*[:=]?\s*\\?["']?)(?<!\w)"""
_QUOTED = r"""(?P<before>\bcustomer(?:_?id)?\\?["']?\s*[:=]?\s*(?P<quote>\\?["']))"""


@dataclass(frozen=True)
class Mentions:
    """The mentions of one customer."""

    customer_id: CustomerId

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """The id as plain text, JSON, Python's, SQL's and CSV's quotes have it: a text without any has no mention."""
        plain = str(self.customer_id)
        json_forms = (json.dumps(plain, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
        doubled = (plain.replace("'", "''"), plain.replace('"', '""'))
        return tuple(dict.fromkeys((plain, *json_forms, repr(plain)[1:-1], *doubled)))

    @cached_property
    def is_distinctive(self) -> bool:
        """True of an id that is hardly anything else than an id."""
        plain = str(self.customer_id)
        if not self._has_words:
            return False
        has_letters, has_digits = any(map(str.isalpha, plain)), any(map(str.isdigit, plain))
        if has_letters and has_digits:
            return len(plain) >= _SHORT_CODE
        return "@" in plain or len(plain) >= (_LONG_NUMBER if has_digits else _LONG_WORD)

    def is_in(self, text: str) -> bool:
        """True where the text speaks of this customer."""
        patterns = (self._named, self._anywhere) if self.is_distinctive else (self._named,)
        return any(pattern.search(piece) for piece in text.split(ERASED) for pattern in patterns)

    def may_be_in(self, text: str) -> bool:
        """True where the id stands in the text, of whatever it is the name there."""
        return any(self._anywhere.search(piece) for piece in text.split(ERASED)) or self.is_in(text)

    def erased_from(self, text: str) -> str:
        """The text with `[erased]` in place of the customer."""
        return ERASED.join(self._without(piece, anywhere=self.is_distinctive) for piece in text.split(ERASED))

    def erased_anywhere(self, text: str) -> str:
        """The text with `[erased]` in place of the id, of whatever it is the name there."""
        return ERASED.join(self._without(piece, anywhere=True) for piece in text.split(ERASED))

    def _without(self, text: str, *, anywhere: bool) -> str:
        text = self._named.sub(lambda found: found["before"] + ERASED, text)
        return self._anywhere.sub(ERASED, text) if anywhere else text

    @cached_property
    def _anywhere(self) -> re.Pattern[str]:
        if not self._has_words:
            return re.compile(rf"(?<![^\n]){self._id}(?![^\n])")
        begin, end = self._borders
        return re.compile(begin + self._id + end)

    @cached_property
    def _named(self) -> re.Pattern[str]:
        flags = re.IGNORECASE if self._has_no_case else 0
        if not self._has_words:
            return re.compile(rf"{_QUOTED}{self._id}(?=(?P=quote))", flags)
        return re.compile(_NAMED + self._id + self._borders[1], flags)

    @property
    def _borders(self) -> tuple[str, str]:
        return (_BEGIN_OF_MAIL, _END_OF_MAIL) if "@" in str(self.customer_id) else (_BEGIN, _END)

    @property
    def _has_words(self) -> bool:
        return any(map(str.isalnum, str(self.customer_id)))

    @property
    def _has_no_case(self) -> bool:
        """`Customer 12` is `customer 12`, but `customer Ann` is not `customer ann`."""
        return str(self.customer_id).upper() == str(self.customer_id).lower()

    @property
    def _id(self) -> str:
        return "(?:" + "|".join(re.escape(spelling) for spelling in self.spellings) + ")"
