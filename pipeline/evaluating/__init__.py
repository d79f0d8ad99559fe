"""How good what was found and ranked is: splits in time, measures, and intervals that say how sure they are."""
