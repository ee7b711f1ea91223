"""Randomness as a function: the same key and time give the same value, in any order, in any process."""

import math
import zlib
from functools import lru_cache
from statistics import NormalDist
from typing import Final

_MASK: Final = (1 << 64) - 1
_NORMAL: Final = NormalDist()


def key(seed: int, *names: str | int) -> int:
    """A 64-bit key for a stream of random numbers."""
    mixed = _mix(seed & _MASK)
    for name in names:
        number = zlib.crc32(name.encode()) if isinstance(name, str) else name
        mixed = _mix(mixed ^ (number & _MASK))
    return mixed


def uniform(stream: int, index: int) -> float:
    """Number `index` of a stream, in the open interval (0, 1)."""
    return ((_mix(stream ^ (index * 0x9E3779B97F4A7C15 & _MASK)) >> 11) + 0.5) / (1 << 53)


@lru_cache(maxsize=1 << 16)
def normal(stream: int, index: int) -> float:
    """Number `index` of a stream, standard normal."""
    return _NORMAL.inv_cdf(uniform(stream, index))


def smooth(stream: int, x: float) -> float:
    """A smooth random function of `x` with mean 0, variance about 1 and correlation length about 1."""
    index = math.floor(x)
    part = x - index
    weight = part * part * (3.0 - 2.0 * part)
    mixed = normal(stream, index) * (1.0 - weight) + normal(stream, index + 1) * weight
    # Interpolation lowers the variance between the lattice points; this undoes it.
    return mixed / math.hypot(1.0 - weight, weight)


def _mix(z: int) -> int:
    """splitmix64."""
    z = (z + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
