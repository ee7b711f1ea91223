"""How far a long computation is."""

from collections.abc import Callable

#: What is done, how many of them, of how many in all.
Progress = Callable[[str, int, int], None]
