"""Where an adapter puts what it finds: values by station and moment, facts of stations, refusals by name."""

import hashlib
import math
import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from pydantic import ValidationError

from schemas.base import STATION_PATTERN, first_error
from schemas.errors import Refused
from schemas.reading import MAX_PERIOD_S, Reading, Stamp, TimeSource, Value
from sources.adapters.core.adapter import Adapter, Context, Field
from sources.adapters.core.moments import check_clock, moment
from sources.adapters.core.parts import Names, printable
from sources.adapters.core.payload import Node
from sources.adapters.core.words import is_not_carried, parameter_of, scale_of, unit_for, without_unit

#: Values of one payload; more are refused.
MAX_VALUES: Final = 100_000
#: Entries and names that an adapter looks at in one payload.
MAX_LOOKS: Final = 300_000
#: Parts that nobody took which are looked at one by one, how many different ones, and how deep they may lie.
MAX_SWEPT: Final = 1_000_000
MAX_PATHS: Final = 2_000
MAX_DEPTH: Final = 24
#: What comes so much after its moment is a backlog.
BACKLOG: Final = timedelta(hours=1)

#: Numbers that mean no value wherever they are no physical one: of loggers, of portals, sixteen bits of ones.
SENTINELS: Final = (-999.0, -999.9, -9999.0, -99.0, -99.9, -127.0, 9999.0, 99999.0, 65535.0)
#: Words for no value.
_NO_VALUE: Final = frozenset(
    {"", "nan", "none", "null", "na", "n/a", "-", "--", "unknown", "unavailable", "nodata", "no data", "inf"}
)
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
#: A comma before three digits may be one of thousands: then it is no number.
_COMMA: Final = re.compile(r"[+-]?(0,[0-9]+|[0-9]{1,9},([0-9]{1,2}|[0-9]{4,}))")
_STATION: Final = re.compile(STATION_PATTERN)
_VALUES_PER_READING: Final = 256


class Device:
    """Whoever speaks in a payload; `station` is its id here, empty where it has none."""

    def __init__(self, station: str) -> None:
        self.station = station
        self.told: dict[str, str | float] = {}
        self.last: datetime | None = None
        self.ascending = True


