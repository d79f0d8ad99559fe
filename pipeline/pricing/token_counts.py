"""How many tokens a text has, without a vocabulary: a close estimate, and a number that it cannot pass.

The estimate follows how the vocabularies of today cut text, byte pairs after a first cut by kind of character: a blank
belongs to the word behind it, but not to a number; numbers are cut into groups of three digits; marks in a row are one
token, with the line's end behind them; most words are one, capitals and rare words are several. No vocabulary was at
hand to measure it by. It was set by token counts that were published, those of tests/unit/token_counts.toml, and keeps
to each of the English ones within a tenth; for other alphabets it is rough. What the endpoint reports corrects it: see
`pipeline.pricing.calibration`.
"""

from functools import lru_cache
from typing import Final

_LOWER, _CAPITAL, _DIGIT, _BLANK, _MARK = b"aA0 ."
_TWO_BYTES, _THREE_BYTES, _FOUR_BYTES, _REST = b"xyz-"  # of UTF-8: how many bytes a character begins

MESSAGE_TOKENS: Final = 4
"""What a chat template puts around a message: its role and its ends."""
_TEMPLATE_TOKENS: Final = 512  # a template may bring words of its own (a date, the JSON schema), and once a request


def _kind_of(byte: int) -> int:
    if byte >= 0x80:
        return _REST if byte < 0xC2 else _TWO_BYTES if byte < 0xE0 else _THREE_BYTES if byte < 0xF0 else _FOUR_BYTES
    character = chr(byte)
    if character.isalpha():
        return _CAPITAL if character.isupper() else _LOWER
    if character.isdigit():
        return _DIGIT
    return _BLANK if character.isspace() or character == "_" else _MARK  # an underscore belongs to the word behind it


_KINDS: Final = bytes(_kind_of(byte) for byte in range(256))
_WORDS: Final = bytes(ord("a") if _kind_of(byte) in b"aAx-" else ord(" ") for byte in range(256))


def estimated_tokens(text: str) -> int:
    """About how many tokens the text has."""
    lines = text.split("\n")
    tokens, ends = 0.0, -1  # the last line has none
    for line in lines:
        number, dot, rest = line.partition(". ")
        if dot and len(number) <= 3 and number.isdigit():  # of a list: the same line has another in another prompt
            tokens += 2
            line = rest  # noqa: PLW2901 - it is all that is left of it
        content, end = _of_line(line)
        tokens += content
        ends += end
    return round(tokens + max(ends, 0))


def estimated_request_tokens(*messages: str) -> int:
    """About how many tokens a request with these messages has."""
    return sum(estimated_tokens(message) + MESSAGE_TOKENS for message in messages)


def most_tokens(text: str) -> int:
    """A number of tokens that the text cannot pass: a token has one byte at least."""
    return len(text.encode("utf-8", "surrogatepass"))


def most_request_tokens(*messages: str) -> int:
    """A number of tokens that a request with these messages cannot pass, its template and schema included."""
    return _TEMPLATE_TOKENS + sum(most_tokens(message) + 2 * MESSAGE_TOKENS for message in messages)


@lru_cache(maxsize=10_000)  # the prompts of many customers share most of their lines
def _of_line(line: str) -> tuple[float, int]:
    """The tokens of a line, and those of the line's end behind it: none where a mark or another end takes it along."""
    content = line.encode("utf-8", "surrogatepass")
    kinds = content.translate(_KINDS)
    words = len(content.translate(_WORDS).split()) + _beyond_one_for_each_word(kinds)
    indentation = 1 if kinds.startswith(b"  ") else 0
    return words + _of_numbers(kinds) + _of_marks(kinds) + indentation, int(kinds[-1:] not in b".")


def _beyond_one_for_each_word(kinds: bytes) -> float:
    """What long and rare words, capitals and other alphabets have more than one token for each word."""
    tokens = 0.25 * kinds.count(b"aaaaaaaa") + 0.2 * kinds.count(b"Aa") + 0.45 * kinds.count(b"AA")
    if b"-" in kinds:
        tokens += 0.35 * kinds.count(b"x") + kinds.count(b"y") + 2.5 * kinds.count(b"z")
    return tokens


def _of_numbers(kinds: bytes) -> int:
    groups = kinds.replace(b"000", b"3").replace(b"00", b"3").replace(b"0", b"3").count(b"3")
    return groups + kinds.count(b" 0")


def _of_marks(kinds: bytes) -> int:
    return kinds.replace(b"....", b".").replace(b"...", b".").replace(b"..", b".").count(b".")
