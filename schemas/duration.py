"""Lengths of time as people write them: in settings, in alert rules, on the command line."""

import math
import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, TypeAdapter, ValidationError

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_OTHER: Final = TypeAdapter(timedelta)
_HOW: Final = (
    'a duration is written "60s", "5m", "1h", "1h30m", "2d", in plain seconds (3600), 01:00:00 or PT1H'
)


def parse_duration(value: object) -> timedelta:
    """A number of seconds, or text: numbers with units, plain seconds, HH:MM:SS, ISO 8601. Not negative.

    Raises ValueError, which says how a duration is written.
    """
    if isinstance(value, str):
        text = value.strip()
        seconds = _with_units(text)
        if seconds is None:
            seconds = _clock_or_iso(text)
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        seconds = None
    if seconds is None or not math.isfinite(seconds):
        raise ValueError(f"{_HOW}, not {value!r}")
    if seconds < 0:
        raise ValueError(f"a duration cannot be negative: {value!r}")
    try:
        return timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"{value!r} is longer than any duration here") from error


def _with_units(text: str) -> float | None:
    """Seconds of `5m`, `1h30m`, `3600`; None where it is written otherwise."""
    try:
        # float() takes digits with underscores and names for infinity; nobody means them.
        return float(text) if text[-1:].isdigit() and "_" not in text else _sum(text)
    except ValueError:
        return None


def _sum(text: str) -> float | None:
    total, at = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != at:
            return None
        total += float(part[1]) * _SECONDS[part[2]]
        at = part.end()
    return total if at and at == len(text) else None


def _clock_or_iso(text: str) -> float | None:
    if ":" not in text and "P" not in text.upper():
        return None
    try:
        return _OTHER.validate_python(text).total_seconds()
    except ValidationError:
        return None


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
