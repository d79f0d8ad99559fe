"""Holds two runs, or two variants of one, against each other: what they rank, what they cost, what was bought."""

from pipeline.comparing.compare import Comparison, compare_sides
from pipeline.comparing.figures import Figures
from pipeline.comparing.hits import Hits, Share
from pipeline.comparing.likeness import PERSISTENCE
from pipeline.comparing.sides import Side, SideName, find_side, find_sides, read_name
from pipeline.comparing.tallies import Likeness

__all__ = [
    "PERSISTENCE",
    "Comparison",
    "Figures",
    "Hits",
    "Likeness",
    "Share",
    "Side",
    "SideName",
    "compare_sides",
    "find_side",
    "find_sides",
    "read_name",
]
