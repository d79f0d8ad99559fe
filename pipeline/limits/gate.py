"""Whether one more request may be sent now, and what each answer teaches about that: the rules of the limiter.

No clock and no waiting in here: every call is given the time, in seconds of a clock that never goes back.
"""

import logging
import math
import random
from collections.abc import Mapping

from pipeline.domain import AnswerRecord
from pipeline.errors import AnswerError, EndpointRefusedError, EndpointUnreachableError, RateLimitedError
from pipeline.limits.closing import Closing
from pipeline.limits.concurrency import Concurrency
from pipeline.limits.notices import Notice, read_notice
from pipeline.limits.rate import Pace
from pipeline.limits.refusal_words import Cause, cause_in
from pipeline.limits.requests import Request, about, speed
from pipeline.limits.shares import Report, Share

_OVERLOADED = {503, 529}
_REFUSED = {429} | _OVERLOADED
_LOOK_AGAIN_S = 0.25  # the number at a time may also grow with time
_LONG_CLOSED_S = 30.0
_log = logging.getLogger(__name__)


class Gate:
    """What one process may send to one endpoint and model.

    With `first_at_once` the first request waits for no rate: somebody waits for it, and shares are a second or two old.
    """

    def __init__(
        self,
        ceiling: int,
        *,
        name: str,
        patience_s: float,
        chance: random.Random,
        now: float,
        first_at_once: bool = False,
    ) -> None:
        self.name = name
        self.patience_s = patience_s
        self.in_flight = 0
        self.waiting = 0
        self.requests = Pace(now)
        self.tokens = Pace(now)
        self.concurrency = Concurrency(ceiling, now)
        self.closing = Closing(chance)
        self._first_at_once = first_at_once
        self._closed = False
        self._refuses_in_band = self._let_in = self._answered = False
        self._accepted = self._refused = 0
        self._tokens_ratio = 1.0
        self._accepted_tokens = 0.0
        self._holds_until: float | None = None
        self._told: dict[str, float] = {}

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a request of so many tokens may be sent; 0 for now, infinite until somebody says more."""
        closed_s = self.closing.for_s(now)
        if closed_s > 0:
            return closed_s
        if self._closed:
            self._reopen(now)
        if self._first_at_once:
            return 0.0
        if self._holds_until is not None and now >= self._holds_until:
            return _LOOK_AGAIN_S  # others may have our share by now: the next is on its way
        if self.in_flight >= self.concurrency.allowed(now):
            return _LOOK_AGAIN_S
        return max(self.requests.wait(1.0, now), self.tokens.wait(tokens * self._tokens_ratio, now))

    def send(self, tokens: float, now: float) -> Request:
        """Take note that such a request is sent."""
        self.in_flight += 1
        self._first_at_once = False
        spent = tokens * self._tokens_ratio
        return Request(tokens, self.requests.send(1.0, now), self.tokens.send(spent, now), now, self.in_flight)

    def hear(self, request: Request, status: int, headers: Mapping[str, str], now: float) -> None:
        """Take in the head of an answer, good or not."""
        if request.heard:  # it was refused in part, and asked anew
            request.requests_sent = self.requests.send(1.0, now)
            request.tokens_sent = self.tokens.send(request.tokens_sent.amount, now)
        request.heard += 1
        request.notice = read_notice(headers)
        refused = status in _REFUSED
        self._take_notice(request, request.notice, now, refused=refused)
        if refused:
            self._close(now, request.notice.retry_after_s or 0.0, f"it answered {status}")
        elif status < 400:
            self._accept(request, now)

    def end(self, request: Request, record: AnswerRecord, problem: AnswerError | None, now: float) -> None:
        """Take in how a request ended."""
        self.in_flight -= 1
        if isinstance(problem, EndpointRefusedError) and (
            isinstance(problem, RateLimitedError) or problem.status in _OVERLOADED
        ):
            self._refuse(request, problem, now)
        elif problem is None:
            self._learn_from(request, record, now)
        elif isinstance(problem, EndpointUnreachableError) and not problem.sent:
            self.forget(request)

    def forget(self, request: Request) -> None:
        """Give back what was thought to be used: the request did not go out."""
        self.requests.forget(request.requests_sent)
        self.tokens.forget(request.tokens_sent)

    def closed_for_s(self, now: float) -> float:
        """Seconds that the endpoint asks to be left alone for, where that is longer than anybody waits; else 0."""
        closed_s = self.closing.for_s(now)
        return closed_s if closed_s > self.patience_s else 0.0

    def report(self, now: float) -> Report:
        """What was seen since the last report, and what is wanted."""
        report = Report(
            demand=self.waiting + self.in_flight,
            in_flight=self.in_flight,
            requests_per_minute=_a_minute(self.requests.found.at(now)),
            tokens_per_minute=_a_minute(self.tokens.found.at(now)),
            known_requests_per_minute=_a_minute(self.requests.known),
            known_tokens_per_minute=_a_minute(self.tokens.known),
            accepted=max(self._accepted, 0),
            accepted_tokens=max(round(self._accepted_tokens), 0),
            refused=self._refused,
            closed_for_s=self.closing.wished_for_s(now),
            closed_because=self.closing.because if self.closing.wished_for_s(now) else None,
        )
        self._refused = 0
        # What was refused after it had been told as accepted is taken from what is told next.
        self._accepted = min(self._accepted, 0)
        self._accepted_tokens = min(self._accepted_tokens, 0.0)
        return report

    def allot(self, share: Share, now: float) -> None:
        """Keep to this share from now on."""
        self._holds_until = share.holds_until
        for pace, rate, known_from in (
            (self.requests, share.requests_per_minute, share.requests_from),
            (self.tokens, share.tokens_per_minute, share.tokens_from),
        ):
            found = known_from == "refusals"
            pace.keep_to(_a_second(rate), share.portion, now, found=found, fresh=share.fresh)
        if share.closed_for_s > 0:
            self._close(now, share.closed_for_s, share.closed_because or "another process was told so")

    def _accept(self, request: Request, now: float) -> None:
        request.answering = self._let_in = True
        self._accepted_tokens += request.tokens_sent.amount
        self._accepted += 1
        if request.at >= self.closing.closed_at and not self._refuses_in_band:
            self.closing.accept()
        self.concurrency.begin(request.among, now - request.at, request.at, now)

    def _refuse(self, request: Request, problem: EndpointRefusedError, now: float) -> None:
        self._refused += 1
        if request.answering:
            self._refuses_in_band = True  # the head of an answer promises nothing here
            self._accepted -= 1
            self._accepted_tokens -= request.tokens_sent.amount
        cause = cause_in(problem.words)
        news = self._teach(request, problem.status, cause, now)
        self._believe(cause, now)
        if news:
            retry_after_s = request.notice.retry_after_s
            asked_s = problem.retry_after if retry_after_s is None else retry_after_s
            because = f"it refused with status {problem.status or 429}"
            self.closing.refuse(now, asked_s, because, paced=self._is_paced(now))
            self._note_closed(now)
            self._give_up_after_patience(now)
        self._tell("requests", self.requests, now)
        self._tell("tokens", self.tokens, now)

    def _is_paced(self, now: float) -> bool:
        return self.requests.rate(now) is not None or self.tokens.rate(now) is not None

    def _believe(self, cause: Cause, now: float) -> None:
        """Take the limit that a refusal names for what was found out: without headers nobody says when it rises."""
        if cause.allowance is None or cause.allowance.per_second is None:
            return
        if not cause.allowance.per_second:
            self._close(now, self.patience_s + 1, f"it allows 0 {cause.about} a minute")
            return
        pace = self.requests if cause.about == "requests" else self.tokens
        pace.found.named(cause.allowance.per_second * pace.part, now)

    def _teach(self, request: Request, status: int | None, cause: Cause, now: float) -> bool:
        """Tell the limit that was passed; whether it is the first to hear so of this moment."""
        passed = cause.about or about(request)
        if status in _OVERLOADED:
            self.concurrency.refuse(self.in_flight, request.at, now)
            return request.at >= self.closing.closed_at
        if passed in {None, "concurrency"} and self.concurrency.suspect(
            self.in_flight, request.among, request.at, now, named=passed is not None
        ):
            return request.at >= self.closing.closed_at
        news = False
        if passed in {None, "requests"}:
            news = self.requests.refuse(request.requests_sent, now, measures=self._measures(self.requests, now))
        if passed in {None, "tokens"}:
            measures = self._measures(self.tokens, now)
            news = self.tokens.refuse(request.tokens_sent, now, measures=measures) or news
        return news

    def _measures(self, pace: Pace, now: float) -> bool:
        """Whether those under way count as let in: not before anybody was, for which a good head may be no promise."""
        let_in = self._answered if self._refuses_in_band else self._let_in
        return let_in and (pace.found.at(now) is not None or self.closing.refused_since is None)

    def _learn_from(self, request: Request, record: AnswerRecord, now: float) -> None:
        self._let_in = self._answered = True
        if not request.heard:
            self._accepted += 1
            self.closing.accept()
            self.concurrency.begin(request.among, record.first_byte_s or now - request.at, request.at, now)
        elif self.closing.refused_since is not None and request.at >= self.closing.refused_since:
            self.closing.accept()
        usage = record.usage
        spent = usage.tokens_in + usage.tokens_out
        if spent and not usage.estimated and request.tokens and not self.tokens.is_told:
            self._tokens_ratio += (min(max(spent / request.tokens, 0.1), 10.0) - self._tokens_ratio) / 16
        self.concurrency.end(self.in_flight + 1, speed(record), request.at, now)

    def _take_notice(self, request: Request, notice: Notice, now: float, *, refused: bool) -> None:
        for what, pace, sent, allowance in (
            ("requests", self.requests, request.requests_sent, notice.requests),
            ("tokens", self.tokens, request.tokens_sent, notice.tokens),
        ):
            if allowance is None:
                continue
            if allowance.limit == 0 and refused:
                self._close(now, max(notice.retry_after_s or 0.0, self.patience_s + 1), f"it allows 0 {what} a minute")
                continue
            if refused and allowance.remaining == 0 and allowance.per_second is None and allowance.reset_s:
                self._close(now, allowance.reset_s, f"no {what} are left until then")
            pace.hear(allowance, sent, now, refused=refused)
            self._tell(what, pace, now)

    def _close(self, now: float, for_s: float, because: str) -> None:
        self.closing.close(now, for_s, because)
        self._note_closed(now)

    def _note_closed(self, now: float) -> None:
        closed_s = self.closing.for_s(now)
        if closed_s > _LONG_CLOSED_S and not self._closed:
            _log.warning("%s is closed for %.0f s: %s", self.name, closed_s, self.closing.because)
        self._closed = self._closed or closed_s > 0

    def _give_up_after_patience(self, now: float) -> None:
        since = self.closing.refused_since
        if since is not None and now - since > self.patience_s:
            self._close(now, self.patience_s + 1, f"it has refused everything for {now - since:.0f} s")

    def _reopen(self, now: float) -> None:
        closed_s = now - self.closing.closed_at
        self.requests.reopen(now, closed_s)
        self.tokens.reopen(now, closed_s)
        self._closed = False

    def _tell(self, what: str, pace: Pace, now: float) -> None:
        """One line when a limit is found, or changes clearly."""
        rate = pace.limit(now)
        last = self._told.get(what)
        if rate is None or (last is not None and 0.67 < rate / last < 1.5):
            return
        self._told[what] = rate
        _log.info("%s allows about %.0f %s a minute", self.name, rate * 60, what)


def _a_minute(rate: float | None) -> float | None:
    return None if rate is None or math.isinf(rate) else rate * 60


def _a_second(rate: float | None) -> float | None:
    return None if rate is None else rate / 60
