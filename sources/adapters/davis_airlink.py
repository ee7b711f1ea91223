"""Davis AirLink: the device's local API."""

from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import FAHRENHEIT, Field
from sources.adapters.core.tray import Tray


def _read(payload: Node, tray: Tray) -> None:
    data = payload["data"]
    device = tray.device(data["did"].text().lower(), "airlink-")
    tray.fact(device, "name", data["name"])
    for block in data["conditions"].each():
        stated = block["last_report_time"] or data["ts"]
        draft = tray.draft(device, stated)
        draft.fields(block)


ADAPTER: Final = Adapter(
    name="davis-airlink",
    title="Davis AirLink (local API)",
    versions="v1, data structure types 5 and 6. Particles are means over the last minute; …_last is a single"
    " reading",
    arrives="GET http://DEVICE/v1/current_conditions",
    read=_read,
    fields={
        "pm_2p5": Field("pm25", "ug/m3"),
        "pm_10": Field("pm10", "ug/m3"),
        "pm_10p0": Field("pm10", "ug/m3"),
        "temp": Field("temperature", "Cel", "value", "main", *FAHRENHEIT),
        "hum": Field("relativehumidity", "%"),
    },
    others={
        "*pm_1": "PM1", "*pm_1_last": "PM1", "*pm_2p5_*": "single reading, or mean of hours",
        "*pm_10p0_*": "single reading, or mean of hours", "*pm_10_*": "single reading, or mean of hours",
        "*dew_point": "dew point", "*wet_bulb": "computed", "*heat_index": "computed",
        "*pct_pm_data_*": "completeness", "*lsid": "ids", "*data_structure_type": "form",
        "data.ts": "time of the answer", "*last_report_time": "time", "error": "answer",
    },
    period_s=60,
    correction="the maker's, on the device",
)  # fmt: skip
