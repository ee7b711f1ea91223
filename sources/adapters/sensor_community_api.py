"""Sensor.Community's files of the last five minutes (data.json) and its answers for one sensor."""

from dataclasses import replace
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.cells import sensor_id
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray
from sources.adapters.sensor_community import FIELDS


def _read(payload: Node, tray: Tray) -> None:
    for entry in payload.one_or_each():
        place, sensor = entry["location"], entry["sensor"]
        # The sensors of a node are told apart, but share their place.
        device = tray.device(place["id"].text(), "sensor-community-")
        tray.fact(device, "exposure", place["indoor"])
        tray.place(device, place["latitude"], place["longitude"])
        kind = sensor["sensor_type"]["name"].text().lower()
        name = "-".join(part for part in (kind, sensor["id"].text()) if part)
        draft = tray.draft(device, entry["timestamp"])
        for pair in entry["sensordatavalues"].each():
            quantity, node = pair["value_type"].text(), pair["value"]
            known = ADAPTER.fields.get(quantity)
            if known is None or kind.startswith("ppd"):
                tray.other(f"PPD_{quantity}" if kind.startswith("ppd") else quantity, node)
            else:
                draft.take(node.called(quantity), replace(known, sensor=sensor_id(name)))


ADAPTER: Final = Adapter(
    name="sensor-community-api",
    title="Sensor.Community (data.json)",
    versions="v1 and v2; not data.24h.json, whose values are means of a day without saying so",
    arrives="GET https://data.sensor.community/static/v1/data.json, /airrohr/v1/sensor/ID/",
    read=_read,
    fields=FIELDS,
    others={
        "P0": "PM1", "P4": "PM4", "N05": "particle counts", "N1": "particle counts", "N25": "particle counts",
        "N4": "particle counts", "N10": "particle counts", "TS": "particle size", "PPD_*": "particle counts",
        "durP*": "particle counts", "ratioP*": "particle counts", "noise_*": "noise", "co2_ppm": "CO2",
        "pressure_at_sealevel": "computed from the pressure", "counts_per_minute": "radiation",
        "hv_pulses": "radiation", "counts": "radiation", "sample_time_ms": "radiation", "lat": "position",
        "lon": "position", "height": "position", "[].id": "of the entry", "id": "of the entry",
        "*sampling_rate": "setting", "*location": "position", "*sensor": "sensor",
        "*sensordatavalues[].id": "entry",
    },
    naive="utc",
    time_source="server",
    many=True,
    archive=True,
    correction="none; P1 is PM10 and P2 is PM2.5; pressure in Pa",
)  # fmt: skip
