"""What a judgement says: which promise was broken, and how."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation: which promise was broken, and the words for people."""

    kind: str
    words: str
    count: int = 1


KINDS = (
    "lost",
    "doubled",
    "changed",
    "invented",
    "holes",
    "stale",
    "unaccounted",
    "not_terminal",
    "unserved",
    "torn",
    "unproven",
)
