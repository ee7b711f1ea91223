"""Which of the things that move a forecast are told to people, and in what order. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Beside the subjects: what is foretold in an average hour, and what no share was made of.
USUAL: Final = "usual"
UNSHARED: Final = "unshared"
#: Those that go the way of the change that are told at most; of those against it the largest is.
_WITH: Final = 3
#: Smaller parts of the largest are not told.
_SMALL: Final = 0.15
#: Less than this part of the last value (or of 1 ug/m3) is nothing.
_STEADY: Final = 0.05


def amount(value: float, sign: str = "") -> str:
    """A concentration (ug/m3) for people: tenths below 100, whole ones from there on, never an exponent.
    `sign`: "+" where it is a change.

    Examples:
        >>> amount(15.39), amount(3380.2), amount(-0.02, "+"), amount(110.4, "+")
        ('15.4', '3380', '+0.0', '+110')
    """
    return f"{value:{sign}.0f}" if abs(value) >= 99.95 else f"{round(value, 1) + 0.0:{sign}.1f}"


@dataclass(frozen=True)
class Telling:
    """Of a forecast's change since the last value (ug/m3): what goes its way, what goes against it, the
    largest first, and what all else adds: together they are the change.
    """

    change: float
    steady: bool
    along: tuple[tuple[str, float], ...]
    against: tuple[tuple[str, float], ...]
    rest: float


def telling(last: float, mean: float, shares: Mapping[str, float], usual: float, unshared: float) -> Telling:
    """What is told of last + usual + all shares + unshared = mean.

    Examples:
        >>> told = telling(20.0, 32.0, {"wind": 9.0, "rain": 0.1, "own": -3.0}, 1.0, 4.9)
        >>> told.along, told.against, round(told.rest, 6)
        ((('wind', 9.0), ('unshared', 4.9)), (('own', -3.0),), 1.1)
    """
    change, nothing = mean - last, _STEADY * max(last, 1.0)
    parts = sorted({**shares, USUAL: usual, UNSHARED: unshared}.items(), key=lambda part: -abs(part[1]))
    large = [part for part in parts if abs(part[1]) > max(_SMALL * abs(parts[0][1]), nothing)]
    along = tuple(part for part in large if part[1] * change > 0)[:_WITH]
    against = tuple(part for part in large if part[1] * change < 0)[:1]
    rest = change - sum(by for _, by in (*along, *against))
    return Telling(change, abs(change) < nothing, along, against, rest)
