"""What requests at a time may not pass: the settings, an operator's word, and a wall that refusals hint at."""

import math
from dataclasses import dataclass

_FIRST_PROBE_S = 1.0
_LONGEST_PROBE_S = 60.0
_NEXT_PROBE_S = 0.25
_MOST_STEP = 16.0
_PASSED = 2
_PASSED_IF_SURE = 5
_FIRST_NAMED_PROBE_S = 5.0
_NONE_FOR_S = 30.0


@dataclass(slots=True)
class Bounds:
    """The bounds that people set. `operator` is the operator's, None if he said nothing."""

    ceiling: int
    operator: int | None = None

    def keep(self, limit: float) -> int:
        """The limit within both; at least 1, except where the operator wants none."""
        most = self.ceiling if self.operator is None else min(self.ceiling, self.operator)
        return min(max(int(limit), 1), most)


class Wall:
    """A limit on requests at a time that nobody names: refusals come when so many are under way, and never below.

    A refusal that says nothing may be about the rate as well. So the first one only sets a wall to be tried: a little
    later one more is let through. If that is answered the wall is moved, by more each time, until it is gone. If it is
    refused the wall is sure, and tried less. If one is refused below it, it was none, and is not looked for in a while.
    """

    def __init__(self) -> None:
        self._at: float | None = None
        self._sure = False
        self._step = 1.0
        self._passed = 0
        self._tried_s = _FIRST_PROBE_S
        self._tried_from = -math.inf
        self._hit_at = -math.inf
        self._none_until = -math.inf

    def keep(self, limit: float, now: float) -> float:
        """The limit up to the wall, and beyond it when it is time to try."""
        if self._at is None:
            return limit
        beyond = self._step if now - self._tried_from >= self._tried_s else 0.0
        return min(limit, self._at + beyond)

    def hit(self, others: int, among: int, sent_at: float, now: float, *, named: bool) -> bool:
        """Take in a refusal with so many others under way; whether the wall explains it.

        `among` were under way when it was sent, itself too; `named` if it says that it is about that.
        """
        if not others and not named:
            return False
        at = float(max(others, 1))
        if sent_at <= self._hit_at:  # of the same moment: the fewest under way say where the wall is
            if self._at is not None:
                self._at = min(self._at, at)
            return named or self._sure
        self._hit_at = now
        if self._at is None:
            if named or now >= self._none_until:
                self._set(at, now, _FIRST_NAMED_PROBE_S if named else _FIRST_PROBE_S)
        elif among > self._at or others >= self._at:  # requests overtake each other on their way
            self._sure = True
            self._set(self._at, now, min(max(self._tried_s, _FIRST_PROBE_S) * 2, _LONGEST_PROBE_S))
        elif named:
            self._set(min(at, self._at), now, _FIRST_NAMED_PROBE_S)
        else:
            self._at, self._sure = None, False
            self._none_until = now + _NONE_FOR_S
        return named or self._sure

    def let_through(self, among: int, sent_at: float, now: float) -> None:
        """Take in that one was let in that had been sent as the last of so many: the wall is there, or nowhere."""
        if self._at is None or among <= self._at or sent_at <= self._hit_at:
            return
        self._passed += 1
        if self._passed < (_PASSED_IF_SURE if self._sure else _PASSED):  # an answer may just have ended over there
            return
        step = self._step * 2
        self._set(float(among), now, _NEXT_PROBE_S)
        self._step, self._sure = step, False
        if step > _MOST_STEP:
            self._at = None

    def _set(self, at: float, now: float, tried_s: float) -> None:
        self._at, self._tried_s, self._tried_from = at, tried_s, now
        self._step, self._passed = 1.0, 0
