"""Reads csv: a header, then a Line for each row; a row that cannot be read is refused alone."""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from pipeline.errors import InputError
from pipeline.loading.lines import Line, Refusal
from pipeline.loading.physical import LONGEST_LINE, PhysicalLine, physical_lines

SEPARATORS = ",;\t"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class _OverlongError(Exception):
    """A physical line too long to be read."""


class _Texts(Iterator[str]):
    """The file's lines as text for `csv.reader`. Lines can be handed back.

    A quote that somebody forgot to close makes the reader swallow the lines behind it; handed back, they are read again
    on their own.
    """

    def __init__(self, lines: Iterator[PhysicalLine]) -> None:
        self._lines = lines
        self._handed_back: deque[PhysicalLine] = deque()
        self.taken: list[PhysicalLine] = []

    def __next__(self) -> str:
        line = self._handed_back.popleft() if self._handed_back else next(self._lines)
        self.taken.append(line)
        if line.overlong:
            raise _OverlongError
        return line.content.decode("utf-8", "surrogateescape")

    def forget_taken(self) -> None:
        self.taken.clear()

    def hand_back_all_but_first(self) -> None:
        self._handed_back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def taken_text(self) -> str:
        content = b"".join(line.content for line in self.taken)
        return content.decode("utf-8", "surrogateescape").rstrip("\r\n")


def read_csv(stream: BinaryIO, name: str) -> tuple[tuple[str, ...], Iterator[Line | Refusal]]:
    """The columns of the header, and the lines after it. The separator is the header's most frequent of , ; and tab.

    Raises:
        InputError: the file `name` has no header that can be used.
    """
    texts = _Texts(_without_mark(physical_lines(stream), name))
    header = _header(texts, name)
    separator = _separator(header)
    columns = _columns(header, separator, name)
    return columns, _rows(texts, columns, separator)


def _without_mark(lines: Iterator[PhysicalLine], name: str) -> Iterator[PhysicalLine]:
    first = next(lines, None)
    if first is None:
        return
    if first.content.startswith(UTF_16_MARKS):
        raise InputError(f"{name} is UTF-16 text: save it as UTF-8 and load it again")
    yield PhysicalLine(1, first.content.removeprefix(BYTE_ORDER_MARK), overlong=first.overlong)
    yield from lines


def _header(texts: _Texts, name: str) -> str:
    try:
        header = next((text for text in texts if text.strip()), None)
    except _OverlongError:
        raise InputError(f"{name} is no csv file: its first line has more than {LONGEST_LINE:,} bytes") from None
    if header is None:
        raise InputError(f"{name} is empty: a csv file begins with a line that names its columns")
    if not header.strip().replace("\t", " ").isprintable():
        raise InputError(f"{name} is no csv file: its first line is not UTF-8 text that names columns")
    return header


def _separator(header: str) -> str:
    outside_quotes = "".join(header.split('"')[::2])
    return max(SEPARATORS, key=outside_quotes.count)


def _columns(header: str, separator: str, name: str) -> tuple[str, ...]:
    try:
        fields = next(csv.reader([header], delimiter=separator, strict=True))
    except csv.Error as error:
        raise InputError(f"{name} has a first line that cannot be read: {_meaning(error)}; mend it") from error
    columns = tuple(column.strip() for column in fields)
    twice = sorted({column for column in columns if column and columns.count(column) > 1})
    if twice:
        raise InputError(f"{name} has the column {twice[0]!r} twice: give each column a name of its own")
    return columns


def _rows(texts: _Texts, columns: Sequence[str], separator: str) -> Iterator[Line | Refusal]:
    reader = csv.reader(texts, delimiter=separator, strict=True)
    while True:
        texts.forget_taken()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _OverlongError:
            yield _refused(texts, "too_long", f"is longer than {LONGEST_LINE:,} bytes")
        except csv.Error as error:
            yield _refused(texts, "not_csv", f"cannot be read as csv: {_meaning(error)}")
        else:
            if not fields:
                continue
            if len(fields) == len(columns):
                cells = {column: field for column, field in zip(columns, fields, strict=True) if column}
                yield Line(texts.taken[0].number, cells, texts.taken_text())
            else:
                reason = f"has {len(fields)} fields, the header has {len(columns)} columns"
                yield _refused(texts, "wrong_field_count", reason)


def _refused(texts: _Texts, code: str, reason: str) -> Refusal:
    texts.hand_back_all_but_first()
    return Refusal(texts.taken[0].number, None, code, reason, texts.taken_text())


def _meaning(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote is opened and never closed"
    if "field limit" in str(error):
        return f"a field has more than {csv.field_size_limit():,} characters; is a quote never closed?"
    return str(error)
