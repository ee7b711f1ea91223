"""Home Assistant: states by MQTT (statestream), by its event stream, or from its API."""

import re
from typing import Final

from schemas.errors import Refused
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.cells import number_of
from sources.adapters.core.draft import Draft
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray
from sources.adapters.core.words import is_not_carried, parameter_of, without_unit

_TOPIC: Final = re.compile(r"sensor/([^/]+)/([^/]+)$")
#: Device classes that are not named like the quantity.
_CLASSES: Final = {"atmospheric_pressure": "pressure", "sulphur_dioxide": "so2"}


def _read(payload: Node, tray: Tray) -> None:
    text = f"{payload.peek()}".strip()
    if text[:1] in "[{":
        payload.put(tray.document(text))
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
    _value(tray, tray.draft(tray.device(station)), quantity, payload.called(found[1]), "")


def _state(tray: Tray, state: Node) -> None:
    entity, attributes = state["entity_id"].text(), state["attributes"]
    station, quantity = _parts(entity.removeprefix("sensor."))
    kind = attributes["device_class"].text()
    quantity = _CLASSES.get(kind, kind) or quantity
    stated = state["last_reported"] or state["last_updated"] or state["last_changed"]
    device, unit = tray.device(station), attributes["unit_of_measurement"].text()
    if kind == "battery":
        tray.fact(device, "battery_percent", state["state"])
    else:
        _value(tray, tray.draft(device, stated), quantity, state["state"].called(entity), unit)


def _value(tray: Tray, draft: Draft, quantity: str, node: Node, unit: str) -> None:
    """A state; an installation has temperatures in the unit of its own system, Fahrenheit in some."""
    told = unit or without_unit(quantity)[1]
    base = quantity if unit else without_unit(quantity)[0]
    if not told and parameter_of(base) == "temperature" and number_of(node.peek()) is not None:
        why = (
            "a temperature without a unit may be in °C or °F: send states with their attributes"
            " (mqtt_eventstream, GET /api/states), or end the entity's name in _c or _f"
        )
        tray.refuse("no_unit", node, why)
    elif not draft.named(quantity, node, unit):
        tray.other(quantity, node)


def _parts(name: str) -> tuple[str, str]:
    """Of `roof_pm2_5`: the station `roof`, and `pm2_5`; a name without a quantity is both."""
    words = name.split("_")
    for begin in range(1, len(words)):
        quantity = "_".join(words[begin:])
        base, unit = without_unit(quantity)
        in_name = unit and parameter_of(base) == "temperature"
        if in_name or parameter_of(quantity) or is_not_carried(quantity):
            return "_".join(words[:begin]), quantity
    return name, name


ADAPTER: Final = Adapter(
    name="home-assistant",
    title="Home Assistant",
    versions="2023.1 to 2026. The entity's name ends in the quantity where no device_class says it;"
    " statestream sends a bare state, without unit or time: a temperature's unit ends its name (_c, _f)",
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
