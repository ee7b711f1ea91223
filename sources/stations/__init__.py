"""Stations as operators manage them: their records, and who waits to be let in."""
