"""Ranks the products of a prompt by the words and numbers that the prompt really contains.

A product gains from each phrase of the profile by the share of the phrase that it covers, where a rare word
counts more than a common one, a word in its brand or category more than one in its name, and one in its name
more than one in its description. A price near the customer's usual spend adds a little. It is word overlap,
not a language model.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

from pipeline.offline_ranker.prompt_reading import Candidate, Reading, Wish, read_prompt
from pipeline.offline_ranker.words import words

_LABEL_WEIGHT = 1.5
_NAME_WEIGHT = 1.0
_DESCRIPTION_WEIGHT = 0.6
_PRICE_WEIGHT = 0.3
_SATURATION = 2.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate in its place, with a score from 0 to 100."""

    candidate: Candidate
    score: int


def rank(prompt_text: str) -> tuple[Ranked, ...]:
    """Return the products of the prompt, best first, as many as it asks for (all, if it does not say).

    Scores never rise down the list; equal products keep the prompt's order. The same text gives the same
    answer.
    """
    return ranked(read_prompt(prompt_text))


def ranked(reading: Reading) -> tuple[Ranked, ...]:
    """As `rank`, of a prompt that has been read."""
    gains = _gains(reading)
    order = sorted(range(len(gains)), key=lambda place: (-gains[place], place))
    return tuple(Ranked(reading.candidates[place], _score(gains[place])) for place in order[: reading.wanted])


def _score(gain: float) -> int:
    """Bring a gain to 0..100 without regard to the other products, so that scores compare across answers."""
    return round(100 * (1 - math.exp(-max(gain, 0.0) / _SATURATION)))


def _gains(reading: Reading) -> list[float]:
    index = _index(reading.candidates)
    gains = [_price_gain(candidate.price, reading.spend) for candidate in reading.candidates]
    for wish in reading.wishes:
        _add_wish(gains, wish, index)
    return gains


def _index(candidates: tuple[Candidate, ...]) -> dict[str, list[tuple[int, float]]]:
    """Return, for each word, the places of the candidates that have it and the weight it has there."""
    index: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for place, candidate in enumerate(candidates):
        for word, weight in _word_weights(candidate).items():
            index[word].append((place, weight))
    return index


def _word_weights(candidate: Candidate) -> dict[str, float]:
    weights = dict.fromkeys(words(candidate.description), _DESCRIPTION_WEIGHT)
    weights |= dict.fromkeys(words(candidate.name), _NAME_WEIGHT)
    for label in candidate.labels:
        weights |= dict.fromkeys(words(label), _LABEL_WEIGHT)
    return weights


def _add_wish(gains: list[float], wish: Wish, index: dict[str, list[tuple[int, float]]]) -> None:
    rarity = {word: math.log1p(len(gains) / (len(index.get(word, ())) + 0.5)) for word in words(wish.phrase)}
    whole = sum(rarity.values())
    for word, share in rarity.items():
        for place, weight in index.get(word, ()):
            gains[place] += wish.weight * weight * share / whole


def _price_gain(price: float | None, spend: float | None) -> float:
    """Return the most for a price equal to the spend, half of it for twice or half the spend."""
    if not price or not spend:
        return 0.0
    return _PRICE_WEIGHT * math.exp(-abs(math.log(price / spend)))
