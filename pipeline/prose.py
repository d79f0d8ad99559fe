"""Finds where JSON begins in the text around it: words, code fences, a model's reasoning between tags. No I/O.

A bracket in prose counts only if what follows it could be JSON. What stands between reasoning tags is passed over.
"""

import re
from collections.abc import Sequence

from pipeline.errors import AnswerCutError

MAX_BLANKS = 1_000  # between a bracket in prose and what follows it: models can get lost in blanks
_FENCE = re.compile(r"```\w{0,16}\s*\Z")
_TAIL = 40  # characters: a fence and its language, or the longest tag
_BRACKETS = "{["
_VALUE = re.compile(r'[\[\]{"0-9-]|true|false|null')
_START_OF_WORD = re.compile(r"(?:t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?)\Z")


class ProseReader:
    """Reads the text outside of JSON. The places it finds do not depend on how the text is split.

    `tags` are the pairs of texts that open and close a model's reasoning, each of at most 40 characters.
    `held` is the end of the last text, which cannot be understood before more is here: put it before the next.
    """

    def __init__(self, tags: Sequence[tuple[str, str]]) -> None:
        self._tags = tags
        self._edges = [edge.lower() for tag in tags for edge in tag]
        self._first_of_edges = {edge[0] for edge in self._edges}
        self._mark = re.compile("[" + "".join(map(re.escape, sorted(self._first_of_edges | set("{[")))) + "]")
        self._in_reasoning = False
        self._end_of_reasoning = re.compile("|".join(re.escape(closes) for _, closes in tags), re.IGNORECASE)
        self._begun = False  # something other than blanks and reasoning has come
        self._tail = ""
        self.held = ""

    @property
    def in_reasoning(self) -> bool:
        """True between the tags."""
        return self._in_reasoning

    def seek(self, text: str, at: int, *, objects_before: bool) -> int | None:
        """The place of the bracket with which JSON begins, at or after `at`; None if it is not in this text.

        Raises:
            AnswerCutError: reasoning ends here that never began, and objects have come out of it.
        """
        self.held = ""
        while at < len(text):
            if self._in_reasoning:
                at = self._pass_reasoning(text, at)
                continue
            found = self._mark.search(text, at)
            mark = len(text) if found is None else found.start()
            self._pass_words(text[at:mark])
            if mark == len(text) or self._hold(text, mark):
                return None
            following = self._pass_tag(text, mark, objects_before=objects_before)
            if following == mark and self._begins_json(text, mark):
                self._begun, self._tail = True, ""
                return mark
            at = following
            if following == mark:
                self._pass_words(text[mark])
                at = mark + 1
        return None

    def _pass_words(self, words: str) -> None:
        if words:
            self._begun = self._begun or not words.isspace()
            self._tail = (self._tail + words)[-_TAIL:]

    def _hold(self, text: str, mark: int) -> bool:
        """True where what begins at the mark is a tag or a bracket that more text must decide."""
        if self._may_become_tag(text, mark) or _may_become_json(text, mark):
            self.held = text[mark:]
            return True
        return False

    def _may_become_tag(self, text: str, mark: int) -> bool:
        if text[mark] not in self._first_of_edges or len(text) - mark > _TAIL:
            return False
        rest = text[mark:].lower()
        return any(len(rest) < len(edge) and edge.startswith(rest) for edge in self._edges)

    def _begins_json(self, text: str, mark: int) -> bool:
        if text[mark] not in _BRACKETS:
            return False
        following = _first_after_blanks(text, mark)
        if text[mark] == "{":
            return text[following] in '"}'
        return text[following] == "{" or (self._at_start() and bool(_VALUE.match(text, following)))

    def _at_start(self) -> bool:
        return not self._begun or bool(_FENCE.search(self._tail))

    def _pass_tag(self, text: str, mark: int, *, objects_before: bool) -> int:
        """The place after the tag that stands at the mark; the mark itself where none does."""
        if text[mark] not in self._first_of_edges:
            return mark
        for opens, closes in self._tags:
            if _stands_at(text, mark, opens):
                self._in_reasoning = True
                return mark + len(opens)
            if _stands_at(text, mark, closes):
                if objects_before:
                    raise AnswerCutError(
                        f"the model's reasoning ended with {closes} but had not been marked as such from its "
                        "start: the objects before may be drafts"
                    )
                return mark + len(closes)
        return mark

    def _pass_reasoning(self, text: str, at: int) -> int:
        """Any closing tag will do: models mistake one for another."""
        found = self._end_of_reasoning.search(text, at)
        if found is not None:
            self._in_reasoning = False
            return found.end()
        self.held = text[max(at, len(text) - _TAIL) :]
        return len(text)


def _may_become_json(text: str, mark: int) -> bool:
    if text[mark] not in _BRACKETS:
        return False
    following = _first_after_blanks(text, mark)
    return following == len(text) or (text[mark] == "[" and bool(_START_OF_WORD.match(text, following)))


def _first_after_blanks(text: str, mark: int) -> int:
    """The place of the first character after the one at the mark that is no blank; MAX_BLANKS are looked through."""
    following = text[mark + 1 : mark + 1 + MAX_BLANKS]
    return mark + 1 + len(following) - len(following.lstrip())


def _stands_at(text: str, place: int, tag: str) -> bool:
    return text[place : place + len(tag)].lower() == tag.lower()
