"""Values of one station and moment, to become readings; each that cannot be one is refused by name."""

import math
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from schemas.base import first_error
from schemas.errors import Refused
from schemas.reading import Reading, Stamp, TimeSource, Value
from sources.adapters.core.cells import number_of, says_nothing, sensor_id, short
from sources.adapters.core.ledger import MAX_VALUES, Ledger
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import Field
from sources.adapters.core.words import is_not_carried, parameter_of, scale_of, unit_for, without_unit

#: Numbers that mean no value wherever they are no physical one: of loggers, of portals, sixteen bits of ones.
SENTINELS: Final = (-999.0, -999.9, -9999.0, -99.0, -99.9, -127.0, 9999.0, 99999.0, 65535.0)
_VALUES_PER_READING: Final = 256
_WHY_NOT: Final = {
    "no_station": "nothing says which station it is of",
    "no_time": "its time could not be used (refused by name)",
}


class Device:
    """Whoever speaks in a payload; `station` is its id here, empty where it has none."""

    def __init__(self, station: str) -> None:
        self.station = station
        self.facts: dict[str, str | float] = {}
        #: Why a time of its clock was refused, by code and in words.
        self.wrong_clock: tuple[str, str] | None = None
        self.last: datetime | None = None
        self.ascending = True


class Draft:
    """Values of one station and moment, to become readings. Without a moment they are refused."""

    def __init__(
        self, ledger: Ledger, device: Device, at: datetime | None, period: int | None, stamp: Stamp,
        source: TimeSource,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._device = device
        self._at = at
        self._period = period
        self._stamp: Stamp = stamp
        self._source: TimeSource = source
        self._values: dict[tuple[str, str, str], Value] = {}

    @property
    def at(self) -> datetime | None:
        """Their moment; None: it was refused."""
        return self._at

    def fields(self, part: Node) -> None:
        """Every member of `part` that the adapter's table knows."""
        for key, node in part.items():
            known = self._ledger.format.fields.get(key)
            if known is not None:
                self.take(node, known)

    def named(self, name: str, node: Node, unit: str = "", sensor: str = "main") -> bool:
        """A value whose payload gives its quantity and unit in words; False: no quantity of that name."""
        self._ledger.look()
        parameter = parameter_of(name)
        if parameter is None and not unit:
            base, unit = without_unit(name)
            parameter = parameter_of(base)
        if parameter is None:
            if is_not_carried(name) or is_not_carried(without_unit(name)[0]):
                self._ledger.leave("not_carried", node, "no reading carries it")
                return True
            return False
        number = number_of(node.peek())
        try:
            scale = unit_for(parameter, unit, 0.0 if number is None else number)
        except Refused as refused:
            self._ledger.refuse(refused.code, node, refused.message)
            return True
        self.take(node, Field(parameter, scale.unit, sensor=sensor, factor=scale.factor, offset=scale.offset))
        return True

    def exact(self, node: Node, name: str, unit: str, sensor: str, channel: str) -> None:
        """A value whose payload states everything: what it is, in which unit, of which sensor and channel."""
        parameter, scale = parameter_of(name), scale_of(unit)
        if parameter is None:
            if is_not_carried(name):
                self._ledger.leave("not_carried", node.called(name), "no reading carries it")
            else:
                self._ledger.refuse("unknown_parameter", node.called(name), f"{short(name)} is no parameter")
        elif scale is None:
            why = f"{short(unit)} is no unit of {parameter} that is known here"
            self._ledger.refuse("unit", node.called(name), why)
        else:
            known = Field(
                parameter, scale.unit, channel or "value", sensor_id(sensor), scale.factor, scale.offset
            )
            self.take(node.called(name), known)

    def take(self, node: Node, known: Field) -> None:
        """One value."""
        ledger = self._ledger
        if not node:
            return
        if node.has_parts():
            ledger.refuse("not_a_number", node, "a number is due here")
            return
        raw = node.take()
        number = number_of(raw)
        if number is None or not math.isfinite(number):
            if says_nothing(raw):
                ledger.left_out.add(
                    "missing", node.path, node, f"no {known.parameter} at the time: {short(raw)}"
                )
            else:
                ledger.refused.add("not_a_number", node.path, node, f"{short(raw)} is no number")
            return
        if number in ledger.format.missing or number in known.missing:
            ledger.left_out.add(
                "sentinel", node.path, node, f"{number:g} means that there is no {known.parameter}"
            )
            return
        if self._at is None or not self._device.station:
            code = "no_time" if self._device.station else "no_station"
            ledger.refused.add(code, node.path, node, _WHY_NOT[code])
            return
        if ledger.full():
            ledger.refused.add("too_many", node.path, node, f"more than {MAX_VALUES} values in one payload")
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
                ledger.left_out.add(
                    "sentinel", node.path, node, f"{number:g} means that there is no {known.parameter}"
                )
                return
            code, why = first_error(error)
            ledger.refused.add(code, node.path, node, why.removeprefix("message: "))
            return
        key = (value.sensor, value.parameter, value.channel)
        before = self._values.setdefault(key, value)
        if before is value:
            ledger.values += 1
        elif before.value != value.value:
            ledger.refused.add(
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
