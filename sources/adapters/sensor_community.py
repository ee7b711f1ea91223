"""Sensor.Community's firmware airRohr: the push to a custom API, and the one per sensor to the community."""

from dataclasses import replace
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.cells import sensor_id
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import Field
from sources.adapters.core.tray import Tray

#: Header X-PIN of the pushes per sensor (firmware, ext_def.h).
_PINS: Final = {"1": "pm", "3": "bmp", "5": "ppd", "7": "dht", "11": "bme280", "13": "ds18b20", "17": "scd30"}


def _read(payload: Node, tray: Tray) -> None:
    chip = payload["esp8266id"].text() or payload["esp32id"].text()
    sender = f"esp8266-{chip}" if chip else tray.context.headers.get("x-sensor", "")
    device = tray.device(sender)
    tray.fact(device, "firmware", payload["software_version"])
    entries = list(payload["sensordatavalues"].each())
    pairs = [(pair["value_type"].text(), pair["value"]) for pair in entries]
    for entry, (name, node) in zip(entries, pairs, strict=True):
        if not node:
            what = "a value" if entry.is_object() else "an object with value_type and value"
            tray.refuse("no_value", entry.called(name) if name else entry, f"{what} is due here")
    position = {name: node for name, node in pairs if name in ("GPS_lat", "GPS_lon", "lat", "lon")}
    nowhere = Node.root(None)
    north = position.get("GPS_lat", position.get("lat", nowhere))
    east = position.get("GPS_lon", position.get("lon", nowhere))
    tray.place(device, north, east)
    interval = next((node for name, node in pairs if name == "interval"), nowhere)
    # Its own web page, /data.json, says how many seconds ago that was.
    age, period_s = payload["age"], tray.seconds(interval, 0.001)
    if age:
        at = tray.ago(age)
        draft = (
            tray.draft(device, at=at, period_s=period_s, source="server")
            if at
            else tray.refused_draft(device)
        )
    else:
        draft = tray.draft(device, period_s=period_s)
    pin = _PINS.get(tray.context.headers.get("x-pin", ""), "")
    for name, node in pairs:
        known = field_of(name, pin)
        if known is not None:
            draft.take(node.called(name), known)
        elif node:
            tray.other(f"PPD_{name}" if pin == "ppd" else name, node)


def field_of(name: str, pin: str = "") -> Field | None:
    """What a name of the firmware is, with its sensor (`SDS_P1`), or of the sensor at `pin` (`P1`)."""
    before, _, quantity = name.rpartition("_")
    sensor = (before or pin).lower()
    known = ADAPTER.fields.get(quantity)
    # The P1 of a PPD42 is a count; HECA is the heated inlet.
    return None if known is None or sensor in ("ppd", "heca") else replace(known, sensor=sensor_id(sensor))


#: Values by the names of the network's sensors, in its firmware and in its archive.
FIELDS: Final = {
    # A fan that stands still gives the ends of the SDS011's ranges.
    # -1 is what the firmware begins with: nothing was measured.
    "P1": Field("pm10", "ug/m3", missing=(-1.0, 1999.0, 1999.9)),
    "P2": Field("pm25", "ug/m3", missing=(-1.0, 999.0, 999.9)),
    "temperature": Field("temperature", "Cel"),
    "humidity": Field("relativehumidity", "%", missing=(-1.0,)),
    "pressure": Field("pressure", "hPa", factor=0.01, missing=(-1.0,)),
}

ADAPTER: Final = Adapter(
    name="sensor-community",
    title="Sensor.Community airRohr (firmware push)",
    versions="NRZ-2016 to NRZ-2024. A custom API gets one message with prefixed names (SDS_P1); the community"
    " one per sensor, names without prefix, the sensor in X-PIN. Before 2018 signal has a unit",
    arrives="POST, from the firmware's own API setting; GET http://DEVICE/data.json",
    read=_read,
    fields=FIELDS,
    others={
        "P0": "PM1", "P4": "PM4", "*_P0": "PM1", "*_P4": "PM4", "*_N*": "particle counts",
        "N05": "particle counts", "N1": "particle counts", "N25": "particle counts", "N4": "particle counts",
        "N10": "particle counts", "*_TS": "particle size", "PPD_*": "particle counts", "*co2_ppm": "CO2",
        "*noise*": "noise", "*_P01": "PM0.1", "*_P03": "PM0.3", "*_P05": "PM0.5", "*_P5": "PM5",
        "HECA_*": "of the heated inlet", "GPS_*": "position, time", "lat": "position", "lon": "position",
        "height": "position", "samples": "firmware", "min_micro": "firmware", "max_micro": "firmware",
        "interval": "firmware", "signal": "reception", "*counts_per_minute": "radiation",
        "*_hv_pulses": "radiation", "*sample_time_ms": "radiation", "durP*": "particle counts",
        "ratioP*": "particle counts",
    },
    time_source="receiver",
    correction="none; P1 is PM10 and P2 is PM2.5; pressure in Pa",
)  # fmt: skip
