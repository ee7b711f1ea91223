"""skyfuse's own messages, as JSON: one, a list, or one a line."""

from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node, parsed_json
from sources.adapters.core.tray import Tray


def _read(payload: Node, tray: Tray) -> None:
    text = f"{payload.peek()}".strip()
    lines = text.splitlines()
    if len(lines) > 1 and all(line.strip().startswith("{") and line.strip().endswith("}") for line in lines):
        payload.put([parsed_json(line)[0] for line in lines])
    else:
        payload.put(parsed_json(text)[0])
    for message in payload.one_or_each():
        device = tray.device(message["station"].text())
        period, stamp = tray.seconds(message["period"]), tray.stamp(message["stamp"])
        draft = tray.draft(device, message["observed_at"] or message["time"], period, stamp, now=True)
        for part in message["values"].each():
            sensor, channel = part["sensor"].text(), part["channel"].text()
            draft.exact(part["value"], part["parameter"].text(), part["unit"].text(), sensor, channel)


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
