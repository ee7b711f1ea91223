"""skyfuse's own messages, as JSON: one, a list, or one a line."""

from typing import Final

from pydantic import ValidationError

from schemas.reading import Reading
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node, parsed_json
from sources.adapters.core.source_format import Context
from sources.adapters.core.tray import Tray

#: Bytes of a message that may be plain.
_SMALL: Final = 64 * 1024


def _read(payload: Node, tray: Tray) -> None:
    text = f"{payload.peek()}".strip()
    lines = text.splitlines()
    if len(lines) > 1 and all(line.strip().startswith("{") and line.strip().endswith("}") for line in lines):
        payload.put([parsed_json(line).value for line in lines])
    else:
        payload.put(parsed_json(text).value)
    for message in payload.one_or_each():
        device = tray.device(message["station"].text())
        period, stamp = tray.seconds(message["period"]), tray.stamp(message["stamp"])
        draft = tray.draft(device, message["observed_at"] or message["time"], period, stamp, now=True)
        for part in message["values"].each():
            sensor, channel = part["sensor"].text(), part["channel"].text()
            draft.exact(part["value"], part["parameter"].text(), part["unit"].text(), sensor, channel)


def plain_reading(data: bytes, context: Context) -> Reading | None:
    """A plainly good message, ten times faster; None: ask `translate`, which can explain.

    Makes the same reading of it as `translate`, without its remarks, or none. JSON keeps the last of two
    members of a name, which `translate` tells; so what may have one twice is left to it.
    """
    if b"\\" in data or len(data) > _SMALL:
        return None
    if context.station is not None and b'"station"' not in data and data.startswith(b'{"'):
        data = b'{"station":"%s",%s' % (context.station.encode(), data[1:])  # an id has nothing to escape
    try:
        reading = Reading.model_validate_json(data)
    except ValidationError:
        return None  # not lost: `translate` looks again and has the words for it
    if not reading.model_fields_set.isdisjoint(("received_at", "time_source")):
        return None  # set on arrival: what the message says of them is left out, and told
    values = reading.values
    if len({(value.sensor, value.parameter, value.channel) for value in values}) < len(values):
        return None
    # Without escapes a quote and a colon in a row stand between the name and the value of a member.
    members = len(reading.model_fields_set) + sum(len(value.model_fields_set) for value in values)
    if data.count(b'":') != members:
        return None
    return reading.model_copy(update={"received_at": context.received_at, "time_source": "device"})


ADAPTER: Final = Adapter(
    name="skyfuse-json",
    title="skyfuse messages (JSON, JSON lines)",
    versions="aq.readings.v1 (docs/asyncapi.json); numbers may be text, units as they are commonly written",
    arrives="POST, MQTT, file",
    form="text",
    read=_read,
    others={"*received_at": "set on arrival", "*time_source": "set on arrival"},
    correction="none",
    many=True,
    archive=True,
)  # fmt: skip
