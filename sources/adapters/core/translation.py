"""What a payload becomes: readings, facts of stations, and a name for every part that became neither.

`translate` never raises and drops nothing silently. What a field table, the list of known other parts or the
function of an adapter does not take is refused as ``unknown``. Everything is bounded: bytes, values, names.
"""

import hashlib
import math
import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from pydantic import ValidationError

from schemas.base import STATION_PATTERN, first_error
from schemas.errors import Refused
from schemas.reading import MAX_PERIOD_S, Reading, Stamp, TimeSource, Value
from sources.adapters.core.adapter import Adapter, Context, Field
from sources.adapters.core.moments import check_clock, moment
from sources.adapters.core.payload import LINE, Node, decoded, parsed_json, table
from sources.adapters.core.words import is_not_carried, parameter_of, scale_of, unit_for, without_unit

#: A payload of more bytes is refused whole: a day of a country's stations fits ten times over.
MAX_BYTES: Final = 8 * 1024 * 1024
#: Values of one payload; more are refused.
MAX_VALUES: Final = 100_000
#: Distinct parts that are named; the rest is counted.
MAX_NAMED: Final = 64
#: Parts that nobody took which are looked at one by one, and how deep they may lie.
MAX_SWEPT: Final = 200_000
MAX_DEPTH: Final = 24
#: What comes so much after its moment is a backlog.
BACKLOG: Final = timedelta(hours=1)

#: Numbers that mean no value wherever they are no physical one: of loggers, of portals, sixteen bits of ones.
SENTINELS: Final = (-999.0, -999.9, -9999.0, -99.0, -99.9, 9999.0, 99999.0, 65535.0)
#: Words for no value.
_NO_VALUE: Final = frozenset(
    {"", "nan", "none", "null", "na", "n/a", "-", "--", "unknown", "unavailable", "nodata", "no data", "inf"}
)
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
#: A comma before three digits may be one of thousands: then it is no number.
_COMMA: Final = re.compile(r"[+-]?(0,[0-9]+|[0-9]{1,9},([0-9]{1,2}|[0-9]{4,}))")
_STATION: Final = re.compile(STATION_PATTERN)
_VALUES_PER_READING: Final = 256
#: What a function that takes untidy data for tidy may raise; its payload is refused then, nobody stops.
_MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Part(NamedTuple):
    """A part of the payload that became no value, or a remark. `where`: the first such place."""

    code: str
    where: str
    why: str
    times: int = 1


class Facts(NamedTuple):
    """What a payload says of a station itself; empty and None: nothing."""

    station: str
    name: str = ""
    latitude: float | None = None
    longitude: float | None = None
    battery_percent: float | None = None
    battery_volts: float | None = None
    firmware: str = ""
    model: str = ""
    #: `indoor` or `outdoor`: the air of a room is not that of the street.
    exposure: str = ""


class Translation(NamedTuple):
    """What a payload became.

    `refused`: parts that could not be used, and should have been; `left_out`: known parts that are no reading
    (no value at the time, another quantity, the radio's reception); `remarks`: how times were understood.
    """

    readings: tuple[Reading, ...]
    facts: tuple[Facts, ...]
    refused: tuple[Part, ...]
    left_out: tuple[Part, ...]
    remarks: tuple[Part, ...]


