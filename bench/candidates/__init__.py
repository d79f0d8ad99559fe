"""How good candidates are, what building them takes, and how fast they are looked up."""
