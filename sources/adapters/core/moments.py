"""The moment that a payload states: text or number, with or without a zone, from clocks good and bad. Pure.

What cannot be told is refused with a name of its own (`Refused.code`), so that an operator sees at a glance
whether a clock was never set, a zone is missing, or an hour came twice.
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final, NamedTuple

from schemas.base import EARLIEST_MS, format_time, from_ms
from schemas.errors import Refused
from schemas.limits import MAX_AHEAD_MS

#: Where clocks begin that nobody has set, and whose.
RESETS: Final[dict[datetime, str]] = {
    datetime(2000, 1, 1, tzinfo=UTC): "a real-time clock without a battery",
    datetime(2010, 1, 1, tzinfo=UTC): "a modem or camera that was never set",
    datetime(2036, 2, 7, tzinfo=UTC): "a network time of zero",
}
#: For so long after its beginning such a clock is recognised: few devices run longer without being set.
_RUNNING: Final = timedelta(days=30)
#: What is so much older than its arrival is no backlog of a device.
_OLD: Final = timedelta(days=365)
#: A week number of GPS has ten bits: a receiver that is too old is a multiple of so much behind.
_ROLLOVER: Final = timedelta(weeks=1024)
_ROLLOVER_NEAR: Final = timedelta(days=3)
_AHEAD: Final = timedelta(milliseconds=MAX_AHEAD_MS)
#: By what it is refused where a clock is wrong.
WRONG_CLOCK: Final = frozenset(("clock_reset", "gps_rollover", "future_time"))
#: Numbers below (seconds) are no dates, but seconds since a device was switched on.
_UPTIME_BELOW: Final = 100_000_000
#: Least number that is too large for a unit, and its milliseconds.
_EPOCHS: Final = (
    (1e11, "seconds", 1000.0),
    (1e14, "milliseconds", 1.0),
    (1e17, "microseconds", 1e-3),
    (1e20, "nanoseconds", 1e-6),
)

_TEXT: Final = re.compile(
    r"([0-9]{4})[-/]([0-9]{2})[-/]([0-9]{2})[Tt ]+([0-9]{2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]+)?)?"
    r" ?([Zz]|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?"
)
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,9})?")


class Stated(NamedTuple):
    """A moment, and in words how it was found where that is not plain from the payload."""

    at: datetime
    remark: tuple[str, str] | None = None


def moment(
    raw: object,
    zone: tzinfo | None,
    received_at: datetime,
    after: datetime | None = None,
    formats: Sequence[str] = (),
    before: datetime | None = None,
) -> Stated:
    """The moment (UTC) that `raw` states, text or a number since 1970.

    Args:
        zone: of text that states none.
        received_at: when the payload came in.
        after: the moment before it, of a payload whose moments ascend; tells the first from the second of a
            repeated hour.
        before: the moment after it, likewise.
        formats: of text, as of `datetime.strptime`, beside ISO 8601.

    Raises Refused: ``not_a_time``, ``no_zone``, ``missing_hour``, ``repeated_hour``, ``clock_reset``.
    """
    if isinstance(raw, str):
        text = raw.strip()
        if _NUMBER.fullmatch(text):
            return _since_1970(float(text) if "." in text else int(text))
        return _in_zone(_parsed(text, formats), text, zone, received_at, after, before)
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return _since_1970(raw)
    raise Refused("not_a_time", f"a time is text or a number, not {type(raw).__name__}")


def check_future(at: datetime, received_at: datetime) -> None:
    """Whether it can have been by then, by the clock where it came in. Raises Refused ``future_time``."""
    ahead = at - received_at
    if ahead > _AHEAD:
        raise Refused(
            "future_time",
            f"{format_time(at)} is {_length(ahead)} ahead of its arrival at {format_time(received_at)}: set"
            " the device's clock, or its zone",
        )


def check_clock(at: datetime, received_at: datetime) -> None:
    """Whether a device's clock can have been right.

    Raises Refused, with one of `WRONG_CLOCK`: ``clock_reset``, ``gps_rollover``, ``future_time``.
    """
    for begin, whose in RESETS.items():
        if begin <= at < begin + _RUNNING and abs(received_at - at) > _OLD:
            raise Refused(
                "clock_reset",
                f"{format_time(at)} is where {whose} begins, and it came at {format_time(received_at)}: set"
                " the device's clock",
            )
    behind = received_at - at
    weeks = round(behind / _ROLLOVER)
    if weeks >= 1 and abs(behind - weeks * _ROLLOVER) <= _ROLLOVER_NEAR:
        raise Refused(
            "gps_rollover",
            f"{format_time(at)} is {weeks * 1024} weeks before it came in: the receiver counts the weeks of"
            " GPS from the wrong beginning; its firmware needs an update",
        )
    check_future(at, received_at)


def _length(time: timedelta) -> str:
    """In the largest unit that it has two of: `47 min`, `26 h`, `400 days`."""
    minutes = int(time / timedelta(minutes=1))
    return (
        f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" if minutes < 2880 else f"{time.days} days"
    )


def _since_1970(number: float) -> Stated:
    if isinstance(number, float) and not math.isfinite(number):
        raise Refused("not_a_time", f"{number} is no time")
    if number < _UPTIME_BELOW:
        raise Refused(
            "clock_reset", f"{number:.12g} is no date in seconds since 1970: the device's clock was never set"
        )
    for below, unit, milliseconds in _EPOCHS:
        if number < below:
            at = _not_before_2000(from_ms(int(number * milliseconds)), f"{number:.20g}")
            return Stated(at, ("epoch_unit", f"a number of that size is {unit} since 1970"))
    raise Refused("not_a_time", "the number is too large for a time in any unit")


def _parsed(text: str, formats: Sequence[str]) -> datetime:
    """Text as a datetime, naive where it states no zone; an hour of 24 is the next day's first."""
    found = _TEXT.fullmatch(text)
    try:
        if found is None:
            midnight = text.endswith(" 24:00")
            for form in formats:
                try:
                    at = datetime.strptime(text[:-5] + "00:00" if midnight else text, form)  # noqa: DTZ007
                    return at + timedelta(days=midnight)
                except ValueError:
                    continue
            raise Refused("not_a_time", f"{text[:40]!r} is no time such as 2026-08-21T10:00:00Z")
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
        midnight = hour == 24 and minute == second == 0
        at = datetime(year, month, day, 0 if midnight else hour, minute, second)  # noqa: DTZ001
        at += timedelta(days=midnight, microseconds=int(float(found[7] or 0) * 1000) * 1000)
        return at if found[8] is None else at.replace(tzinfo=_offset(found[8].upper()))
    except (ValueError, OverflowError) as error:
        raise Refused("not_a_time", f"{text[:40]!r} is no time: {error}") from error


