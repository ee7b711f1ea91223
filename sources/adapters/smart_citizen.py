"""Smart Citizen Kits: MQTT (readings, also raw) and the platform's API v0."""

import re
from dataclasses import replace
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import Field
from sources.adapters.core.tray import Tray

_TOKEN: Final = re.compile(r"device/sck/([^/]+)/")
#: {t:2017-03-24T13:35:14Z,29:48.45,13:66}: the keys are not quoted, and so no JSON.
_RAW: Final = re.compile(r"\{\s*t:([^,{}]+)((?:,\s*[0-9]+:[^,{}]*)*)\}")


def _read(payload: Node, tray: Tray) -> None:
    text = payload.peek()
    raw = _RAW.fullmatch(text.strip()) if isinstance(text, str) else None
    if raw is not None:
        pairs = [pair.partition(":") for pair in raw[2].split(",") if pair.strip()]
        sensors = [{"id": name.strip(), "value": value} for name, _, value in pairs]
        payload.put({"data": [{"recorded_at": raw[1], "sensors": sensors}]})
    else:
        payload.put(tray.document(f"{text}"))
    device = tray.device(tray.own(payload["id"].text(), _TOKEN), "smart-citizen-")
    place = payload["data"]["location"] or payload["location"]
    tray.fact(device, "name", payload["name"])
    tray.fact(device, "exposure", place["exposure"])
    tray.place(device, place["latitude"], place["longitude"])
    for batch in payload["data"].one_or_each():
        stated = batch["recorded_at"] or payload["last_reading_at"]
        draft = tray.draft(device, stated)
        for sensor in (batch["sensors"] or payload["sensors"]).each():
            number, node = sensor["id"].text(), sensor["value"]
            known = ADAPTER.fields.get(number)
            if number == "10":
                tray.fact(device, "battery_percent", node)
            elif known is not None:
                draft.take(node.called(number), replace(known, sensor=f"sck-{number}"))
            elif node.peek() is not None and not draft.named(
                sensor["measurement"]["name"].text(),
                node.called(number),
                sensor["unit"].text(),
                f"sck-{number}",
            ):
                tray.other(number, node)


ADAPTER: Final = Adapter(
    name="smart-citizen",
    title="Smart Citizen Kit",
    versions="SCK 1.5 to 2.3 by the numbers of its sensors, API v0. A kit flushes what its card kept: many"
    " times in one message",
    arrives="MQTT device/sck/TOKEN/readings and …/readings/raw; GET"
    " https://api.smartcitizen.me/v0/devices/ID",
    form="text",
    read=_read,
    fields={
        "12": Field("temperature", "Cel"),
        "13": Field("relativehumidity", "%"),
        "55": Field("temperature", "Cel"),
        "56": Field("relativehumidity", "%"),
        "58": Field("pressure", "hPa", factor=10.0),
        "87": Field("pm25", "ug/m3", "atm"),
        "88": Field("pm10", "ug/m3", "atm"),
    },
    others={
        "10": "battery", "14": "light", "29": "noise", "53": "noise", "89": "PM1", "112": "CO2 by gas",
        "113": "VOC", "data[].sensors[].raw_value": "raw", "data.sensors[].raw_value": "raw",
        "*sensors[].prev*": "history",
        "*sensors[].name": "sensor", "*sensors[].description": "sensor", "*sensors[].unit": "sensor",
        "*sensors[].uuid": "sensor", "*sensors[].ancestry": "sensor", "*sensors[].measurement": "sensor",
        "*sensors[].*_at": "history", "*sensors[].default_key": "sensor", "uuid": "id",
        "description": "of the kit", "state": "of the kit", "*_tags": "of the kit", "*_at": "history",
        "device_token": "of the kit", "owner": "of the kit", "kit": "of the kit", "hardware*": "of the kit",
        "is_private": "setting", "notify*": "setting", "data_policy": "setting",
        "postprocessing": "of the kit", "*location": "position",
    },
    naive="utc",
    correction="none on the kit",
)  # fmt: skip
