"""Home Assistant: states by MQTT (statestream), by its event stream, or from its API."""

import re
from typing import Final

from schemas.errors import Refused
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node, parsed_json
from sources.adapters.core.tray import Tray
from sources.adapters.core.words import is_not_carried, parameter_of

_TOPIC: Final = re.compile(r"sensor/([^/]+)/([^/]+)$")
#: Device classes that are not named like the quantity.
_CLASSES: Final = {"atmospheric_pressure": "pressure", "sulphur_dioxide": "so2"}


def _read(payload: Node, tray: Tray) -> None:
    text = f"{payload.peek()}".strip()
    if text[:1] in "[{":
        payload.put(parsed_json(text).value)
        for entry in payload.one_or_each():
            _state(tray, entry["event_data"]["new_state"] or entry["new_state"] or entry)
        return
    found = _TOPIC.search(tray.context.topic)
    if found is None:
        raise Refused("no_quantity", "a bare state needs its topic, …/sensor/OBJECT/state, to say what it is")
    if found[2] != "state":
        tray.leave("no_reading", payload, f"{found[2]} of an entity")
        return
    station, quantity = _parts(found[1])
    if not tray.draft(tray.device(station)).named(quantity, payload.called(found[1])):
        tray.other(quantity, payload)


def _state(tray: Tray, state: Node) -> None:
    entity, attributes = state["entity_id"].text(), state["attributes"]
    station, quantity = _parts(entity.removeprefix("sensor."))
    kind = attributes["device_class"].text()
    quantity = _CLASSES.get(kind, kind) or quantity
    stated = state["last_reported"] or state["last_updated"] or state["last_changed"]
    device, unit = tray.device(station), attributes["unit_of_measurement"].text()
    if kind == "battery":
        tray.fact(device, "battery_percent", state["state"])
    elif not tray.draft(device, stated).named(quantity, state["state"].called(entity), unit):
        tray.other(quantity, state["state"].called(entity))


def _parts(name: str) -> tuple[str, str]:
    """Of `roof_pm2_5`: the station `roof`, and `pm2_5`; a name without a quantity is both."""
    words = name.split("_")
    for begin in range(1, len(words)):
        quantity = "_".join(words[begin:])
        if parameter_of(quantity) or is_not_carried(quantity):
            return "_".join(words[:begin]), quantity
    return name, name


ADAPTER: Final = Adapter(
    name="home-assistant",
    title="Home Assistant",
    versions="2023.1 to 2026. The entity's name ends in the quantity where no device_class says it;"
    " statestream sends a bare state, without unit or time",
    arrives="MQTT homeassistant/sensor/OBJECT/state (mqtt_statestream), mqtt_eventstream; GET /api/states",
    form="text",
    read=_read,
    others={
        "*attributes": "of the entity", "*context": "event", "*last_*": "times",
        "*old_state": "the state before", "*event_type": "event", "*event_data.entity_id": "event",
        "*time_fired": "event", "*origin": "event", "battery": "battery", "signal_strength": "reception",
    },
    time_source="server",
    correction="as the integration does",
)  # fmt: skip
