"""Whether the zero of an instrument is lost: a mean that stays far below zero, as no noise about zero does.

Noise has no mean of its own, so a hundred readings of -9 are no clean air. The mean over the last hours is
kept with a constant amount of state, what lies above `-lowest` counted as that much: dirty air of an hour ago
says nothing of where the zero is now.
"""

from typing import Final, NamedTuple

from schemas.times import HOUR_MS

#: What is further back hardly counts (ms).
MEMORY_MS: Final = 3 * HOUR_MS
#: A mean of less is noise: of so many readings, over so long (ms).
_ENOUGH: Final = 4
_LONG_ENOUGH_MS: Final = HOUR_MS


class ZeroLevel(NamedTuple):
    """Mean (ug/m3, held below the limit) of that many `readings` since `since_ms`, the last at `last_ms`.

    Stored by position (`schemas.state`): another field goes to the end, with a default.
    """

    mean: float
    since_ms: int
    last_ms: int
    readings: int = 1


def followed(level: ZeroLevel | None, at_ms: int, value: float, lowest: float) -> ZeroLevel:
    """The level after a reading; `lowest` (ug/m3, below zero): the mean that noise does not reach."""
    held = min(value, -lowest)
    if level is None or at_ms - level.last_ms > MEMORY_MS:
        return ZeroLevel(held, at_ms, at_ms)
    if at_ms <= level.last_ms:
        return level
    readings = level.readings + 1
    weight = max(1.0 / readings, (at_ms - level.last_ms) / MEMORY_MS)
    return ZeroLevel(level.mean + weight * (held - level.mean), level.since_ms, at_ms, readings)


def is_lost(level: ZeroLevel, lowest: float) -> bool:
    """Whether the mean is one that noise about zero does not have.

    Examples:
        >>> level = None
        >>> for minute in range(61):
        ...     level = followed(level, minute * 60_000, -9.0, lowest=-4.0)
        >>> is_lost(level, lowest=-4.0)
        True
    """
    long_enough = level.readings >= _ENOUGH and level.last_ms - level.since_ms >= _LONG_ENOUGH_MS
    return long_enough and level.mean < lowest
