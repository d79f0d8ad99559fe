"""What a reader of live figures has to know: why there are none, and what cannot be concluded from those there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.evaluating.live_nights import Night, Window

_OFFLINE: Final = "offline_ranker"
_NO_HOLDOUT: Final = (
    "nobody was left out at random: these figures say that customers bought what they were shown, not that they bought "
    "it because of that; and what is popular was not shown, so what it would have sold cannot be known"
)
_SEEN: Final = (
    "a published slate is taken as seen: whether a customer came to the shop and looked at it only responses can tell"
)


@dataclass(frozen=True, slots=True)
class Known:
    """What the notes depend on. `others` bought something without a slate of these nights before their eyes."""

    window: Window
    nights: Sequence[Night]
    pruned: int
    buyers: int
    others: int
    responses: bool
    same_variants: bool


def notes_on(known: Known) -> Iterator[str]:
    """The notes on figures of at least one night, the most important ones last."""
    yield from _on_nights(known)
    if known.others:
        yield f"{known.others:,} more customers bought something, but saw no slate of these nights at that moment"
    if not known.responses:
        yield "no response names one of these runs: what was shown and clicked is not known"
    if known.buyers:
        yield _SEEN
        yield _NO_HOLDOUT
    else:
        yield "there are no hits to judge yet: look again when customers have bought something"


def note_on_nothing(window: Window, pruned: int) -> str:
    """Why there is no night to judge."""
    among = f" that was not pruned since ({pruned:,} were)" if pruned else ""
    return (
        f"no night{among} was published in the last {window.days} days: nothing can be said yet; "
        "`recstream run` makes and publishes one, and --run names an earlier one"
    )


def _on_nights(known: Known) -> Iterator[str]:
    if not known.window.is_over:
        yield f"the {known.window.days} days are not over: what is bought until their end is still to come"
    if known.pruned:
        yield f"{known.pruned:,} of the nights were pruned since, and are left out"
    if any(night.provenance == _OFFLINE for night in known.nights):
        yield "slates ranked by the offline ranker are among these: word overlap, no language model's judgement"
    if not known.same_variants:
        yield "the nights tried different variants: name one night with --run to see its variants by themselves"
