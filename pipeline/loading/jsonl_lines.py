"""Reads jsonl: one JSON object a line; a line that is none is refused alone."""

import json
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.loading.lines import Cell, Line, Refusal
from pipeline.loading.physical import LONGEST_LINE, PhysicalLine, physical_lines


def read_jsonl(stream: BinaryIO) -> Iterator[Line | Refusal]:
    """Yield a Line for every object; blank lines are passed over."""
    for line in physical_lines(stream):
        content = line.content.removeprefix(b"\xef\xbb\xbf") if line.number == 1 else line.content
        if line.overlong:
            yield _refused(line, "too_long", f"is longer than {LONGEST_LINE:,} bytes")
        elif content.strip():
            yield _object(line, content)


def _object(line: PhysicalLine, content: bytes) -> Line | Refusal:
    try:
        text = content.decode("utf-8").rstrip("\r\n")
        found: Cell = json.loads(text)
    except UnicodeDecodeError as error:
        return _refused(line, "not_utf8", f"holds bytes that are not UTF-8 text, at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return _refused(line, "not_json", f"is not JSON: {error.msg} at character {error.colno}")
    except RecursionError:
        return _refused(line, "not_json", "is nested too deeply")
    except ValueError:
        return _refused(line, "not_json", "holds a number of too many digits")
    if not isinstance(found, dict):
        return _refused(line, "not_an_object", 'is not a JSON object such as {"customer_id": 17}')
    return Line(line.number, found, text)


def _refused(line: PhysicalLine, code: str, reason: str) -> Refusal:
    text = line.content.decode("utf-8", "surrogateescape").rstrip("\r\n")
    return Refusal(line.number, None, code, reason, text)
