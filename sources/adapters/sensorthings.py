"""OGC SensorThings 1.1: Observations, by MQTT or from the API, with their Datastream expanded."""

import re
from datetime import datetime
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.draft import Device, Draft
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray

_TOPIC: Final = re.compile(r"Datastreams\(['\"]?([^'\")]+)['\"]?\)")


def _read(payload: Node, tray: Tray) -> None:
    outer = payload if payload["Observations"] else payload["Datastream"]
    for entry in (payload["value"] or payload["Observations"] or payload).one_or_each():
        if entry["dataArray"]:
            names = [name.text() for name in entry["components"].each()]
            for row in entry["dataArray"].each():
                cells = [cell.grab() for cell in row.each()]
                if len(cells) == len(names):
                    _observation(tray, row.put(dict(zip(names, cells, strict=True))), entry["Datastream"])
                else:
                    tray.refuse("not_a_row", row, f"{len(cells)} cells of {len(names)} components")
        else:
            _observation(tray, entry, entry["Datastream"] or outer)


def _observation(tray: Tray, observation: Node, stream: Node) -> None:
    number = tray.own(_text(stream["@iot.id"]), _TOPIC)
    thing = stream["Thing"]
    # What skyfuse itself writes is `station:parameter:kind`.
    own = number.split(":") if number.count(":") == 2 else ["", "", ""]
    device = tray.device(own[0] or _text(thing["name"]) or _text(thing["@iot.id"]))
    name = own[1] or _text(stream["ObservedProperty"]["name"]) or _text(stream["name"])
    unit = _text(stream["unitOfMeasurement"]["symbol"]) or ("ug/m3" if own[1] else "")
    result = observation["result"].called(name or number)
    if own[2] == "imputed":
        tray.leave("no_reading", result, "imputed, not measured")
    elif not name:
        why = "nothing says what was measured: ask with $expand=Datastream($expand=ObservedProperty,Thing)"
        tray.refuse("no_quantity", result, why)
    elif not _draft(tray, device, observation).named(name, result, unit):
        tray.other(name, result)


def _text(part: Node) -> str:
    """Text of a Datastream, which stays: it may be of many observations."""
    return "" if part.peek() is None else f"{part.peek()}"


def _draft(tray: Tray, device: Device, observation: Node) -> Draft:
    """At the phenomenon's time; of an interval its end, and its length the period."""
    stated = observation["phenomenonTime"] or observation["resultTime"]
    begin, slash, end = f"{stated.peek()}".partition("/")
    if not slash:
        return tray.draft(device, stated)
    since: datetime | None = tray.moment_of(device, begin, stated)
    until = tray.moment_of(device, end, stated)
    stated.drop()
    if since is None or until is None:
        return tray.refused_draft(device)
    return tray.draft(device, at=until, period_s=(until - since).total_seconds())


ADAPTER: Final = Adapter(
    name="sensorthings",
    title="OGC SensorThings (Observations)",
    versions="1.1. Without an expanded Datastream nothing says what a result is, but for skyfuse's own ids",
    arrives="MQTT v1.1/Datastreams(ID)/Observations; GET …/Observations?$expand=Datastream($expand=…)",
    read=_read,
    others={
        "*resultQuality": "quality", "*parameters": "further", "*phenomenonTime": "time",
        "*resultTime": "when the result came about", "*validTime": "further",
        "*FeatureOfInterest*": "position", "*@iot.*": "ids, links", "*Datastream": "what it is",
        "*Thing": "what it is", "name": "what it is", "description": "what it is",
        "unitOfMeasurement": "what it is", "observationType": "what it is", "ObservedProperty": "what it is",
        "*navigationLink": "links",
    },
    correction="the publisher's",
    many=True,
    archive=True,
)  # fmt: skip
