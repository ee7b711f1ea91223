"""What stands in one place of a payload, as a number, as no value, as an id, as words in a message."""

import hashlib
import math
import re
from typing import Final

from schemas.base import is_id

#: Words for no value.
_NO_VALUE: Final = frozenset(
    {"", "nan", "none", "null", "na", "n/a", "-", "--", "unknown", "unavailable", "nodata", "no data", "inf"}
)
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
#: A comma before three digits may be one of thousands: then it is no number.
_COMMA: Final = re.compile(r"[+-]?(0,[0-9]+|[0-9]{1,9},([0-9]{1,2}|[0-9]{4,}))")


def station_id(text: str) -> str:
    """`text` as a station's id. Where that takes more than other separators, a hash keeps two ids apart."""
    if is_id(text):
        return text
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{plain[:55] or 'station'}-{digest}"


def sensor_id(text: str) -> str:
    """`text` as the id of a sensor, `main` where it is empty."""
    return station_id(text) if text else "main"


def number_of(raw: object) -> float | None:
    """Numbers, and text that is one (many devices send text); NaN and infinity of JSON as they are."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int | float):
        try:
            return float(raw)
        except OverflowError:
            return math.inf
    if isinstance(raw, str):
        text = raw.strip()
        if _NUMBER.fullmatch(text):
            return float(text)
        if _COMMA.fullmatch(text):
            return float(text.replace(",", "."))
    return None


def says_nothing(raw: object) -> bool:
    """Whether it is a word, or a number, for no value."""
    if isinstance(raw, str):
        return raw.strip().lower() in _NO_VALUE
    return raw is None or (isinstance(raw, float) and not math.isfinite(raw))


def short(raw: object) -> str:
    """It as it would be written in code, cut."""
    if isinstance(raw, int) and raw.bit_length() > 64:
        return "a huge number"
    return repr(raw[:40] if isinstance(raw, str) else raw)[:48]
