"""A cache of prompts as providers describe theirs: the beginning of a prompt that came before costs less.

What counts is the longest beginning in common with an earlier prompt, from 1,024 tokens on in steps of 128, of the
last prompts only. Nothing is computed faster for it: it shows in the usage alone.
"""

from collections import OrderedDict

from pipeline.offline_ranker.answers import CHARACTERS_PER_TOKEN

FIRST_STEP = 1_024
STEP = 128
_MOST_BEGINNINGS = 100_000


class PromptCache:
    """The beginnings of the prompts that were seen, by the hash of all that leads up to each step."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, None] = OrderedDict()

    def cached_tokens(self, prompt: str) -> int:
        """The tokens of the beginning that is known by now; the whole prompt is known afterwards."""
        cached, key = 0, 0
        for tokens in range(FIRST_STEP, len(prompt) // CHARACTERS_PER_TOKEN + 1, STEP):
            start = 0 if tokens == FIRST_STEP else (tokens - STEP) * CHARACTERS_PER_TOKEN
            key = hash((key, prompt[start : tokens * CHARACTERS_PER_TOKEN]))
            cached = tokens if key in self._seen else cached
            self._remember(key)
        return cached

    def _remember(self, key: int) -> None:
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST_BEGINNINGS:
            self._seen.popitem(last=False)