class Draft:
    """Values of one station and moment, to become readings. Without a moment they are refused."""

    def __init__(
        self, tray: "Tray", device: Device, at: datetime | None, period: int | None, stamp: Stamp,
        source: TimeSource,
    ) -> None:  # fmt: skip
        self._tray = tray
        self._device = device
        self._at = at
        self._period = period
        self._stamp: Stamp = stamp
        self._source: TimeSource = source
        self._values: dict[tuple[str, str, str], Value] = {}

    def fields(self, part: Node) -> None:
        """Every member of `part` that the adapter's table knows."""
        for key, node in part.items():
            known = self._tray.adapter.fields.get(key)
            if known is not None:
                self.take(node, known)

    def named(self, name: str, node: Node, unit: str = "", sensor: str = "main") -> bool:
        """A value whose payload gives its quantity and unit in words; False: no quantity of that name."""
        self._tray.look()
        parameter = parameter_of(name)
        if parameter is None and not unit:
            base, unit = without_unit(name)
            parameter = parameter_of(base)
        if parameter is None:
            if is_not_carried(name) or is_not_carried(without_unit(name)[0]):
                self._tray.leave("not_carried", node, "no reading carries it")
                return True
            return False
        number = number_of(node.peek())
        try:
            scale = unit_for(parameter, unit, 0.0 if number is None else number)
        except Refused as refused:
            self._tray.refuse(refused.code, node, refused.message)
            return True
        self.take(node, Field(parameter, scale.unit, sensor=sensor, factor=scale.factor, offset=scale.offset))
        return True

    def exact(self, node: Node, name: str, unit: str, sensor: str, channel: str) -> None:
        """A value whose payload states everything: what it is, in which unit, of which sensor and channel."""
        parameter, scale = parameter_of(name), scale_of(unit)
        if parameter is None:
            if is_not_carried(name):
                self._tray.leave("not_carried", node.called(name), "no reading carries it")
            else:
                self._tray.refuse("unknown_parameter", node.called(name), f"{short(name)} is no parameter")
        elif scale is None:
            why = f"{short(unit)} is no unit of {parameter} that is known here"
            self._tray.refuse("unit", node.called(name), why)
        else:
            known = Field(
                parameter, scale.unit, channel or "value", sensor_id(sensor), scale.factor, scale.offset
            )
            self.take(node.called(name), known)

    def take(self, node: Node, known: Field) -> None:
        """One value."""
        tray = self._tray
        if not node:
            return
        if node.has_parts():
            tray.refuse("not_a_number", node, "a number is due here")
            return
        raw = node.take()
        number = number_of(raw)
        if number is None or not math.isfinite(number):
            if says_nothing(raw):
                tray.left_out.add(
                    "missing", node.path, node, f"no {known.parameter} at the time: {short(raw)}"
                )
            else:
                tray.refused.add("not_a_number", node.path, node, f"{short(raw)} is no number")
            return
        if number in tray.adapter.missing or number in known.missing:
            tray.left_out.add(
                "sentinel", node.path, node, f"{number:g} means that there is no {known.parameter}"
            )
            return
        if self._at is None or not self._device.station:
            code = "no_time" if self._device.station else "no_station"
            tray.refused.add(code, node.path, node, _WHY_NOT[code])
            return
        if tray.full():
            tray.refused.add("too_many", node.path, node, f"more than {MAX_VALUES} values in one payload")
            return
        scaled = number * known.factor + known.offset
        if known.factor != 1.0 or known.offset:
            scaled = round(scaled, 6)
        try:
            value = Value(
                parameter=known.parameter,
                value=scaled,
                unit=known.unit,
                sensor=known.sensor,
                channel=known.channel,
            )
        except ValidationError as error:
            if number in SENTINELS:
                tray.left_out.add(
                    "sentinel", node.path, node, f"{number:g} means that there is no {known.parameter}"
                )
                return
            code, why = first_error(error)
            tray.refused.add(code, node.path, node, why.removeprefix("message: "))
            return
        key = (value.sensor, value.parameter, value.channel)
        before = self._values.setdefault(key, value)
        if before is value:
            tray.values += 1
        elif before.value != value.value:
            tray.refused.add(
                "twice",
                node.path,
                node,
                f"another {known.parameter} of the same sensor, channel and moment came before",
            )

    def readings(self, received_at: datetime) -> list[Reading]:
        """What came together, in messages of no more values than one may have."""
        values = list(self._values.values())
        if self._at is None:
            return []
        return [
            Reading(
                station=self._device.station, observed_at=self._at, period=self._period, stamp=self._stamp,
                values=tuple(values[begin : begin + _VALUES_PER_READING]), received_at=received_at,
                time_source=self._source,
            )
            for begin in range(0, len(values), _VALUES_PER_READING)
        ]  # fmt: skip


#: How sources say whether a device stands in a room.
_EXPOSURES: Final = {
    "0": "outdoor", "outside": "outdoor", "outdoor": "outdoor",
    "1": "indoor", "inside": "indoor", "indoor": "indoor",
}  # fmt: skip
_WHY_NOT: Final = {
    "no_station": "nothing says which station it is of",
    "no_time": "its time could not be used (refused by name)",
}


