"""What each fault does to the script of an answer: one small function each.

Where several faults meet, a delay comes first, a refusal wins over a stall, and a stall over the rest.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from pipeline.offline_ranker.answers import AnswerForm, AnswerObject, AnswerText, object_text, score_text
from pipeline.offline_ranker.faults import Fault, FaultPlan


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error status in place of an answer."""

    status: int
    retry_after_seconds: float | None = None


class BreakKind(IntEnum):
    """What happens at a break in an answer, in the order in which it happens at one place."""

    HOLD = 1
    ERROR_EVENT = 2
    CUT = 3


@dataclass(frozen=True, slots=True)
class Break:
    """Something that happens when so many objects, or else that share of the text, have been sent."""

    kind: BreakKind
    after_objects: int | None
    at_share: float = 1.0

    def offset(self, answer: AnswerText) -> int:
        """Return the number of characters that go out before this break."""
        if self.after_objects is None:
            return int(len(answer.text) * self.at_share)
        if self.after_objects == 0 or not answer.ends:
            return 0
        return answer.ends[min(self.after_objects, len(answer.ends)) - 1]


@dataclass(frozen=True, slots=True)
class Script:
    """How one request will be answered."""

    form: AnswerForm
    objects: tuple[AnswerObject, ...]
    before: str = ""
    after: str = ""
    refusal: Refusal | None = None
    delay_seconds: float = 0.0
    stalled: bool = False
    breaks: tuple[Break, ...] = ()


def spoil(script: Script, faults: tuple[Fault, ...], plan: FaultPlan) -> Script:
    """Return the script with these faults in it."""
    for fault in faults:
        script = _EFFECTS[fault](script, plan)
    return script


def breaks_in_order(script: Script, answer: AnswerText) -> Iterator[tuple[int, BreakKind]]:
    """Return the offset and kind of each break, first to last."""
    return iter(sorted((entry.offset(answer), entry.kind) for entry in script.breaks))


def _refused_429(script: Script, plan: FaultPlan) -> Script:
    return replace(script, refusal=Refusal(429, plan.retry_after_seconds))


def _refused_500(script: Script, _plan: FaultPlan) -> Script:
    return replace(script, refusal=script.refusal or Refusal(500))


def _delayed(script: Script, plan: FaultPlan) -> Script:
    return replace(script, delay_seconds=plan.delay_seconds)


def _stalled(script: Script, _plan: FaultPlan) -> Script:
    return replace(script, stalled=True)


def _unknown_candidate(script: Script, _plan: FaultPlan) -> Script:
    numbers = [int(entry.candidate) for entry in script.objects if entry.candidate.isdecimal()]
    stranger = str(max(numbers, default=0) + 1_000_000)
    return _rewrite_one(script, Fault.UNKNOWN_CANDIDATE, candidate=stranger)


def _missing_score(script: Script, _plan: FaultPlan) -> Script:
    return _rewrite_one(script, Fault.MISSING_SCORE, score=lambda _: None)


def _repeated_product(script: Script, _plan: FaultPlan) -> Script:
    """Add the first product once more, right after itself."""
    if not script.objects:
        return script
    first, *others = script.objects
    return replace(script, objects=(first, replace(first, spoiled=Fault.REPEATED_PRODUCT), *others))


def _nan_score(script: Script, _plan: FaultPlan) -> Script:
    return _rewrite_one(script, Fault.NAN_SCORE, score=lambda _: "NaN")


def _text_score(script: Script, _plan: FaultPlan) -> Script:
    return _rewrite_one(script, Fault.TEXT_SCORE, score=lambda score: f'"{score}"')


def _wrapped(script: Script, _plan: FaultPlan) -> Script:
    return replace(
        script,
        before="Here is the ranking that you asked for:\n\n```json\n",
        after="\n```\n\nTell me if you need more.",
    )


def _held(script: Script, plan: FaultPlan) -> Script:
    return _with_break(script, Break(BreakKind.HOLD, plan.hold_after_objects))


def _error_event(script: Script, plan: FaultPlan) -> Script:
    return _with_break(script, Break(BreakKind.ERROR_EVENT, plan.error_after_objects))


def _cut(script: Script, plan: FaultPlan) -> Script:
    return _with_break(script, Break(BreakKind.CUT, plan.cut_after_objects, plan.cut_at_share))


def _with_break(script: Script, entry: Break) -> Script:
    return replace(script, breaks=(*script.breaks, entry))


def _same(score: str) -> str | None:
    return score


def _rewrite_one(
    script: Script, fault: Fault, *, candidate: str | None = None, score: Callable[[str], str | None] = _same
) -> Script:
    """Write one sound object anew, the second of them: each of several faults finds its own."""
    sound = [place for place, entry in enumerate(script.objects) if entry.spoiled is None]
    if not sound:
        return script
    place = sound[1] if len(sound) > 1 else sound[0]
    victim = script.objects[place]
    number = candidate or victim.candidate
    text = object_text(script.form, number, victim.name, score(score_text(script.form, victim.score)))
    spoiled = replace(victim, candidate=number, text=text, spoiled=fault)
    objects = list(script.objects)
    objects[place] = spoiled
    return replace(script, objects=tuple(objects))


_EFFECTS: Mapping[Fault, Callable[[Script, FaultPlan], Script]] = {
    Fault.REFUSED_429: _refused_429,
    Fault.REFUSED_500: _refused_500,
    Fault.DELAYED: _delayed,
    Fault.STALLED: _stalled,
    Fault.UNKNOWN_CANDIDATE: _unknown_candidate,
    Fault.MISSING_SCORE: _missing_score,
    Fault.REPEATED_PRODUCT: _repeated_product,
    Fault.NAN_SCORE: _nan_score,
    Fault.TEXT_SCORE: _text_score,
    Fault.WRAPPED: _wrapped,
    Fault.HELD: _held,
    Fault.ERROR_EVENT: _error_event,
    Fault.CUT: _cut,
}
