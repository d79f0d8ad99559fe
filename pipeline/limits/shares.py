"""What a process tells the others that ask the same endpoint, and what it may use until it tells them again.

A rate from headers is the endpoint's own word: whoever is allotted a part of it keeps below that part. A rate found out
from refusals is what the processes have found out together, and goes on being found out: who is allotted a part of it
takes that part for his own finding at that moment, be it more or less than what he had, and moves on from there. What
his next report says more or less than he was allotted moves the whole by as much.
"""

from dataclasses import dataclass
from typing import Literal

KnownFrom = Literal["headers", "refusals"]


@dataclass(frozen=True, slots=True)
class Report:
    """What one process has seen and wants. Rates are per minute; None where nothing limits them so far.

    `demand` counts the requests that wait or were sent and have not ended, `in_flight` the latter alone.
    `requests_per_minute` and `tokens_per_minute` are the rates that it paces itself by, found out from refusals, with
    no regard to what headers or its share allow;
    `known_requests_per_minute` and `known_tokens_per_minute` are the whole endpoint's, from its headers.
    `accepted`, `accepted_tokens` and `refused` count since the last report.
    `closed_for_s` is how long nobody should ask.
    """

    demand: int
    in_flight: int
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    known_requests_per_minute: float | None = None
    known_tokens_per_minute: float | None = None
    accepted: int = 0
    accepted_tokens: int = 0
    refused: int = 0
    closed_for_s: float = 0.0
    closed_because: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What this process may use. Rates are per minute; None where nothing limits them so far.

    A rate of 0 means nothing for the moment, as for a process that has just come: the next share brings more. Only
    where the endpoint's rate is 0 as well has nobody anything.
    `processes` are those that ask the endpoint now, this one among them; `portion` is this one's part of the endpoint's
    rates, `endpoint_requests_per_minute` and `endpoint_tokens_per_minute`.
    `fresh` is false of rates that nobody has used or heard of for some minutes: they are to be tried, not trusted.
    `closed_for_s` is how long nobody should ask; 0 takes nothing back of what was told before.
    `holds_until` is the moment, of `time.monotonic()`, from which on others may have been given this share: a process
    that comes by it later, having been frozen, must not use it. None where nobody shares.
    """

    processes: int = 1
    portion: float = 1.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    requests_from: KnownFrom | None = None
    tokens_from: KnownFrom | None = None
    endpoint_requests_per_minute: float | None = None
    endpoint_tokens_per_minute: float | None = None
    fresh: bool = True
    closed_for_s: float = 0.0
    closed_because: str | None = None
    holds_until: float | None = None
