"""Where an adapter puts what it finds: values by station and moment, facts of stations, refusals by name."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal

from schemas.duration import parse_duration
from schemas.errors import Refused
from schemas.reading import MAX_PERIOD_S, Reading, Stamp, TimeSource
from sources.adapters.core.cells import number_of, says_nothing, short, station_id
from sources.adapters.core.draft import Device, Draft
from sources.adapters.core.ledger import Ledger
from sources.adapters.core.moments import WRONG_CLOCK, Stated, check_clock, check_future, moment
from sources.adapters.core.parts import Part, printable
from sources.adapters.core.payload import Node, parsed_json
from sources.adapters.core.source_format import Context, SourceFormat
from sources.adapters.core.words import is_not_carried

#: Parts that nobody took which are looked at one by one, how many different ones, and how deep they may lie.
MAX_SWEPT: Final = 1_000_000
MAX_PATHS: Final = 2_000
MAX_DEPTH: Final = 24
#: What a device has kept for longer it does not show as its newest.
_LONGEST_AGO_S: Final = 86_400
#: What comes so much after its moment is a backlog.
_BACKLOG: Final = timedelta(hours=1)
#: In the place of what was refused, that nothing is taken for not said.
Unusable = Literal["unusable"]
#: What a device says of itself; its place has a method of its own.
FactName = Literal["name", "firmware", "model", "exposure", "battery_percent", "battery_volts"]
_RANGES: Final[Mapping[FactName, tuple[float, float]]] = {
    "battery_percent": (0.0, 100.0), "battery_volts": (0.0, 60.0),
}  # fmt: skip
#: How sources say whether a device stands in a room.
_EXPOSURES: Final = {
    "0": "outdoor", "outside": "outdoor", "outdoor": "outdoor",
    "1": "indoor", "inside": "indoor", "indoor": "indoor",
}  # fmt: skip


class Tray(Ledger):
    """Where an adapter puts what it finds in a payload of its source's format."""

    def __init__(self, format: SourceFormat, context: Context) -> None:
        super().__init__(format)
        self.context = context
        self._devices: dict[str, Device] = {}
        self._drafts: dict[tuple[object, ...], Draft] = {}

    def document(self, text: str) -> Any:
        """The JSON document in a text; what an object of it has twice is refused by name. Raises Refused."""
        parsed, twice = parsed_json(text)
        self.name_twice(twice)
        return parsed

    def name_twice(self, keys: Iterable[str]) -> None:
        """Refuse keys that an object has twice."""
        for key in keys:
            self.refused.add("twice", key, key, "the key is there twice, with different values")

    def device(self, raw: str = "", prefix: str = "") -> Device:
        """The station of an id as the payload has it; a way in that says the station counts more.

        `prefix`: put before the id, so that the serial numbers of two makers do not meet.
        """
        self.look()
        given = station_id(self.context.station) if self.context.station else ""
        station = station_id(f"{prefix}{raw}") if raw and (self.format.many or not given) else given
        return self._devices.setdefault(station, Device(station))

    def own(self, said: str, topic: re.Pattern[str]) -> str:
        """The id of its device that a message says, or else its topic, whose groups name it.

        Who may publish on which topic is a rule of the broker: raises Refused where the two differ.
        """
        found = topic.search(self.context.topic)
        named = next(filter(None, found.groups()), "") if found else ""
        by_broker = self.context.receiver == "broker"
        if by_broker and said and named and said.lower() != named.lower():
            raise Refused("not_yours", f"its topic is that of {named!r:.60}, and it says {said!r:.60}")
        return said or named

    def draft(
        self,
        device: Device,
        stated: Node | None = None,
        period_s: float | None = None,
        stamp: Stamp | Unusable | None = None,
        source: TimeSource | None = None,
        at: datetime | None = None,
        now: bool = False,
    ) -> Draft:
        """Values of a device at the moment that `stated` says; without one, at the moment of arrival.

        Args:
            stated: a time in the payload; taken.
            period_s: seconds that the values stand for, as of `seconds`; the adapter's if not given.
            stamp: whether the time begins or ends them, as of `stamp`; the adapter's if not given.
            source: whose clock it is; the adapter's if not given.
            at: the moment itself, where the adapter has it already.
            now: whether a missing time is that of arrival, in an archive too.
        """
        unusable = stamp == "unusable" or (period_s is not None and math.isnan(period_s))
        stamp = self.format.stamp if stamp is None or stamp == "unusable" else stamp
        clock: TimeSource = source or self._source()
        period_s = self.format.period_s if period_s is None else period_s
        too_long = period_s is not None and period_s > MAX_PERIOD_S
        period = None if too_long or period_s is None or not period_s >= 1 else math.ceil(period_s)
        if at is None:
            if stated and (stated.has_parts() or stated.is_twice() or stated.peek() is not None):
                at = self.moment(device, stated)
            elif self.format.archive and not now:
                self.refused.add("no_stamp", "", "", "no time in it, and it may be of any age")
            else:
                at, clock = self.context.received_at, self.context.receiver
                self.remarks.add("no_stamp", "", "", f"no time in it: the time of arrival ({clock})")
        if too_long:
            why = f"a mean over {period_s:g} s is no reading of the air at a time: at most {MAX_PERIOD_S} s"
            self.refused.add("period_too_long", "", "", why)
            at = None
        if period_s is not None and period_s < 0:
            self.refused.add("ends_before_it_begins", "", "", f"it ends {-period_s:g} s before it begins")
            at = None
        if unusable:  # refused by name; a mean over an hour is no value of a moment
            at = None
        if at is not None and not self.format.portal:
            for remark in backlog(self.context.received_at - at):
                self.remarks.add(remark.code, "", "", remark.why)
        key = (device.station, at, period, stamp, clock)
        if key not in self._drafts:
            self._drafts[key] = Draft(self, device, at, period, stamp, clock)
        return self._drafts[key]

    def refused_draft(self, device: Device) -> Draft:
        """For values whose time was refused: they are refused too, by name."""
        return Draft(self, device, None, None, "ends", "server")

    def moment(self, device: Device, stated: Node) -> datetime | None:
        """The moment that a part of the payload states, taken; None where it is refused."""
        if stated.has_parts():
            self.refuse("not_a_time", stated, "a time is due here")
            return None
        if stated.is_twice():
            self.refuse("not_a_time", stated, "it is there twice, with different values")
            return None
        return self.moment_of(device, stated.take(), stated)

    def moment_of(self, device: Device, raw: object, part: Node) -> datetime | None:
        """The moment that `raw` states, which `part` said; None where it is refused."""
        try:
            found = self._checked(raw, device.last if device.ascending else None)
        except Refused as refused:
            self._refuse_time(device, part, refused)
            return None
        self._remark(found, part)
        device.ascending = device.ascending and (device.last is None or device.last <= found.at)
        device.last = found.at
        return found.at

    def moments(self, device: Device, stated: Sequence[Node], newest_first: bool) -> list[datetime | None]:
        """The moments of one series of values, whose rows ascend, or descend (`newest_first`); taken.

        An hour that comes twice is told apart by the rows on both sides of it. None where one is refused.
        """
        raw = [part.take() for part in stated]
        found: list[datetime | None] = [None] * len(stated)
        order = list(range(len(stated)))[:: -1 if newest_first else 1]
        doubtful: list[int] = []
        last: datetime | None = None
        ascending = True
        for index in order:
            try:
                one = self._checked(raw[index], last if ascending else None)
            except Refused as refused:
                if refused.code == "repeated_hour":
                    doubtful.append(index)
                else:
                    self._refuse_time(device, stated[index], refused)
                continue
            self._remark(one, stated[index])
            ascending = ascending and (last is None or last <= one.at)
            found[index] = last = one.at
        step = -1 if newest_first else 1
        for index in reversed(doubtful):  # what follows is known by now
            follows = found[index + step] if 0 <= index + step < len(found) else None
            try:
                one = self._checked(raw[index], None, follows if ascending else None)
            except Refused as refused:
                self._refuse_time(device, stated[index], refused)
                continue
            self._remark(one, stated[index])
            found[index] = one.at
        return found

    def _checked(self, raw: object, after: datetime | None, before: datetime | None = None) -> Stated:
        """The moment that `raw` states, by a clock that can have been right. Raises Refused."""
        received_at = self.context.received_at
        zone = self.format.zone_of(self.context)
        found = moment(raw, zone, received_at, after, self.format.formats, before)
        now = self.context.read_at or received_at
        (check_future if self.format.portal else check_clock)(found.at, now)
        return found

    def _refuse_time(self, device: Device, part: Node, refused: Refused) -> None:
        self.refused.add(refused.code, part.path, part, refused.message)
        if refused.code in WRONG_CLOCK and self.format.time_source == "device":
            device.wrong_clock = refused.code, refused.message

    def _remark(self, found: Stated, part: Node) -> None:
        if found.remark is not None:
            self.remarks.add(found.remark[0], part.path, part, found.remark[1])

    def name(self, device: Device, name: str) -> None:
        """The name of a device that a payload has as a key."""
        device.facts["name"] = printable(name)[:120]

    def fact(self, device: Device, fact: FactName, part: Node | None) -> None:
        """What a payload says of the device itself, taken; what cannot be is refused by name."""
        if not part:
            return
        match fact:
            case "exposure":
                if word := _EXPOSURES.get(f"{part.peek()}".lower()):
                    part.take()
                    device.facts[fact] = word
            case "battery_percent" | "battery_volts":
                if (number := self._ranged(part, *_RANGES[fact])) is not None:
                    device.facts[fact] = number
            case _:
                if not part.has_parts() and (text := part.text()):
                    device.facts[fact] = printable(text)[:120]

    def place(self, device: Device, latitude: Node | None, longitude: Node | None) -> None:
        """Where a payload says that the device is, degrees north and east, taken."""
        if latitude and longitude:
            north, east = self._ranged(latitude, -90, 90), self._ranged(longitude, -180, 180)
            # 0/0 is where receivers are that have no fix.
            if north is not None and east is not None and (north, east) != (0.0, 0.0):
                device.facts |= {"latitude": north, "longitude": east}

    def _ranged(self, part: Node, low: float, high: float) -> float | None:
        if part.has_parts():
            return None  # it is named as unknown
        raw = part.take()
        number = number_of(raw)
        if number is not None and low <= number <= high:
            return number
        if not says_nothing(raw):
            self.left_out.add("no_fact", part.path, part, f"{short(raw)} is not between {low:g} and {high:g}")
        return None

    def seconds(self, part: Node, factor: float = 1.0) -> float | None:
        """A period that the payload states, in seconds; None where it states none, nan if refused."""
        if part.has_parts() or part.is_twice():
            self.refuse("not_a_period", part, "a number of seconds is due here, once")
            return math.nan
        raw = part.take()
        number = number_of(raw)
        if number is not None and 0 <= number * factor < 1e9:
            return number * factor
        if factor == 1.0 and isinstance(raw, str) and (length := _length(raw)) is not None:
            return length
        if not says_nothing(raw):
            self.refused.add(
                "not_a_period", part.path, part, f"{short(raw)} is no length of time: seconds, PT1H, 1h"
            )
            return math.nan
        return None

    def ago(self, part: Node) -> datetime | None:
        """The moment so many seconds before the arrival, a day at most; None where it cannot be told."""
        seconds = self.seconds(part)
        if seconds is None or not 0 <= seconds <= _LONGEST_AGO_S:
            self.refused.add("not_an_age", part.path, part, "it is no number of seconds up to a day")
            return None
        return self.context.received_at - timedelta(seconds=round(seconds))

    def stamp(self, part: Node) -> Stamp | Unusable:
        """Whether times begin or end their period, where the payload says so; else as the adapter does."""
        if part.has_parts() or part.is_twice():
            self.refuse("not_a_stamp", part, "begins or ends is due here, once")
            return "unusable"
        raw = part.take()
        if raw == "begins":
            return "begins"
        if raw != "ends" and not says_nothing(raw):
            self.refused.add("not_a_stamp", part.path, part, f"{short(raw)}: begins or ends")
            return "unusable"
        return "ends" if raw == "ends" else self.format.stamp

    def other(self, name: str, part: Node) -> None:
        """A part of that name that is no reading: known as such to the adapter, or refused as unknown."""
        patterns = _patterns(tuple(self.format.others))
        known = patterns.fullmatch(name) if patterns else None
        if known is not None:
            self.leave("no_reading", part.called(name), self._what(known))
        elif is_not_carried(name):
            self.leave("not_carried", part.called(name), "no reading carries it")
        else:
            self.refuse("unknown", part.called(name), f"{self.format.name} knows no such part")

    def sweep(self, payload: Node) -> None:
        """Name what nobody took: known as no reading, or unknown."""
        patterns = _patterns(tuple(self.format.others))
        known: dict[str, str] = {}
        for seen, (part, path, depth) in enumerate(payload.rest()):
            if seen >= MAX_SWEPT or len(known) >= MAX_PATHS:
                self.refuse("too_many_parts", payload, f"more than {seen} parts that are no values")
                return
            if depth > MAX_DEPTH:
                self.refuse("too_deep", part, f"nested deeper than {MAX_DEPTH}")
                continue
            if path not in known:
                # A list of messages is named like one.
                found = patterns.fullmatch(path.removeprefix("[].")) if patterns else None
                known[path] = self._what(found) if found else ""
            if what := known[path]:
                self.left_out.add("no_reading", path, part, what)
                part.drop()
            elif not part.has_parts():
                why = f"{short(part.peek())}: {self.format.name} knows no such part"
                self.refused.add("unknown", path, part, why)
                part.drop()

    def devices(self) -> list[Device]:
        """Whoever spoke in the payload, and has an id."""
        return [device for device in self._devices.values() if device.station]

    def readings(self) -> list[Reading]:
        """The readings that came together."""
        return [r for draft in self._drafts.values() for r in draft.readings(self.context.received_at)]

    def _what(self, known: re.Match[str]) -> str:
        return tuple(self.format.others.values())[(known.lastindex or 1) - 1]

    def _source(self) -> TimeSource:
        source = self.format.time_source
        return self.context.receiver if source == "receiver" else source


def backlog(age: timedelta) -> tuple[Part, ...]:
    """The remark on a reading of so long before it came in, if that is to be said."""
    if age <= _BACKLOG:
        return ()
    return (Part("backlog", "", f"from {age / _BACKLOG:.0f} h before it came in, or less"),)


def _length(text: str) -> float | None:
    try:
        return parse_duration(text).total_seconds()
    except ValueError:
        return None


@lru_cache(maxsize=256)
def _patterns(known: tuple[str, ...]) -> re.Pattern[str] | None:
    """One expression for all; which of its groups matched says which pattern it was."""
    if not known:
        return None
    return re.compile(
        "|".join("(" + re.escape(path).replace(r"\*", ".*") + r"(?:[.\[].*)?)" for path in known), re.DOTALL
    )
