"""ThingsBoard's telemetry, of a device or a gateway: names and values, with or without a time."""

from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.draft import Device
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray


def _read(payload: Node, tray: Tray) -> None:
    gateway = [
        (name, node) for name, node in payload.items() if any(part.is_object() for part in node.each())
    ]
    for name, node in gateway:
        device = tray.device(name)
        tray.name(device, name)
        for entry in node.each():
            _entry(tray, device, entry)
    if not gateway:
        for entry in payload.one_or_each():
            _entry(tray, tray.device(), entry)


def _entry(tray: Tray, device: Device, entry: Node) -> None:
    """`{"ts": …, "values": {…}}`, or the values alone: then the server's time counts."""
    draft = tray.draft(device, entry["ts"])
    values = entry["values"] or entry
    tray.fact(device, "firmware", values["fw_version"])
    tray.fact(device, "battery_percent", values["battery"] or values["batteryLevel"])
    tray.place(device, values["latitude"], values["longitude"])
    for key, node in values.items():
        if not node.has_parts() and not draft.named(key, node):
            tray.other(key, node)


ADAPTER: Final = Adapter(
    name="thingsboard",
    title="ThingsBoard telemetry",
    versions="3 and 4. Keys are quantities, with the unit at their end where it is not plain (no2_ppb); a"
    " gateway's message has devices' names before them. What was buffered comes as a list, in no order",
    arrives="MQTT v1/devices/me/telemetry, v1/gateway/telemetry; POST /api/v1/TOKEN/telemetry",
    read=_read,
    others={
        "rssi": "reception", "snr": "reception", "signal*": "reception", "uptime": "starts",
        "battery*": "battery", "fw_*": "firmware", "lastActivityTime": "platform", "active": "platform",
    },
    correction="not known",
)  # fmt: skip
