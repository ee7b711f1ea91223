"""ChirpStack v4: events by HTTP or MQTT, decoded by the device profile's codec."""

import re
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.lorawan import FIELDS, OTHERS, take_raw
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray

_TOPIC: Final = re.compile(r"application/[^/]+/device/([^/]+)/event/")


def _read(payload: Node, tray: Tray) -> None:
    info = payload["deviceInfo"]
    eui, name = tray.own(info["devEui"].text(), _TOPIC).lower(), info["deviceName"]
    # Operators put the names of their sites into tags.
    site = info["tags"]["station"].text()
    device = tray.device(site or (f"eui-{eui}" if eui else name.text()))
    model = info["deviceProfileName"]
    names = [eui, *(f"{part.peek() or ''}" for part in (name, model, info["applicationName"]))]
    tray.fact(device, "name", name)
    tray.fact(device, "model", model)
    tray.fact(device, "battery_percent", payload["batteryLevel"])
    if payload["level"].text().upper() == "ERROR":
        tray.refuse(
            "codec_error", payload["description"], f"ChirpStack says: {payload['description'].peek()!s:.120}"
        )
    advice = "give its device profile a codec in ChirpStack"
    frame, decoded = payload["data"], payload["object"]
    take_raw(tray, device, names, payload["time"], frame, payload["fPort"], decoded, advice)


ADAPTER: Final = Adapter(
    name="chirpstack",
    title="ChirpStack v4 (LoRaWAN)",
    versions="v4, JSON; codecs of Milesight, Decentlab, SenseCAP, Dragino, and plain names. The tag"
    " `station` of a device names its station",
    arrives="HTTP integration (?event=up); MQTT application/ID/device/EUI/event/up",
    read=_read,
    fields=FIELDS,
    others={f"object.{path}": what for path, what in OTHERS.items()} | {
        "data": "raw bytes", "deviceInfo": "ids", "deduplicationId": "network", "devAddr": "network",
        "adr": "network", "dr": "network", "fCnt": "network", "fPort": "network", "confirmed": "network",
        "rxInfo": "reception", "txInfo": "reception", "regionConfigId": "network",
        "joinServerContext": "network", "margin": "reception", "externalPowerSource": "battery",
        "batteryLevelUnavailable": "battery", "code": "event", "level": "event", "description": "event",
        "context": "event", "relayRxInfo": "reception", "acknowledged": "event", "fCntDown": "network",
        "queueItemId": "event", "location": "position", "time": "of an event",
    } | OTHERS,
    time_source="server",
    raw=True,
    correction="none beyond the device's own",
)  # fmt: skip
