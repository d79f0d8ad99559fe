"""Keeps the truth about every answer: a JSON line with what was asked, what was handed over and how it ended."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.answers import CHARACTERS_PER_TOKEN, AnswerText
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
    """What has become of one answer so far. `sent_characters` counts its text without the wire.

    `received_at` and `ended_at` are in seconds since 1970; `candidates` has the name of each product by what the prompt
    calls it. `charged_tokens` is what the request counts for where tokens are limited; `limited` is the limit that
    refused it, and `limits` has those in force, per minute, but for the requests at a time.
    """

    request_id: str
    streamed: bool
    faults: tuple[Fault, ...]
    customer_tag: str | None
    received_at: float = field(default_factory=time.time)
    candidates: Mapping[str, str] = field(default_factory=dict)
    answer: AnswerText | None = None
    sent_characters: int = 0
    status: int | None = None
    ending: Ending = Ending.FAILED
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    charged_tokens: int = 0
    service_tier: str | None = None
    limited: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    in_flight: int = 0

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
            "received_at": self.received_at,
            "ended_at": time.time(),
            "candidates": self.candidates,
            "streamed": self.streamed,
            "faults": self.faults,
            "status": self.status,
            "ended": self.ending,
            "limited": self.limited,
            "limits": self.limits,
            "in_flight": self.in_flight,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "charged_tokens": self.charged_tokens,
            "sent_tokens": -(-self.sent_characters // CHARACTERS_PER_TOKEN),
            "service_tier": self.service_tier,
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
