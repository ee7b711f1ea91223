"""skyfuse's own messages, as JSON: one, a list, or one a line."""

import re
from typing import Final, NamedTuple

from pydantic_core import PydanticCustomError, to_json

from schemas.base import parse_time, to_ms
from schemas.limits import MAX_AHEAD_MS
from schemas.reading import DEFAULT_SENSOR, PlainValue, plain_reading, plausible
from schemas.times import DAY_MS
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.cells import short
from sources.adapters.core.payload import Node, json_lines
from sources.adapters.core.tray import Tray

#: Bytes of a message that may be plain.
_SMALL: Final = 64 * 1024
#: A younger time is of no clock that begins anew (`moments.check_clock`).
_OLD_MS: Final = 365 * DAY_MS
_MEMBER: Final = re.compile(rb'"\s*:')


def _read(payload: Node, tray: Tray) -> None:
    text = f"{payload.peek()}".strip()
    lines = json_lines(text)
    if lines is None:
        payload.put(tray.document(text))
    else:
        payload.put(lines.values)
        tray.name_twice(lines.twice)
        for index, why in lines.wrong.items():
            line = f"line {index + 1}"
            tray.refused.add("not_json", line, line, why)
    for message in payload.one_or_each():
        if keys := message.twice():
            tray.refuse("twice", message, f"{short(keys[0])} is there twice: none of it is believed")
            continue
        device = tray.device(message["station"].text())
        period, stamp = tray.seconds(message["period"]), tray.stamp(message["stamp"])
        draft = tray.draft(device, message["observed_at"] or message["time"], period, stamp, now=True)
        for part in message["values"].each():
            if keys := part.twice():
                tray.refuse("twice", part, f"{short(keys[0])} is there twice: the value is not believed")
                continue
            sensor, channel = part["sensor"].text(), part["channel"].text()
            draft.exact(part["value"], part["parameter"].text(), part["unit"].text(), sensor, channel)


class PlainMessage(NamedTuple):
    """A good message as it is published: `data` is what `encode` makes of its reading, or says the same."""

    station: str
    values: int
    data: bytes
    observed_at_ms: int


def plain_message(data: bytes, received_at_ms: int, station: str | None) -> PlainMessage | None:
    """A plainly good message, ten times faster; None: ask `translate`, which can explain.

    Says the same of it as `translate`, without its remarks, or nothing. JSON keeps the last of two members of
    a name, which `translate` tells; so what may have one twice is left to it. `station`: as of `Context`.
    """
    if b"\\" in data or len(data) > _SMALL:
        return None
    if station is not None and b'"station"' not in data and data.startswith(b'{"'):
        data = b'{"station":"%s",%s' % (station.encode(), data[1:])  # an id has nothing to escape
    plain = plain_reading(data)
    # `received_at` and `time_source` are set on arrival: what the message says of them is left out, and told.
    if plain is None or "received_at" in plain or "time_source" in plain:
        return None
    values = plain["values"]
    # Without escapes a quote, blanks and a colon stand between the name and the value of a member.
    if len(_MEMBER.findall(data)) != len(plain) + sum(map(len, values)):
        return None
    if len(values) > 1 and len({_names(value) for value in values}) < len(values):
        return None
    observed_at = plain["observed_at"]
    if isinstance(observed_at, str):
        try:
            plain["observed_at"] = to_ms(parse_time(observed_at))
        except PydanticCustomError:
            return None
    at_ms = plain["observed_at"]
    if not plausible(plain) or not isinstance(at_ms, int) or not _from_a_right_clock(at_ms, received_at_ms):
        return None
    plain["received_at"] = received_at_ms
    plain["time_source"] = "device"
    return PlainMessage(plain["station"], len(values), to_json(plain), at_ms)


def _from_a_right_clock(time_ms: int, received_at_ms: int) -> bool:
    """Whether a time is neither to come nor so old that it may be of a clock which was never set."""
    return received_at_ms - _OLD_MS <= time_ms <= received_at_ms + MAX_AHEAD_MS


def _names(value: PlainValue) -> tuple[str, str, str]:
    return value.get("sensor", DEFAULT_SENSOR), value["parameter"], value.get("channel", "value")


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
