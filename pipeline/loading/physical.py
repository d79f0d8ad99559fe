"""Cuts a file's bytes into physical lines of bounded length, whatever is in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

LONGEST_LINE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PhysicalLine:
    """A line with its end, counted from 1; one longer than LONGEST_LINE bytes has only its beginning."""

    number: int
    content: bytes
    overlong: bool = False


def physical_lines(stream: BinaryIO) -> Iterator[PhysicalLine]:
    """Yield each line of `stream`. Lines end at U+000A alone: other breaks are legal inside a field."""
    number = 0
    while content := stream.readline(LONGEST_LINE):
        number += 1
        overlong = len(content) == LONGEST_LINE and not content.endswith(b"\n")
        if overlong:
            _skip_rest(stream)
        yield PhysicalLine(number, content, overlong=overlong)


def _skip_rest(stream: BinaryIO) -> None:
    while (rest := stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
        pass
