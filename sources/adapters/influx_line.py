"""InfluxDB line protocol: Telegraf, airRohr and whatever else writes it."""

import re
from typing import Final

from sources.adapters import airgradient, sensor_community
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray
from sources.adapters.core.words import is_not_carried, parameter_of

_LINE: Final = re.compile(
    r"(?P<head>(?:\\.|[^ \\])+) +"
    r"(?P<fields>(?:\"(?:\\.|[^\"\\])*\"|\\.|[^ \"\\])+)"
    r"(?: +(?P<time>-?[0-9]+))?\s*"
)
_COMMA: Final = re.compile(r"(?:\"(?:\\.|[^\"\\])*\"|\\.|[^,\"\\])+")
_KEY: Final = re.compile(r"((?:\\.|[^=\\])+)=(.*)", re.DOTALL)
#: Tags that say which station it is, in the order in which they are believed.
_STATIONS: Final = (
    "station",
    "station_id",
    "device_id",
    "device",
    "node",
    "sensor_id",
    "site",
    "location",
)
#: And where nothing else does: of what Telegraf has from a broker, the machine that it runs on says nothing.
_COLLECTORS: Final = ("topic", "host")
_UNITS: Final = ("unit", "units")


def _read(payload: Node, tray: Tray) -> None:
    lines = f"{payload.peek()}".splitlines()
    payload.put([None if not line.strip() or line.startswith("#") else line for line in lines])
    for node in payload.each():
        if not node.peek():
            continue
        found = _LINE.fullmatch(f"{node.peek()}".strip())
        head = _COMMA.findall(found["head"]) if found else []
        tagged = _pairs(head[1:])
        fields = _pairs(_COMMA.findall(found["fields"])) if found else None
        if found is None or not head or tagged is None or fields is None:
            tray.refuse("not_a_line", node, "it is no line protocol: measurement,tags fields time")
            continue
        measurement = head[0]
        plain = {key: _plain(text) for key, text in fields.items()}
        node.put({"tags": tagged, "fields": plain, "time": found["time"]})
        tags = _STATIONS if tray.context.station else (*_STATIONS, *_COLLECTORS)
        device = tray.device(next((_name(tagged[key]) for key in tags if tagged.get(key)), ""))
        draft = tray.draft(device, node["time"] if found["time"] else None, now=True)
        unit = next((tagged[key] for key in _UNITS if key in tagged), "")
        quantity = tagged.get("parameter") or tagged.get("pollutant") or _name(measurement)
        for key, value in node["fields"].items():
            # A field called `value` is what the tag or the measurement says.
            name = quantity if key == "value" else key
            known = airgradient.ADAPTER.fields.get(key) or sensor_community.field_of(key)
            if known is not None and not unit and not _known(key):
                draft.take(value, known)
            elif not draft.named(name, value, unit):
                tray.other(key, value)


def _known(name: str) -> bool:
    return parameter_of(name) is not None or is_not_carried(name)


def _pairs(texts: list[str]) -> dict[str, str] | None:
    """By key; None where one is none, or is there twice."""
    pairs = [(_name(found[1]), found[2]) for text in texts if (found := _KEY.fullmatch(text))]
    return dict(pairs) if len(dict(pairs)) == len(texts) else None


def _name(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _plain(text: str) -> str:
    """A field's value: without the i or u of integers, without quotes."""
    return text[1:-1] if text[:1] == '"' else re.sub(r"^([+-]?[0-9]+)[iu]$", r"\1", text)


ADAPTER: Final = Adapter(
    name="influx-line",
    title="InfluxDB line protocol",
    versions="1 to 3, with plain names of quantities, and those of airRohr and AirGradient. A station is"
    " named by a tag (station, device_id …; topic or host, where nothing else says it), a quantity by its"
    " field, its measurement or the tag parameter. Times in seconds to nanoseconds, told apart by their size",
    arrives="POST /write, /api/v2/write; MQTT; files",
    form="text",
    read=_read,
    others={"*tags": "tags", **airgradient.ADAPTER.others, **sensor_community.ADAPTER.others},
    correction="not known",
    many=True,
    archive=True,
)  # fmt: skip
