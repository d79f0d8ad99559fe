"""Whether an endpoint may be asked, by how it answered before; without I/O, with a clock that is given."""

import math
from dataclasses import dataclass
from typing import Final

FAILURES_IN_A_ROW: Final = 5
"""So many failures of the endpoint's own, without one answer between them, open the circuit."""
LONGEST_PAUSE_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.5
_QUIET_S: Final = 120.0  # longer than any pause: nobody asked meanwhile, as in a run that a person has paused


@dataclass(slots=True)
class Circuit:
    """Closed while the endpoint answers; open after a run of failures, but for one probe at a time.

    Pauses between probes grow from half a second to half a minute. The answer to a probe closes it; then more may ask
    with each answer, so that an endpoint that has just come back is not run over. All times are in seconds of one clock
    that never goes back; `draw` is from 0 to 1, and makes each pause another.
    """

    is_open: bool = False
    unanswered_since: float | None = None
    _unanswered_until: float = 0.0
    _failures: int = 0
    _pauses: int = 0
    _probe_at: float = 0.0
    _probes: int = 0
    _probe: int = 0  # the number of the probe that is out; 0 if none is
    _in_flight: int = 0
    _widest: int = 0  # most in flight so far
    _room: int | None = None  # how many may be in flight after an outage; None: any number

    def wait_s(self, now: float) -> float:
        """Seconds until the endpoint may be asked: 0 for now, infinity until one who asks it comes back."""
        if self.is_open:
            return math.inf if self._probe else max(self._probe_at - now, 0.0)
        return math.inf if self._room is not None and self._in_flight >= self._room else 0.0

    def enter(self) -> int:
        """Somebody asks, for `wait_s` was 0. If that is a probe, its number; else 0."""
        self._in_flight += 1
        self._widest = max(self._widest, self._in_flight)
        if not self.is_open:
            return 0
        self._probes += 1
        self._probe = self._probes
        return self._probe

    def leave(self, probe: int) -> None:
        """One who asked is done, or never got to ask. A probe that says nothing makes room for another."""
        self._in_flight -= 1
        if self._is_out(probe):
            self._probe = 0

    def note_answer(self) -> None:
        """The endpoint has answered somebody."""
        self.unanswered_since = None
        self.note_life()
        if self._room is not None:
            self._room += 1
            if self._room > self._widest:
                self._room = None

    def note_life(self) -> None:
        """The endpoint spoke for itself, if only to refuse."""
        self._failures = 0
        if self.is_open:
            self.is_open, self._probe, self._pauses = False, 0, 0
            self._room = self._in_flight + 1

    def note_silence(self, now: float, asked_at: float = -math.inf) -> None:
        """Somebody was not answered, for whatever reason, who asked at `asked_at`.

        A time in which nobody asks is no part of an outage: after it another one begins.
        """
        if self.unanswered_since is None or asked_at - self._unanswered_until > _QUIET_S:
            self.unanswered_since = now
        self._unanswered_until = now

    def note_failure(self, now: float, draw: float, probe: int, asked_at: float = -math.inf) -> None:
        """The endpoint failed somebody who asked at `asked_at`; tell this before he leaves."""
        self.note_silence(now, asked_at)
        self._failures += 1
        if self._is_out(probe) or (not self.is_open and self._failures >= FAILURES_IN_A_ROW):
            self.is_open, self._probe = True, 0
            self._probe_at = now + (0.5 + 0.5 * draw) * min(_FIRST_PAUSE_S * 2.0**self._pauses, LONGEST_PAUSE_S)
            self._pauses += 1

    @property
    def outage_s(self) -> float:
        """For how long nobody was answered who asked."""
        return 0.0 if self.unanswered_since is None else self._unanswered_until - self.unanswered_since

    def _is_out(self, probe: int) -> bool:
        return probe != 0 and probe == self._probe
