"""The Things Stack v3: uplinks by webhook or MQTT, decoded by the device's payload formatter."""

import re
from typing import Final

from schemas.reading import TimeSource
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.draft import Device, Draft
from sources.adapters.core.lorawan import FIELDS, OTHERS, says_no_values, take_normalized, take_raw
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray

_TOPIC: Final = re.compile(r"v3/[^/]+/devices/([^/]+)/up")


def _read(payload: Node, tray: Tray) -> None:
    ids = payload["end_device_ids"]
    # A webhook may have a path for normalized payloads alone.
    uplink = payload["uplink_message"] or payload["uplink_normalized"]
    if payload["simulated"].take() is True:
        tray.refuse("simulated", uplink, "a simulated uplink: nothing was measured")
        return
    eui, name = ids["dev_eui"].text().lower(), ids["device_id"]
    own = tray.own(f"{name.peek() or ''}", _TOPIC)
    device = tray.device(f"eui-{eui}" if eui else own)
    model, application = uplink["version_ids"]["model_id"], ids["application_ids"]["application_id"]
    names = [eui, *(f"{part.peek() or ''}" for part in (name, model, application))]
    tray.fact(device, "name", name)
    tray.fact(device, "model", model)
    place = uplink["locations"]["user"]
    tray.place(device, place["latitude"], place["longitude"])
    stated = uplink["received_at"] or payload["received_at"]
    frame, decoded = uplink["frm_payload"], uplink["decoded_payload"]
    normalized = list(uplink["normalized_payload"].one_or_each())
    received_at, valid = stated.peek(), decoded["valid"].peek()
    if not (normalized and says_no_values(decoded)):
        advice = "give the device its payload formatter in The Things Stack"
        take_raw(tray, device, names, stated, frame, uplink["f_port"], decoded, advice)
    if tray.values or valid is False:
        return
    # Names that nobody knows here The Things Stack may have known.
    for entry in normalized:
        take_normalized(tray, _normalized(tray, device, entry["time"], received_at, entry), entry)


def _normalized(tray: Tray, device: Device, own: Node, received_at: object, entry: Node) -> Draft:
    """At a measurement's own time; else at that of its arrival at the server, if it says that."""
    if not own and received_at is None:
        return tray.draft(device)
    source: TimeSource = "device" if own else "server"
    at = tray.moment(device, own) if own else tray.moment_of(device, received_at, entry)
    return tray.refused_draft(device) if at is None else tray.draft(device, at=at, source=source)


ADAPTER: Final = Adapter(
    name="the-things-stack",
    title="The Things Stack v3 (LoRaWAN)",
    versions="v3, payload formatters of Milesight, Decentlab, SenseCAP, Dragino, and plain names. What is"
    " zero is left out around the payload (f_port, f_cnt), not in it. Webhooks try again: duplicates",
    arrives="webhook; MQTT v3/APP@TENANT/devices/DEVICE/up",
    read=_read,
    fields=FIELDS,
    others={f"uplink_message.decoded_payload.{path}": what for path, what in OTHERS.items()} | {
        "uplink_message.normalized_payload": "the decoded payload again",
        "uplink_message.frm_payload": "raw bytes", "uplink_message.rx_metadata": "reception",
        "uplink_message.settings": "reception", "uplink_message.f_port": "network",
        "uplink_message.f_cnt": "network", "uplink_message.*_id": "network",
        "uplink_message.confirmed": "network", "uplink_message.consumed_airtime": "network",
        "uplink_message.network_ids": "network", "uplink_message.version_ids": "network",
        "uplink_message.locations": "position", "uplink_message.packet_error_rate": "network",
        "uplink_message.last_battery_percentage": "battery", "uplink_message.*_warnings": "decoder",
        "uplink_message.received_at": "time", "end_device_ids": "ids", "correlation_ids": "network",
        "received_at": "network", "join_accept": "no uplink", "downlink_*": "no uplink",
        "location_solved": "no uplink", "service_data": "no uplink", "identifiers": "event", "name": "event",
        "time": "event", "context": "event", "visibility": "event", "unique_id": "event",
        "uplink_normalized.*": "network", "*light": "light", "*co2": "CO2",
    } | OTHERS,
    time_source="server",
    raw=True,
    correction="none beyond the device's own",
)  # fmt: skip
