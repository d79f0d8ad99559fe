"""Finds out how many requests at a time help: more as long as answers stay as fast, fewer when they do not.

No clock and no waiting in here: every call is given the time, in seconds of a clock that never goes back.
"""

from pipeline.limits.ceilings import Bounds, Wall

_FIRST = 4.0  # until the first answer begins: it warms the schema up
_AFTER_THE_FIRST = 8.0
_GROWTH = 1.0  # for each answer that begins, as long as nothing speaks against it: twice as many a round
_BEFORE_AN_ANSWER = 8.0  # nobody knows yet how fast an answer is when few are asked for
_PER_SECOND_BEFORE_AN_ANSWER = 8.0
_CUT = 0.7
_SLOWER = 0.45  # of the best speed of a stream: more at a time only share what there is
_LATER = 3.0  # times the best time to the first byte
_LATER_S = 0.5  # and at least so much more: small times grow by chance
_FORGET = 0.02  # of the distance between the best ever seen and now, in a round
_EVENNESS = 0.3  # weight of a new sample


class Concurrency:
    """How many requests may be under way. `ceiling` is never passed, and 1 is always allowed."""

    def __init__(self, ceiling: int, now: float) -> None:
        self._bounds = Bounds(ceiling)
        self._limit = min(_FIRST, float(ceiling))
        self._begun = now
        self._warm_at: float | None = None
        self._answered = False
        self._doubling = True
        self._wall = Wall()
        self._first_byte = _Quality()
        self._speed = _Quality()
        self._round = 0.0
        self._cut_at = now

    def allowed(self, now: float) -> int:
        """So many may be under way now."""
        limit = self._limit
        if not self._answered and self._warm_at is not None:
            limit = min(limit, _BEFORE_AN_ANSWER + _PER_SECOND_BEFORE_AN_ANSWER * (now - self._warm_at))
        return self._bounds.keep(self._wall.keep(limit, now))

    def bound(self, concurrency: int | None) -> None:
        """Keep to an operator's limit; None takes it away."""
        self._bounds.operator = concurrency

    def begin(self, among: int, first_byte_s: float, sent_at: float, now: float) -> None:
        """Take in that an answer has begun whose request was sent as the last of so many under way."""
        if self._warm_at is None:
            self._warm_at = now
        self._wall.let_through(among, sent_at, now)
        self._first_byte.take(-first_byte_s)
        if self._late():
            self._doubling = False
        if among >= self._limit / 2 and self._doubling:
            self._limit = min(max(self._limit + _GROWTH, _AFTER_THE_FIRST), float(self._bounds.ceiling))

    def end(self, in_flight: int, speed: float | None, sent_at: float, now: float) -> None:
        """Take in a whole answer: tokens per second of its stream, None if unknown."""
        self._answered = True
        if speed is not None:
            self._speed.take(speed)
        self._round += 1 / max(self._limit, 1.0)
        if self._slow() or self._late():
            self._doubling = False
            self._cut(in_flight, sent_at, now)
        elif not self._doubling and in_flight >= self._limit / 2:
            self._limit = min(self._limit + 1 / max(self._limit, 1.0), float(self._bounds.ceiling))
        if self._round >= 1:
            self._round = 0.0
            self._first_byte.forget(_FORGET)
            self._speed.forget(_FORGET)

    def refuse(self, in_flight: int, sent_at: float, now: float) -> None:
        """Take in that the endpoint is overloaded."""
        self._doubling = False
        self._cut(max(in_flight, 1), sent_at, now)

    def suspect(self, others: int, among: int, sent_at: float, now: float, *, named: bool) -> bool:
        """Take in a refusal with so many others under way, and sent as the last of `among`; whether that is why."""
        return self._wall.hit(others, among, sent_at, now, named=named)

    def _cut(self, in_flight: int, sent_at: float, now: float) -> None:
        """Once a round: who was sent before the last cut says nothing of what it changed."""
        if sent_at >= self._cut_at:
            self._limit = max(min(self._limit, float(in_flight)) * _CUT, 1.0)
            self._cut_at = now

    def _late(self) -> bool:
        best, now = -self._first_byte.best, -self._first_byte.now
        return self._first_byte.sure and now > max(best * _LATER, best + _LATER_S)

    def _slow(self) -> bool:
        return self._speed.sure and self._speed.now < self._speed.best * _SLOWER


class _Quality:
    """A figure of which more is better: as it is now, and at its best."""

    def __init__(self) -> None:
        self.now = 0.0
        self.best = 0.0
        self._samples = 0

    @property
    def sure(self) -> bool:
        return self._samples >= 8

    def take(self, sample: float) -> None:
        self._samples += 1
        self.now = sample if self._samples == 1 else self.now + (sample - self.now) * _EVENNESS
        self.best = self.now if self._samples <= 4 else max(self.best, self.now)

    def forget(self, share: float) -> None:
        """What lasts is no longer bad."""
        self.best += (self.now - self.best) * share
