"""PurpleAir's cloud: API v1, one sensor, many sensors, the history of one."""

from dataclasses import replace
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import FAHRENHEIT, Field
from sources.adapters.core.tray import Tray

_NONE: Final = Node.root(None)


def _read(payload: Node, tray: Tray) -> None:
    index = payload["sensor_index"].text()
    period = tray.seconds(payload["average"], 60.0) or None
    names = [name.text() for name in payload["fields"].each()]
    rows = [
        {name: cell.called(name) for name, cell in zip(names, list(row.each()), strict=False)}
        for row in payload["data"].each()
    ]
    for row in [*rows, dict(payload["sensor"].items()), dict(payload["sensor"]["stats"].items())]:
        if row:
            _sensor(row, index, period, tray)


def _sensor(row: dict[str, Node], index: str, period: float | None, tray: Tray) -> None:
    sensor = row.get("sensor_index", _NONE).text()
    device = tray.device(index or sensor, "purpleair-")
    tray.fact(device, "name", row.get("name"))
    tray.fact(device, "firmware", row.get("firmware_version"))
    tray.fact(device, "model", row.get("model"))
    tray.fact(device, "exposure", row.get("location_type"))
    tray.place(device, row.get("latitude"), row.get("longitude"))
    history = row.get("time_stamp")
    if history:
        draft = tray.draft(device, history, period, "begins" if period else "ends")
    else:
        draft = tray.draft(device, row.get("last_seen", _NONE))
    for name, node in row.items():
        channel = name[-2:] if name.endswith(("_a", "_b")) else ""
        known = ADAPTER.fields.get(name.removesuffix(channel))
        if known is None:
            if node:
                tray.other(name, node)
        elif channel == "_a" and f"{name[:-2]}_b" not in row and name[:-2] in row:
            tray.leave("no_reading", node, "the only channel, which is taken without it")
        elif not channel and f"{name}_b" in row:
            tray.leave("no_reading", node, "mean of the channels, which are taken")
        else:
            draft.take(node, replace(known, channel=known.channel + channel))


ADAPTER: Final = Adapter(
    name="purpleair-api",
    title="PurpleAir (cloud, API v1)",
    versions="V1.0.10 to V1.2. /sensors is in columns, /sensors/INDEX an object, /sensors/INDEX/history in"
    " columns, its times the beginnings",
    arrives="GET https://api.purpleair.com/v1/sensors?fields=…",
    read=_read,
    fields={
        "pm2.5_cf_1": Field("pm25", "ug/m3", "cf_1"),
        "pm2.5_atm": Field("pm25", "ug/m3", "atm"),
        "pm2.5_alt": Field("pm25", "ug/m3", "alt"),
        "pm10.0_cf_1": Field("pm10", "ug/m3", "cf_1"),
        "pm10.0_atm": Field("pm10", "ug/m3", "atm"),
        "temperature": Field("temperature", "Cel", "value", "main", *FAHRENHEIT),
        "humidity": Field("relativehumidity", "%"),
        "pressure": Field("pressure", "hPa"),
    },
    others={
        "pm2.5": "atm or cf_1 again, by place", "pm2.5_a": "atm or cf_1 again",
        "pm2.5_b": "atm or cf_1 again", "pm10.0*": "atm or cf_1 again", "pm1.0*": "PM1",
        "pm2.5_*minute*": "mean of means", "pm2.5_*hour*": "mean of means", "pm2.5_24hour*": "mean of means",
        "pm2.5_*week*": "mean of means", "*_um_count*": "particle counts", "scattering_coefficient*": "light",
        "deciviews*": "light", "visual_range*": "light", "voc*": "VOC", "ozone1": "raw",
        "analog_input": "supply", "channel_*": "quality", "confidence*": "quality", "last_*": "history",
        "date_created": "history", "private": "setting", "is_owner": "setting", "icon": "setting",
        "location_type": "setting", "hardware": "hardware", "led_brightness": "setting", "rssi": "reception",
        "uptime": "starts", "pa_latency": "uploads", "memory": "memory", "position_rating": "position",
        "altitude": "position", "primary_*": "upload", "secondary_*": "upload", "time_stamp": "answer",
        "data_time_stamp": "answer", "api_version": "answer", "*max_age": "answer", "*default_*": "answer",
        "*firmware_default_version": "answer", "start_timestamp": "answer", "end_timestamp": "answer",
        "*stats*": "means of means", "location_types": "answer", "channel_states": "answer",
    },
    period_s=120,
    correction="none in cf_1 and atm; alt is PurpleAir's own of the counts (3.4). Temperature and humidity"
    " inside the case",
    many=True,
    archive=True,
)  # fmt: skip
