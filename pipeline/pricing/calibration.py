"""Corrects estimated token counts by what the endpoint reports: a running ratio, kept for each model."""

from typing import Final

_PRIOR: Final = 4_000.0  # estimated tokens for which the estimate is taken to be right: some two prompts
_MEMORY: Final = 400_000.0  # estimated tokens that the ratio remembers: some two hundred prompts
_FURTHEST: Final = 4.0  # an endpoint that reports more, or less than its inverse, counts something else


class Calibration:
    """How many tokens one model's endpoint reports for each that was estimated. Starts at one."""

    def __init__(self, estimated: int = 0, reported: int = 0) -> None:
        """`estimated` and `reported` are sums over former requests, where they are known."""
        self._estimated = _PRIOR
        self._reported = _PRIOR
        self.note(estimated, reported)

    @property
    def ratio(self) -> float:
        """Reported tokens for each estimated one."""
        return min(max(self._reported / self._estimated, 1 / _FURTHEST), _FURTHEST)

    def note(self, estimated: int, reported: int) -> None:
        """Take in one request whose usage was reported; one without either number teaches nothing."""
        if estimated <= 0 or reported <= 0:
            return
        self._estimated += estimated
        self._reported += reported
        if self._estimated > _MEMORY:
            shrink = _MEMORY / self._estimated
            self._estimated *= shrink
            self._reported *= shrink

    def corrected(self, estimated: int) -> int:
        """The estimate as this model's endpoint would count it."""
        return round(estimated * self.ratio)
