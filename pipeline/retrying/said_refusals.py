"""Finds the endpoint's own refusal in an answer that came with a good status and holds no recommendation.

Gateways answer 200 with "quota exceeded" as the text. What the text says is not believed as a status would be: a
customer's own words are in the prompt, and a model may repeat them. So it is an error of the endpoint that costs the
customer a try, and stops nobody; where all are told the same, the breaker opens.
"""

import json
import re
from typing import Final

from pipeline.errors import EndpointRefusedError
from pipeline.providers import SAID_INSTEAD
from pipeline.refusals import bounded, words_of

MOST_SAID: Final = 400
"""Characters of an answer that need to be kept for this. A longer one is no refusal."""
_INSTEAD: Final = re.compile(SAID_INSTEAD)


def refusal_said(said: str, address: str) -> EndpointRefusedError | None:
    """Our error for an answer without a recommendation whose whole text is `said`; None if that is no refusal."""
    if len(said) >= MOST_SAID:
        return None
    words = _error_in(said) or said
    if not _INSTEAD.search(words.lower()):
        return None
    return EndpointRefusedError(
        f"{address} answered, in the place of recommendations: {bounded(words)} (check the account, its limits and "
        "its bill)",
        in_band=True,
        words=words,
    )


def _error_in(said: str) -> str:
    """The words of an error object that is the whole text."""
    try:
        document = json.loads(said)
    except (ValueError, RecursionError):
        return ""
    return words_of(document) if isinstance(document, dict) and document.get("error") else ""
