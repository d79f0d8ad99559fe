"""Judges whether a night is good enough for readers: its figures against limits, and against the last night's."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.domain import RunId

_NOT_PUBLISHED = "not published: "
_MOST_DIGITS = 17  # no two floats look the same with so many


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run has come to.

    `rows` are those of complete slates; `committed` and `refused` are objects of all answers. `unchanged` are customers
    who keep a slate that they have already, `kept_rows` its rows. `filled_up` are complete slates that no model would
    make to their end: they are shown, but are no merit of the night.
    """

    planned: int
    complete: int
    rows: int
    committed: int
    refused: int
    unchanged: int = 0
    kept_rows: int = 0
    filled_up: int = 0

    @property
    def served(self) -> int:
        """Customers with a complete slate, made now or kept."""
        return self.complete + self.unchanged

    @property
    def served_share(self) -> float:
        """Customers with a complete slate, made by a model now or kept, of those planned."""
        return _share(self.served - self.filled_up, self.planned)

    @property
    def rows_per_slate(self) -> float:
        """Rows of a complete slate, made now or kept, on average."""
        return _share(self.rows + self.kept_rows, self.served)

    @property
    def refused_share(self) -> float:
        """Objects of the answers that were refused, of all."""
        return _share(self.refused, self.committed + self.refused)

    @property
    def left(self) -> int:
        """Customers without a complete slate, made now or kept."""
        return self.planned - self.served


@dataclass(frozen=True, slots=True)
class LastFigures:
    """What is held against a night of the last one that was published."""

    served_share: float
    rows_per_slate: float


@dataclass(frozen=True, slots=True)
class Gates:
    """The limits. `worsening`: how far below the last night's a figure may be, as a share of it; 1 allows anything."""

    served_share: float = 0.9
    rows_per_slate: float = 1.0
    refused_share: float = 0.5
    worsening: float = 0.1


def judge(figures: Figures, last: LastFigures | None, gates: Gates) -> tuple[str, ...]:
    """The reasons that keep a run with these figures from its readers, each a line; none if it may be published."""
    if figures.served == 0:
        return (f"none of {_customers(figures.planned)} has a complete slate",)
    found = (
        _too_few_served(figures, last, gates),
        _too_few_rows(figures, last, gates),
        _too_many_refused(figures, gates),
    )
    return tuple(reason for reason in found if reason is not None)


def advice(reasons: tuple[str, ...], figures: Figures, run_id: RunId) -> str:
    """The reasons in one line, with what can be done about them."""
    ways = []
    if figures.left:
        ways.append(f"`recstream resume {run_id}` goes on with the customers that are left")
    if figures.complete:
        ways.append(f"`recstream publish {run_id} --force` publishes it all the same")
    return f"{_NOT_PUBLISHED}{'; '.join(reasons)}; readers keep what they had: {', '.join(ways)}"


def with_refusal(reason: str | None, refusal: str | None) -> str | None:
    """What the ledger says of a run: why it has not finished, and why it is not published."""
    return "; ".join(part for part in (reason, refusal) if part) or None


def rolled_back(run_id: RunId, withdrawn_at: datetime) -> str:
    """Why readers do not see a run that was resumed after a person took it away from them."""
    when = f"{withdrawn_at:%Y-%m-%d %H:%M} UTC"
    return f"{_NOT_PUBLISHED}it was rolled back {when}; `recstream publish {run_id}` brings it back"


def without_refusal(reason: str | None) -> str | None:
    """The same once it is published."""
    kept, separator, _ = (reason or "").partition(_NOT_PUBLISHED)
    return (kept.removesuffix("; ") if separator else kept) or None


def _too_few_served(figures: Figures, last: LastFigures | None, gates: Gates) -> str | None:
    """The share of customers served is below its limit, or well below the last night's."""
    share, limit = figures.served_share, gates.served_share
    if share < limit:
        return _unserved(figures, limit, "the gate wants")
    if last is not None and share < (limit := last.served_share * (1 - gates.worsening)):
        return _unserved(figures, limit, f"the last night {_short(last.served_share * 100, 1)}%, the gate wants")
    return None


def _unserved(figures: Figures, limit: float, wants: str) -> str:
    served, wanted = _apart(figures.served_share * 100, limit * 100)
    return f"served {served}% of {_customers(figures.planned)}, {wants} {wanted}%"


def _too_few_rows(figures: Figures, last: LastFigures | None, gates: Gates) -> str | None:
    """The slates are shorter than the limit, or well shorter than the last night's."""
    rows, limit = figures.rows_per_slate, gates.rows_per_slate
    if rows < limit:
        return _shorter(rows, limit, "the gate wants")
    if last is not None and rows < (limit := last.rows_per_slate * (1 - gates.worsening)):
        return _shorter(rows, limit, f"the last night had {_short(last.rows_per_slate, 1)}, the gate wants")
    return None


def _shorter(rows: float, limit: float, wants: str) -> str:
    found, wanted = _apart(rows, limit)
    return f"{found} rows per slate, {wants} {wanted}"


def _too_many_refused(figures: Figures, gates: Gates) -> str | None:
    if figures.refused_share <= gates.refused_share:
        return None
    refused, most = _apart(figures.refused_share * 100, gates.refused_share * 100)
    return f"{refused}% of the objects in the answers were refused, the gate allows {most}%"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _customers(number: int) -> str:
    return f"{number:,} customer{'' if number == 1 else 's'}"


def _apart(found: float, limit: float) -> tuple[str, str]:
    """Both, with as many digits as it takes to tell them apart."""
    for digits in range(1, _MOST_DIGITS):
        texts = _short(found, digits), _short(limit, digits)
        if texts[0] != texts[1]:
            return texts
    return repr(found), repr(limit)


def _short(number: float, digits: int) -> str:
    """So many digits behind the point, but no zeros at the end."""
    return f"{number:.{digits}f}".rstrip("0").rstrip(".")
