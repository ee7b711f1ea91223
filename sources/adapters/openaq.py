"""OpenAQ v3: measurements, hours and days of a sensor; a location's latest values and its description."""

import re
from typing import Final

from schemas.duration import parse_duration
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray

_SENSOR: Final = re.compile(r"/sensors/([0-9]+)")


def _read(payload: Node, tray: Tray) -> None:
    found = _SENSOR.search(tray.context.topic)
    for result in payload["results"].each():
        place = result["coordinates"]
        if result["sensors"]:  # a location
            device = tray.device(result["id"].text(), "openaq-")
            tray.fact(device, "name", result["name"])
            tray.place(device, place["latitude"], place["longitude"])
            tray.leave("no_reading", result, "a location and its sensors")
            continue
        sensor = result["sensorsId"].text() or (found[1] if found else "")
        # Measurements say neither their location nor their sensor: the path they were asked of does.
        location = result["locationsId"].text()
        alone = "" if tray.context.station else sensor
        device = tray.device(location or alone, "openaq-" if location else "openaq-sensor-")
        tray.place(device, place["latitude"], place["longitude"])
        period, parameter, value = result["period"], result["parameter"], result["value"]
        seconds = _seconds(period["interval"].text())
        draft = tray.draft(device, period["datetimeTo"]["utc"] or result["datetime"]["utc"], seconds)
        if result["flagInfo"]["hasFlags"].take() is True:
            tray.remarks.add("flagged", "results[].flagInfo", result, "OpenAQ or the provider flagged it")
        name, unit = parameter["name"].text(), parameter["units"].text()
        if not name:
            tray.refuse("no_quantity", value, "latest values say no parameter: ask /sensors/ID/measurements")
        elif not draft.named(name, value.called(name), unit, sensor=sensor or "main"):
            tray.other(name, value)


def _seconds(interval: str) -> float | None:
    try:
        return parse_duration(interval).total_seconds()
    except ValueError:
        return None


ADAPTER: Final = Adapter(
    name="openaq",
    title="OpenAQ (API v3)",
    versions="v3. Times end their period; days (24:00:00) are refused, as means of more than an hour. The"
    " station is the location where the way in says it",
    arrives="GET https://api.openaq.org/v3/sensors/ID/measurements, /hours; /locations/ID",
    read=_read,
    others={
        "meta": "answer", "*flagInfo": "flags", "*period": "its label, local times",
        "*parameter": "its number and title", "*coordinates": "position", "*summary": "statistics",
        "*coverage": "completeness", "*datetime": "local time", "um*": "particle counts",
    },
    correction="the provider's; what providers pass on as -999 is no value",
    many=True,
    time_source="server",
    archive=True,
)  # fmt: skip
