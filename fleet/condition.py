"""What a station's health means at a moment: one state, and whatever else is wrong. Pure."""

from typing import Final, Literal, NamedTuple, get_args

from schemas.base import to_ms
from schemas.device import CLOCK, SourceState
from schemas.health import StationHealth, Trouble
from schemas.times import HOUR_MS, MINUTE_MS

#: `offline`: its last will was read. `unheard`: it has a record, and never spoke.
FleetState = Literal["online", "late", "silent", "offline", "unheard"]
STATES: Final[tuple[FleetState, ...]] = get_args(FleetState)

#: The first word of what is fetched, which says of which kind it is.
_FETCHED: Final[tuple[Trouble, ...]] = ("camera", "pull", "payload")

#: A station is late when it is this much over its usual wait, and silent after three of them: as the alert
#: rules have it. While nobody knows how often it speaks an hour is assumed.
_LATE_MS: Final = MINUTE_MS
_SILENT_WAITS: Final = 3
_SILENT_LEAST_MS: Final = 10 * MINUTE_MS
_UNKNOWN_WAIT_MS: Final = HOUR_MS
#: Nothing comes from the future: a minute is an error of the clock.
_AHEAD_MS: Final = MINUTE_MS
#: Behind may be its clock or its way here, which takes a while with many.
_BEHIND_MS: Final = 10 * MINUTE_MS
_LOW_PERCENT: Final = 20.0
#: What a gateway has not reported for so long is no more asked: it reports every hour.
_OUTDATED_MS: Final = 3 * HOUR_MS
#: Age, in s, before which no station's window is stale; else three of its usual waits.
_STALE_LEAST_S: Final = 15 * 60
_STALE_WAITS: Final = 3


class Condition(NamedTuple):
    """How a station fares at a moment."""

    state: FleetState
    troubles: tuple[Trouble, ...]

    @property
    def well(self) -> bool:
        """Whether nobody need look."""
        return self.state == "online" and not self.troubles


def condition(health: StationHealth, now: int) -> Condition:
    """What `health` means at `now`, ms."""
    return Condition(_state(health, now), tuple(_troubles(health, now)))


def failing(health: StationHealth, now: int) -> list[SourceState]:
    """What is fetched of it, and gives nothing, or nothing new; its clock, whose times were refused; what it
    sends, of which nothing could be used.
    """
    return [one for one in health.sources if not one.well and now - to_ms(one.reported_at) <= _OUTDATED_MS]


def _state(health: StationHealth, now: int) -> FleetState:
    if health.offline_at is not None:
        return "offline"
    if health.unheard:
        return "unheard"
    wait = round(health.wait_s * 1000) or _UNKNOWN_WAIT_MS
    age = now - to_ms(health.heard_at)
    if age > max(_SILENT_WAITS * wait, _SILENT_LEAST_MS):
        return "silent"
    return "late" if age > wait + wait // 2 + _LATE_MS else "online"


def _troubles(health: StationHealth, now: int) -> list[Trouble]:
    found: list[Trouble] = []
    kinds = {one.source.partition(" ")[0] for one in failing(health, now)}
    if CLOCK in kinds or clock_is_off(health.clock_offset_s, health.period_s):
        found.append("clock")
    if health.battery_percent is not None and health.battery_percent < _LOW_PERCENT:
        found.append("battery")
    if len(health.origins) > 1:
        found.append("two_addresses")
    return found + [kind for kind in _FETCHED if kind in kinds]


def clock_is_off(offset_s: float | None, period_s: float) -> bool:
    """Whether a clock that is so far ahead (negative: behind) is wrong; None: nobody knows how far."""
    behind = max(_BEHIND_MS, round(2000 * period_s))
    return offset_s is not None and not -behind <= offset_s * 1000 <= _AHEAD_MS


def stale_after_s(wait_s: float, window_s: int) -> int:
    """From which age on a station's newest window is no news any more, given how often it is heard."""
    return round(max(_STALE_LEAST_S, _STALE_WAITS * max(wait_s, window_s)))