class _Names:
    """Parts by code and path, counted; beyond `MAX_NAMED` of them only counted."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], list[str | int]] = {}
        self._more = 0

    def add(self, code: str, path: str, where: str, why: str) -> None:
        known = self._parts.get((code, path))
        if known is not None:
            known[2] += 1  # type: ignore[operator]
        elif len(self._parts) < MAX_NAMED:
            self._parts[code, path] = [where, why, 1]
        else:
            self._more += 1

    def parts(self) -> tuple[Part, ...]:
        told = [
            Part(code, _printable(str(where)), _printable(str(why)), int(count))
            for (code, _), (where, why, count) in self._parts.items()
        ]
        if self._more:
            told.append(Part("more", "", "further parts, not named one by one", self._more))
        return tuple(told)


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

    def fields(self, part: Node, skip: str = "") -> None:
        """Every member of `part` that the adapter's table knows; `skip`: but those that begin so."""
        for key, node in part.items():
            known = self._tray.adapter.fields.get(key)
            if known is not None and not (skip and key.startswith(skip)):
                self.take(node, known)

    def named(self, name: str, node: Node, unit: str = "", sensor: str = "main") -> bool:
        """A value whose payload gives its quantity and unit in words; False: no quantity of that name."""
        parameter = parameter_of(name)
        if parameter is None and not unit:
            base, unit = without_unit(name)
            parameter = parameter_of(base)
        if parameter is None:
            if is_not_carried(name) or is_not_carried(without_unit(name)[0]):
                self._tray.leave("not_carried", node, f"{name}: no reading carries it")
                return True
            return False
        number = _number(node.peek())
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
                self._tray.refuse("unknown_parameter", node.called(name), f"{name!r:.40} is no parameter")
        elif scale is None:
            why = f"{unit!r:.24} is no unit of {parameter} that is known here"
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
        where, path, raw = node.place, node.path, node.take()
        number = _number(raw)
        if number is None or not math.isfinite(number):
            if _says_nothing(raw):
                tray.left_out.add("missing", path, where, f"no {known.parameter} at the time: {raw!s:.16}")
            else:
                tray.refused.add("not_a_number", path, where, f"{raw!r:.40} is no number")
            return
        if number in tray.adapter.missing or number in known.missing:
            tray.left_out.add("sentinel", path, where, f"{number:g} means that there is no {known.parameter}")
            return
        if self._at is None or not self._device.station:
            code = "no_time" if self._device.station else "no_station"
            tray.refused.add(code, path, where, _WHY_NOT[code])
            return
        if tray.full():
            tray.refused.add("too_many", path, where, f"more than {MAX_VALUES} values in one payload")
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
                    "sentinel", path, where, f"{number:g} means that there is no {known.parameter}"
                )
                return
            code, why = first_error(error)
            tray.refused.add(code, path, where, why.removeprefix("message: "))
            return
        key = (value.sensor, value.parameter, value.channel)
        before = self._values.setdefault(key, value)
        if before is value:
            tray.values += 1
        elif before.value != value.value:
            tray.refused.add(
                "twice",
                path,
                where,
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
        self.refused = _Names()
        self.left_out = _Names()
        self.remarks = _Names()
        self._devices: dict[str, Device] = {}
        self._drafts: dict[tuple[object, ...], Draft] = {}

    def full(self) -> bool:
        """Whether it holds as many values as one payload may have."""
        return self.values >= MAX_VALUES

    def device(self, raw: str = "", prefix: str = "") -> Device:
        """The station of an id as the payload has it; a way in that says the station counts more.

        `prefix`: put before the id, so that the serial numbers of two makers do not meet.
        """
        said = self.context.station if not self.adapter.many else None
        station = said or (station_id(f"{prefix}{raw}") if raw else self.context.station or "")
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
        where, path = stated.place, stated.path
        if stated.has_parts():
            self.refuse("not_a_time", stated, "a time is due here")
            return None
        return self.moment_of(device, stated.take(), path, where)

    def moment_of(self, device: Device, raw: object, path: str, where: str = "") -> datetime | None:
        """The moment that `raw` states, of a part at `path`; None where it is refused."""
        received_at = self.context.received_at
        try:
            found = moment(
                raw, self.adapter.zone_of(self.context), received_at,
                device.last if device.ascending else None, self.adapter.formats,
            )  # fmt: skip
            if not self.adapter.archive:
                check_clock(found.at, received_at)
        except Refused as refused:
            self.refused.add(refused.code, path, where or path, refused.message)
            return None
        if found.remark is not None:
            self.remarks.add(found.remark[0], path, where or path, found.remark[1])
        device.ascending = device.ascending and (device.last is None or device.last <= found.at)
        device.last = found.at
        return found.at

    def device_name(self, device: Device, name: str) -> None:
        """The name of a device that a payload has as a key."""
        device.told["name"] = _printable(name)[:120]

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
                device.told[key] = _printable(text)[:120]
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
        where, path, raw = part.place, part.path, part.take()
        number = _number(raw)
        if number is not None and low <= number <= high:
            return number
        if not _says_nothing(raw):
            self.left_out.add("no_fact", path, where, f"{raw!r:.40} is not between {low:g} and {high:g}")
        return None

    def refuse(self, code: str, part: Node, why: str) -> None:
        """A part that cannot be used, taken with all that is in it."""
        self.refused.add(code, part.path, part.place, why)
        part.drop()

    def leave(self, code: str, part: Node, why: str) -> None:
        """A part that is known and is no reading, taken with all that is in it."""
        self.left_out.add(code, part.path, part.place, why)
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
        for seen, part in enumerate(payload.rest()):
            if seen >= MAX_SWEPT:
                self.refuse("too_many_parts", payload, f"more than {MAX_SWEPT} parts that are no values")
                return
            if part.depth > MAX_DEPTH:
                self.refuse("too_deep", part, f"nested deeper than {MAX_DEPTH}")
                continue
            path = part.path
            known = patterns.fullmatch(path) if patterns else None
            if known is not None:
                self.leave("no_reading", part, self._what(known))
            elif not part.has_parts():
                self.refuse("unknown", part, f"{part.peek()!r:.40}: {self.adapter.name} knows no such part")

    def translation(self) -> Translation:
        """All that is on it."""
        readings = [r for draft in self._drafts.values() for r in draft.readings(self.context.received_at)]
        facts = [Facts(d.station, **d.told) for d in self._devices.values() if d.station and d.told]  # type: ignore[arg-type]
        parts = [names.parts() for names in (self.refused, self.left_out, self.remarks)]
        if not readings and not facts and not parts[0] and not parts[1]:
            self.refused.add("nothing", "", "", "there is nothing in it that this adapter reads")
            parts[0] = self.refused.parts()
        return Translation(tuple(readings), tuple(facts), parts[0], parts[1], parts[2])

    def _what(self, known: re.Match[str]) -> str:
        return list(self.adapter.others.values())[(known.lastindex or 1) - 1]

    def _source(self) -> TimeSource:
        source = self.adapter.time_source
        return self.context.receiver if source == "receiver" else source


def translate(adapter: Adapter, data: bytes, context: Context) -> Translation:
    """What `data` means by `adapter`. Never raises; every part is used, left out or refused by name."""
    tray = Tray(adapter, context)
    if len(data) > MAX_BYTES:
        tray.refused.add("too_large", "", "", f"{len(data)} bytes: more than {MAX_BYTES} are not read")
        return tray.translation()
    try:
        payload = _parsed(adapter, data, tray)
    except Refused as refused:
        tray.refused.add(refused.code, "", "", refused.message)
        return tray.translation()
    try:
        adapter.read(payload, tray)
    except Refused as refused:  # as a whole
        tray.refuse(refused.code, payload, refused.message)
    except _MALFORMED as error:
        tray.refused.add("adapter_fault", "", "", f"{type(error).__name__} in the adapter: {error!s:.80}")
    tray.sweep(payload)
    return tray.translation()


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


def _parsed(adapter: Adapter, data: bytes, tray: Tray) -> Node:
    text, latin = decoded(data)
    if latin:
        tray.remarks.add("not_utf8", "", "", "it is not UTF-8, and was read as Latin-1")
    if not text.strip():
        raise Refused("nothing", "it is empty")
    match adapter.form:
        case "text":
            return Node.root(text)
        case "table":
            header = None if adapter.header is None else list(adapter.header)
            rows, wrong = table(text, header)
            for index, why in wrong:
                tray.refused.add("not_a_row", why, f"{LINE}[{index + 1}]", why)
            return Node.root(rows, LINE)
        case "json":
            parsed, twice = parsed_json(text)
            for key in twice:
                tray.refused.add("twice", key, key, "the key is there twice, with different values")
            return Node.root(parsed)


def _number(raw: object) -> float | None:
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


def _says_nothing(raw: object) -> bool:
    if isinstance(raw, str):
        return raw.strip().lower() in _NO_VALUE
    return raw is None or (isinstance(raw, float) and not math.isfinite(raw))


def _printable(text: str) -> str:
    """One line of text that any terminal, header and file takes."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:300])


@lru_cache(maxsize=256)
def _patterns(known: tuple[str, ...]) -> re.Pattern[str] | None:
    """One expression for all; which of its groups matched says which pattern it was."""
    if not known:
        return None
    return re.compile(
        "|".join("(" + re.escape(path).replace(r"\*", ".*") + r"(?:[.\[].*)?)" for path in known), re.DOTALL
    )
