"""Keeps the truth about every answer: a JSON line with what was handed over and how it ended."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.answers import AnswerText
from pipeline.offline_ranker.faults import Fault


class Ending(StrEnum):
    """How an answer ended."""

    COMPLETE = "complete"
    LENGTH = "length"
    REFUSED = "refused"
    CUT = "cut"
    ERROR_EVENT = "error-event"
    CLIENT_LEFT = "client-left"
    SERVER_STOPPED = "server-stopped"
    FAILED = "failed"


@dataclass(slots=True)
class Record:
    """What has become of one answer so far. `sent_characters` counts its text without the wire."""

    request_id: str
    streamed: bool
    faults: tuple[Fault, ...]
    customer_tag: str | None
    answer: AnswerText | None = None
    sent_characters: int = 0
    status: int | None = None
    ending: Ending = Ending.FAILED

    def line(self) -> str:
        """Return the record as one line of JSON."""
        sent = self.answer.complete_objects(self.sent_characters) if self.answer else ()
        objects = [
            {"candidate": entry.candidate, "name": entry.name, "text": entry.text, "spoiled": entry.spoiled}
            for entry in sent
        ]
        document = {
            "request_id": self.request_id,
            "user": self.customer_tag,
            "streamed": self.streamed,
            "faults": self.faults,
            "status": self.status,
            "ended": self.ending,
            "sent_characters": self.sent_characters,
            "objects": objects,
        }
        return json.dumps(document, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class RecordFile:
    """The file that the lines go to; without one they go nowhere."""

    file: TextIO | None = field(default=None)

    def append(self, record: Record) -> None:
        """Write one line, so that whoever reads the file sees it whole and at once."""
        if self.file is not None:
            self.file.write(record.line())
            self.file.flush()


@contextmanager
def record_file(path: Path | None) -> Iterator[RecordFile]:
    """Open the file at `path` for more lines; ConfigurationError where that cannot be done."""
    if path is None:
        yield RecordFile()
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--log {path} cannot be written ({error.strerror}): name a file that can") from error
    with file:
        yield RecordFile(file)
