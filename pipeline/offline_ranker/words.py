"""Turns text into comparable words: small letters, no plural endings, no filler."""

import re
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+")

_FILLER = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at best by for from good has in interested into is it its me my new no not of on or "
        "our so that the their this to top with you your",
    )
)


def words(text: str) -> tuple[str, ...]:
    """Return the meaningful words of `text` in their order, numbers among them, each as its stem."""
    return tuple(
        stem(word)
        for word in _WORD.findall(text.casefold())
        if word not in _FILLER and (len(word) > 1 or word.isdigit())
    )


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Take an English plural ending off one small-letter word: laptops → laptop, accessories → accessory."""
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    return word[:-1]
