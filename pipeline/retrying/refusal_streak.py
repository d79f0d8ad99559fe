"""Tells one customer's refused prompt from a request that the endpoint refuses for everybody."""

from typing import Final

from pipeline.errors import AnswerError, EndpointFatalError, PromptRefusedError

MOST_IN_A_ROW: Final = 20


class RefusalStreak:
    """The prompts of a run that were refused one after another. `answered` is whether it ever had an answer.

    A run that had one is not stopped: those who are left of it may all be such whose prompts are refused.
    """

    def __init__(self, *, answered: bool = False) -> None:
        self._answered = answered
        self._refused = 0

    def note(self, problem: AnswerError | None, attempts: int) -> None:
        """Take note of how a slate ended after so many attempts; without one it says nothing.

        Raises:
            EndpointFatalError: so many prompts were refused one after another that all of them would be.
        """
        if not attempts:
            return
        self._answered = self._answered or problem is None
        self._refused = self._refused + 1 if isinstance(problem, PromptRefusedError) else 0
        if not self._answered and self._refused >= MOST_IN_A_ROW:
            raise EndpointFatalError(
                f"{problem}; the same for {self._refused} customers in a row: mend it, then `recstream resume`"
            )
