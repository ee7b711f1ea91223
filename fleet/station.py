"""What is remembered of a station, record by record. Pure: a function of what came, in its order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median_low
from typing import Final

from fleet.clock import ARRIVALS, TOGETHER_MS, clock_offset_ms
from schemas.base import from_ms, to_ms
from schemas.device import CLOCK, PAYLOAD, DeviceReport, SourceState
from schemas.health import StationHealth, TroubleAlert
from schemas.limits import SOURCES_PER_STATION
from schemas.times import DAY_MS, HOUR_MS, MINUTE_MS

#: Gaps that are remembered; the lower median of them is the usual one.
GAPS: Final = 9
#: A period is named of no fewer gaps, and of stamps that lie no closer together than so much.
_GAPS_LEAST: Final = 2
_SPREAD_MS: Final = MINUTE_MS
#: Hours of which it is counted what came.
HOURS: Final = 24
#: What does not claim to be the device's own time, and is so old, is history that somebody sends.
_HISTORY_MS: Final = DAY_MS


@dataclass
class Member:
    """A station of the fleet; times in ms since 1970.

    `last_arrival`, `first`: when something came last, and when for the first time. `observed`: its newest
    stamp. `gaps`, `stamp_gaps`: the last ones from arrival to arrival and from stamp to stamp. `skews`: of
    each of the last arrivals, its newest stamp minus the moment when it came (`fleet.clock`). `open_at`,
    `open_skew`: of the arrival that may still be under way. `hours`: how many stamps came, by hour.
    `read_to`: by kind of record, the offset of the topic before which all counts. `sources`: by name.
    `alerts`: by rule.
    `unheard`: nothing came yet, and `last_arrival` and `first` are those of the first record of it.
    """

    station: str
    last_arrival: int
    first: int
    observed: int | None = None
    gaps: tuple[int, ...] = ()
    stamp_gaps: tuple[int, ...] = ()
    skews: tuple[int, ...] = ()
    open_at: int | None = None
    open_skew: int | None = None
    hours: dict[int, int] = field(default_factory=dict)
    read_to: dict[str, int] = field(default_factory=dict)
    battery_percent: float | None = None
    battery_volts: float | None = None
    firmware: str = ""
    model: str = ""
    offline: int | None = None
    origins: tuple[str, ...] = ()
    sources: dict[str, SourceState] = field(default_factory=dict)
    unheard: bool = False
    alerts: dict[str, TroubleAlert] = field(default_factory=dict)

    def take_reading(
        self, arrived: int, stamp: int, *, end: int | None = None, own: bool | None = None
    ) -> None:
        """A reading came at `arrived` that was stamped `stamp`.

        Args:
            end: of the period that the stamp is of, where it begins it.
            own: whether the stamp is by the device's clock; None: nobody says.
        """
        self._arrived(arrived)
        refused = self.sources.get(CLOCK)
        if refused is not None and own and arrived > to_ms(refused.reported_at):
            del self.sources[CLOCK]
        unusable = self.sources.get(PAYLOAD)
        if unusable is not None and arrived > to_ms(unusable.reported_at):
            del self.sources[PAYLOAD]
        skew = (stamp if end is None else end) - arrived
        if own is not False and not (own is None and skew < -_HISTORY_MS):
            self.open_skew = skew if self.open_skew is None else max(self.open_skew, skew)
        # The broker's time is what a stamp cannot be after: else one wrong year would hide all that follow.
        time = min(stamp, arrived)
        if self.observed is None or time > self.observed:
            if self.observed is not None:
                self.stamp_gaps = (*self.stamp_gaps, time - self.observed)[-GAPS:]
            self.observed = time
        elif time == self.observed:
            return  # the same again, or another sensor's values of the same time
        hour = time // HOUR_MS
        self.hours[hour] = self.hours.get(hour, 0) + 1
        newest = max(self.hours)
        for old in [one for one in self.hours if one <= newest - HOURS]:
            del self.hours[old]

    def take_picture(self, arrived: int) -> None:
        """A picture came."""
        self._arrived(arrived)

    def take_report(self, report: DeviceReport) -> None:
        """The device, its broker, or who fetches something of it, reported something of it."""
        at = to_ms(report.at)
        if report.source is not None:
            if report.source.source in (CLOCK, PAYLOAD):  # it spoke, and could not be used
                self._arrived(at)
            self._fetched(report.source)
            return
        if report.online is False:
            self.offline = at
            return
        self._arrived(at)
        if report.battery_percent is not None:
            self.battery_percent = report.battery_percent
        if report.battery_volts is not None:
            self.battery_volts = report.battery_volts
        self.firmware = report.firmware or self.firmware
        self.model = report.model or self.model
        self.origins = report.origins

    def _fetched(self, state: SourceState) -> None:
        before = self.sources.pop(state.source, None)
        if before is not None and before.state == state.state:
            # A gateway that was started anew knows of no time before.
            state = state.model_copy(update={"since": min(before.since, state.since)})
        self.sources[state.source] = state
        while len(self.sources) > SOURCES_PER_STATION:
            del self.sources[next(iter(self.sources))]

    def _arrived(self, at: int) -> None:
        if self.unheard:
            self.unheard, self.last_arrival, self.first = False, at, at
        if self.open_at is None or at > self.open_at + TOGETHER_MS:
            if self.open_at is not None:
                self.gaps = (*self.gaps, at - self.open_at)[-GAPS:]
            if self.open_skew is not None:
                self.skews = (*self.skews, self.open_skew)[-ARRIVALS:]
            self.open_at, self.open_skew = at, None
        self.last_arrival = max(self.last_arrival, at)
        if self.offline is not None and at >= self.offline:
            self.offline = None

    @property
    def clock_offset(self) -> int | None:
        """How far its clock is ahead, ms."""
        return clock_offset_ms(
            self.skews if self.open_skew is None else (*self.skews, self.open_skew)[-ARRIVALS:]
        )

    @property
    def period(self) -> int:
        """How far apart its stamps usually are, ms; 0 while nobody knows."""
        gap = _usual(self.stamp_gaps)
        # A handful sent at once, or the first two ever, say nothing of how often it speaks.
        if len(self.stamp_gaps) < _GAPS_LEAST:
            return 0
        return gap if max(sum(self.stamp_gaps), gap * sum(self.hours.values())) >= _SPREAD_MS else 0

    def health(self) -> StationHealth:
        """It as a record."""
        offset = self.clock_offset
        return StationHealth(
            station=self.station,
            heard_at=from_ms(self.last_arrival),
            first_at=from_ms(self.first),
            observed_at=None if self.observed is None else from_ms(self.observed),
            wait_s=_usual(self.gaps) / 1000,
            period_s=self.period / 1000,
            clock_offset_s=None if offset is None else offset / 1000,
            battery_percent=self.battery_percent,
            battery_volts=self.battery_volts,
            firmware=self.firmware,
            model=self.model,
            offline_at=None if self.offline is None else from_ms(self.offline),
            origins=self.origins,
            gaps_ms=self.gaps,
            leads_ms=self.skews,
            open_ms=()
            if self.open_at is None
            else (self.open_at, *(() if self.open_skew is None else (self.open_skew,))),
            stamp_gaps_ms=self.stamp_gaps,
            hours=tuple(sorted(self.hours.items())),
            offsets=dict(sorted(self.read_to.items())),
            sources=tuple(self.sources.values()),
            unheard=self.unheard,
            alerts=tuple(self.alerts[rule] for rule in sorted(self.alerts)),
        )

    @classmethod
    def of(cls, health: StationHealth) -> "Member":
        """The station that `health` gave this record of."""
        open_at, open_skew = (*health.open_ms, None, None)[:2]
        return cls(
            health.station,
            to_ms(health.heard_at),
            to_ms(health.first_at),
            None if health.observed_at is None else to_ms(health.observed_at),
            health.gaps_ms,
            health.stamp_gaps_ms,
            health.leads_ms,
            open_at,
            open_skew,
            dict(health.hours),
            dict(health.offsets),
            health.battery_percent,
            health.battery_volts,
            health.firmware,
            health.model,
            None if health.offline_at is None else to_ms(health.offline_at),
            health.origins,
            {one.source: one for one in health.sources},
            health.unheard,
            {one.rule: one for one in health.alerts},
        )


def _usual(gaps: tuple[int, ...]) -> int:
    """The usual gap, 0 while none is known. Short ones say that a long one is an outage."""
    return median_low(gaps) if gaps else 0


def received(hours: Mapping[int, int], now: int) -> int:
    """How many stamps came of this hour and the 23 before it."""
    return sum(count for hour, count in hours.items() if 0 <= now // HOUR_MS - hour < HOURS)


def expected(health: StationHealth, now: int) -> int | None:
    """How many should have come in that time, None where nobody knows how often it speaks.

    From when it was heard first: of the time before only what it had kept and sent counts, as due and come.
    """
    if not health.period_s:
        return None
    period, start, first = (
        health.period_s * 1000,
        (now // HOUR_MS - HOURS + 1) * HOUR_MS,
        to_ms(health.first_at),
    )
    if first <= start:
        return max(0, round((now - start) / period))
    hours, hour = dict(health.hours), first // HOUR_MS
    kept = sum(count for one, count in hours.items() if start // HOUR_MS <= one < hour)
    turn = min(now, (hour + 1) * HOUR_MS)
    # What it had kept of its first hour stands beside what came then.
    due = max(round((turn - first) / period), hours.get(hour, 0))
    return kept + due + max(0, round((now - turn) / period))
