"""Kills, crashes and cuts a working pipeline at random moments, and lets a checker judge what is in the tables."""