class Tray:
    """Where an adapter puts what it finds in a payload."""

    def __init__(self, adapter: Adapter, context: Context) -> None:
        self.adapter = adapter
        self.context = context
        self.values = 0
        self._looks = 0
        self.refused = Names()
        self.left_out = Names()
        self.remarks = Names()
        self._devices: dict[str, Device] = {}
        self._drafts: dict[tuple[object, ...], Draft] = {}

    def full(self) -> bool:
        """Whether it holds as many values as one payload may have."""
        return self.values >= MAX_VALUES

    def look(self) -> None:
        """One more look at an entry or a name; a payload of too many is refused from there on."""
        self._looks += 1
        if self._looks > MAX_LOOKS:
            raise Refused("too_many", f"more than {MAX_LOOKS} entries and names in one payload")

    def device(self, raw: str = "", prefix: str = "") -> Device:
        """The station of an id as the payload has it; a way in that says the station counts more.

        `prefix`: put before the id, so that the serial numbers of two makers do not meet.
        """
        self.look()
        said = station_id(self.context.station) if self.context.station else ""
        station = station_id(f"{prefix}{raw}") if raw and (self.adapter.many or not said) else said
        return self._devices.setdefault(station, Device(station))

    def draft(
        self,
        device: Device,
        stated: Node | None = None,
        period_s: float | None = None,
        stamp: Stamp | None = None,
        source: TimeSource | None = None,
        at: datetime | None = None,
        now: bool = False,
    ) -> Draft:
        """Values of a device at the moment that `stated` says; without one, at the moment of arrival.

        Args:
            stated: a time in the payload; taken.
            period_s: seconds that the values stand for; the adapter's if not given.
            stamp: whether the time begins or ends them; the adapter's if not given.
            source: whose clock it is; the adapter's if not given.
            at: the moment itself, where the adapter has it already.
            now: whether a missing time is that of arrival, in an archive too.
        """
        stamp = stamp or self.adapter.stamp
        clock: TimeSource = source or self._source()
        period_s = self.adapter.period_s if period_s is None else period_s
        too_long = period_s is not None and period_s > MAX_PERIOD_S
        period = None if too_long or period_s is None or not period_s >= 1 else math.ceil(period_s)
        if at is None:
            if stated and (stated.has_parts() or stated.peek() is not None):
                at = self.moment(device, stated)
            elif self.adapter.archive and not now:
                self.refused.add("no_stamp", "", "", "no time in it, and it may be of any age")
            else:
                at, clock = self.context.received_at, self.context.receiver
                self.remarks.add("no_stamp", "", "", f"no time in it: the time of arrival ({clock})")
        if too_long:
            why = f"a mean over {period_s:g} s is no reading of the air at a time: at most {MAX_PERIOD_S} s"
            self.refused.add("period_too_long", "", "", why)
            at = None
        if at is not None and self.context.received_at - at > BACKLOG and not self.adapter.archive:
            hours = (self.context.received_at - at) / BACKLOG
            self.remarks.add("backlog", "", "", f"from {hours:.0f} h before it came in, or less")
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
        return self.moment_of(device, stated.take(), stated)

    def moment_of(self, device: Device, raw: object, part: Node) -> datetime | None:
        """The moment that `raw` states, which `part` said; None where it is refused."""
        received_at = self.context.received_at
        try:
            found = moment(
                raw, self.adapter.zone_of(self.context), received_at,
                device.last if device.ascending else None, self.adapter.formats,
            )  # fmt: skip
            if not self.adapter.archive:
                check_clock(found.at, received_at)
        except Refused as refused:
            self.refused.add(refused.code, part.path, part, refused.message)
            return None
        if found.remark is not None:
            self.remarks.add(found.remark[0], part.path, part, found.remark[1])
        device.ascending = device.ascending and (device.last is None or device.last <= found.at)
        device.last = found.at
        return found.at

    def device_name(self, device: Device, name: str) -> None:
        """The name of a device that a payload has as a key."""
        device.told["name"] = printable(name)[:120]

    def fact(
        self,
        device: Device,
        *,
        name: Node | None = None,
        firmware: Node | None = None,
        model: Node | None = None,
        exposure: Node | None = None,
        battery_percent: Node | None = None,
        battery_volts: Node | None = None,
        latitude: Node | None = None,
        longitude: Node | None = None,
    ) -> None:
        """What a payload says of the device itself, taken; what cannot be is refused by name."""
        for key, part in (("name", name), ("firmware", firmware), ("model", model)):
            if part and not part.has_parts() and (text := part.text()):
                device.told[key] = printable(text)[:120]
        if exposure and (word := _EXPOSURES.get(f"{exposure.peek()}".lower())):
            exposure.take()
            device.told["exposure"] = word
        for key, part, low, high in (
            ("battery_percent", battery_percent, 0.0, 100.0),
            ("battery_volts", battery_volts, 0.0, 60.0),
        ):
            if part and (number := self._ranged(part, low, high)) is not None:
                device.told[key] = number
        if latitude and longitude:
            north, east = self._ranged(latitude, -90, 90), self._ranged(longitude, -180, 180)
            # 0/0 is where receivers are that have no fix.
            if north is not None and east is not None and (north, east) != (0.0, 0.0):
                device.told |= {"latitude": north, "longitude": east}

    def _ranged(self, part: Node, low: float, high: float) -> float | None:
        if part.has_parts():
            return None  # told as unknown
        raw = part.take()
        number = number_of(raw)
        if number is not None and low <= number <= high:
            return number
        if not says_nothing(raw):
            self.left_out.add("no_fact", part.path, part, f"{short(raw)} is not between {low:g} and {high:g}")
        return None

    def seconds(self, part: Node, factor: float = 1.0) -> float | None:
        """A period that the payload states, in seconds; None where it states none, or none that can be."""
        raw = part.take()
        number = number_of(raw)
        if number is not None and 0 <= number * factor < 1e9:
            return number * factor
        if not says_nothing(raw):
            self.refused.add("not_a_period", part.path, part, f"{short(raw)} is no length of time")
        return None

    def stamp(self, part: Node) -> Stamp:
        """Whether times begin or end their period, where the payload says so; else as the adapter does."""
        raw = part.take()
        if raw == "begins":
            return "begins"
        if raw != "ends" and not says_nothing(raw):
            self.refused.add("not_a_stamp", part.path, part, f"{short(raw)}: begins or ends")
        return "ends" if raw == "ends" else self.adapter.stamp

    def refuse(self, code: str, part: Node, why: str) -> None:
        """A part that cannot be used, taken with all that is in it."""
        self.refused.add(code, part.path, part, why)
        part.drop()

    def leave(self, code: str, part: Node, why: str) -> None:
        """A part that is known and is no reading, taken with all that is in it."""
        self.left_out.add(code, part.path, part, why)
        part.drop()

    def other(self, name: str, part: Node) -> None:
        """A part of that name that is no reading: known as such to the adapter, or refused as unknown."""
        patterns = _patterns(tuple(self.adapter.others))
        known = patterns.fullmatch(name) if patterns else None
        if known is not None:
            self.leave("no_reading", part.called(name), self._what(known))
        elif is_not_carried(name):
            self.leave("not_carried", part.called(name), "no reading carries it")
        else:
            self.refuse("unknown", part.called(name), f"{self.adapter.name} knows no such part")

    def sweep(self, payload: Node) -> None:
        """Name what nobody took: known as no reading, or unknown."""
        patterns = _patterns(tuple(self.adapter.others))
        known: dict[str, str] = {}
        for seen, (part, path, depth) in enumerate(payload.rest()):
            if seen >= MAX_SWEPT or len(known) >= MAX_PATHS:
                self.refuse("too_many_parts", payload, f"more than {seen} parts that are no values")
                return
            if depth > MAX_DEPTH:
                self.refuse("too_deep", part, f"nested deeper than {MAX_DEPTH}")
                continue
            if path not in known:
                # A list of messages is told like one.
                found = patterns.fullmatch(path.removeprefix("[].")) if patterns else None
                known[path] = self._what(found) if found else ""
            if what := known[path]:
                self.left_out.add("no_reading", path, part, what)
                part.drop()
            elif not part.has_parts():
                why = f"{short(part.peek())}: {self.adapter.name} knows no such part"
                self.refused.add("unknown", path, part, why)
                part.drop()

    def devices(self) -> list[Device]:
        """Whoever spoke in the payload, and has an id."""
        return [device for device in self._devices.values() if device.station]

    def readings(self) -> list[Reading]:
        """The readings that came together."""
        return [r for draft in self._drafts.values() for r in draft.readings(self.context.received_at)]

    def _what(self, known: re.Match[str]) -> str:
        return tuple(self.adapter.others.values())[(known.lastindex or 1) - 1]

    def _source(self) -> TimeSource:
        source = self.adapter.time_source
        return self.context.receiver if source == "receiver" else source


def station_id(text: str) -> str:
    """`text` as a station's id. Where that takes more than other separators, a hash keeps two ids apart."""
    if _STATION.fullmatch(text):
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


@lru_cache(maxsize=256)
def _patterns(known: tuple[str, ...]) -> re.Pattern[str] | None:
    """One expression for all; which of its groups matched says which pattern it was."""
    if not known:
        return None
    return re.compile(
        "|".join("(" + re.escape(path).replace(r"\*", ".*") + r"(?:[.\[].*)?)" for path in known), re.DOTALL
    )