def _offset(text: str) -> tzinfo:
    if text[0] not in "+-":
        return UTC
    ahead = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(ahead if text[0] == "+" else -ahead)


def _in_zone(
    parsed: datetime, text: str, zone: tzinfo | None, received_at: datetime, after: datetime | None,
    before: datetime | None,
) -> Stated:  # fmt: skip
    try:
        if parsed.tzinfo is not None:
            return Stated(_not_before_2000(parsed.astimezone(UTC), text))
        if zone is None:
            raise Refused(
                "no_zone", f"{text[:40]!r} states no zone, and the station declares none: say which it is in"
            )
        first, second = (parsed.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first == second:
            return Stated(_not_before_2000(first, text))
        if first.astimezone(zone).replace(tzinfo=None) != parsed:
            raise Refused("missing_hour", f"there was no {text[:40]} in {zone}: clocks were put forward")
    except (OverflowError, ValueError) as error:
        raise Refused("not_a_time", f"{text[:40]!r} is no time: {error}") from error
    at = _of_repeated(first, second, received_at, after, before)
    if at is None:
        raise Refused(
            "repeated_hour",
            f"{text[:40]} was twice in {zone}, as clocks were put back, and nothing tells which: let the"
            " device state its offset",
        )
    which = "first" if at == first else "second"
    return Stated(at, ("repeated_hour", f"{text[:40]} was twice in {zone}: the {which} time"))


def _of_repeated(
    first: datetime, second: datetime, received_at: datetime, after: datetime | None,
    before: datetime | None,
) -> datetime | None:  # fmt: skip
    """Which of the two moments of a local time it is, where something tells.

    The second one has not been while only the first has. Rows of one payload come in their order. What comes
    within minutes of the second moment was stamped then.
    """
    apart = second - first
    if received_at < second:
        return first
    if after is not None:
        if first <= after < second:
            return second
        if timedelta(0) < first - after <= apart:
            return first
    if before is not None:
        if first < before <= second:
            return first
        if timedelta(0) < before - second <= apart:
            return second
    return second if received_at - second < apart / 2 else None


def _not_before_2000(at: datetime, text: str) -> datetime:
    if at < from_ms(EARLIEST_MS):
        raise Refused(
            "clock_reset", f"{text[:40]} lies before 2000-01-02: the device's clock was probably never set"
        )
    return at - timedelta(microseconds=at.microsecond % 1000)
