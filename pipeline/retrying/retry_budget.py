"""How much of a run may be asked twice: a share of what went well, so that a broken endpoint never doubles the bill."""

from typing import Final

FLOOR: Final = 50
ANSWERS_FOR_A_RETRY: Final = 5


class RetryBudget:
    """What one process may still spend on beginning anew, for all customers of a run. It counts requests.

    It begins with `FLOOR`, or with one for each customer `at_a_time` if those are more, so that one break of all
    streams leaves nobody behind. Five answers that brought rows pay for one more: a fifth is the default of Finagle and
    of Envoy as well. What was refused without being charged costs nothing, nor does going on after rows that stand.
    """

    def __init__(self, at_a_time: int = 1) -> None:
        self._floor = max(FLOOR, at_a_time)
        self._answers = 0
        self.spent = 0

    def earn(self) -> None:
        """Take note of an answer that brought rows."""
        self._answers += 1

    def spend(self) -> bool:
        """Take one request out; False where none is left."""
        if self.spent >= self._floor + self._answers // ANSWERS_FOR_A_RETRY:
            return False
        self.spent += 1
        return True
