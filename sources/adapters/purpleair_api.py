"""PurpleAir's cloud: API v1, one sensor, many sensors, the history of one."""

from dataclasses import replace
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import FAHRENHEIT, Field
from sources.adapters.core.tray import Tray

_NONE: Final = Node.root(None)
#: What no sensor measured: no air has it.
_MISSING: Final = (-1.0,)
#: Fields of which the API says that they are in atm for a sensor outside and in cf_1 for one inside; in a
#: sensor's own answer they are in its statistics, too.
_BY_PLACE: Final = ("pm2.5", "pm10.0")
_SCALINGS: Final = {"outdoor": "atm", "indoor": "cf_1"}
_PLAIN: Final = ("pm2.5", "pm2.5_atm", "pm2.5_cf_1")
#: The channel that a `channel_state` of one channel has.
_ONLY: Final = {"1": "_a", "2": "_b"}
_ENDS: Final = ("", "_a", "_b")


def _read(payload: Node, tray: Tray) -> None:
    index = payload["sensor_index"].text() or payload["sensor"]["sensor_index"].text()
    period = tray.seconds(payload["average"], 60.0) or None
    names = [name.text() for name in payload["fields"].each()]
    rows = [
        {name: cell.called(name) for name, cell in zip(names, list(row.each()), strict=False)}
        for row in payload["data"].each()
    ]
    for row in rows:
        _sensor(row, index, period, tray)
    sensor, stats = dict(payload["sensor"].items()), dict(payload["sensor"]["stats"].items())
    sensor.pop("stats", None)
    # What is in its statistics alone is of the sensor too, at their time.
    told = any(f"{name}{end}" in _said(sensor) for name in _PLAIN for end in _ENDS)
    for row, again in ((sensor, False), (stats, told)):
        if row:
            _sensor(row, index, period, tray, again)


def _said(row: dict[str, Node]) -> set[str]:
    """The names of what has a value."""
    return {name for name, node in row.items() if node and node.peek() is not None}


def _sensor(row: dict[str, Node], index: str, period: float | None, tray: Tray, again: bool = False) -> None:
    """The values of one sensor; `again`: those whose scaling goes by the place were there already."""
    sensor = row.get("sensor_index", _NONE).text()
    device = tray.device(index or sensor, "purpleair-")
    tray.fact(device, "name", row.get("name"))
    tray.fact(device, "firmware", row.get("firmware_version"))
    tray.fact(device, "model", row.get("model"))
    tray.fact(device, "exposure", row.get("location_type"))
    tray.place(device, row.get("latitude"), row.get("longitude"))
    history = row.get("time_stamp")
    if history:
        draft = tray.draft(device, history, period, "begins" if period else "ends")
    else:
        draft = tray.draft(device, row.get("last_seen", _NONE))
    only = _ONLY.get(f"{row.get('channel_state', _NONE).peek()}")
    row = _by_place(row, f"{device.facts.get('exposure', '')}", tray, again)
    said = _said(row)
    for name, node in row.items():
        channel = name[-2:] if name.endswith(("_a", "_b")) else ""
        base = name.removesuffix(channel)
        known = ADAPTER.fields.get(base)
        # A channel of which nobody asked for the twin says less than the mean of both.
        both = {f"{base}_a", f"{base}_b"}
        twins = both <= row.keys() and not both.isdisjoint(said)
        if known is None:
            if node:
                tray.other(name, node)
        elif channel and not twins and base in said:
            alone = channel == only or known.parameter not in ("pm25", "pm10")
            why = "the only channel, which is" if alone else "one of the channels, whose mean is"
            tray.leave("no_reading", node, f"{why} taken without it")
        elif not channel and twins:
            tray.leave("no_reading", node, "mean of the channels, which are taken")
        else:
            draft.take(node, replace(known, channel=known.channel + channel))


def _by_place(row: dict[str, Node], exposure: str, tray: Tray, again: bool) -> dict[str, Node]:
    """The row with pm2.5 and pm10.0 by the name of their scaling, where it has no value of that name."""
    named: dict[str, Node] = {}
    said = _said(row)
    for name, node in row.items():
        channel = name[-2:] if name.endswith(("_a", "_b")) else ""
        plain = name.removesuffix(channel)
        if plain not in _BY_PLACE or not node:
            named.setdefault(name, node)
            continue
        scalings = [_SCALINGS[exposure]] if exposure else sorted(_SCALINGS.values())
        if again or any(f"{plain}_{scaling}{end}" in said for scaling in scalings for end in _ENDS):
            tray.leave("no_reading", node, f"{' or '.join(scalings)} again, which is taken")
        elif exposure:
            scaled = f"{plain}_{scalings[0]}{channel}"
            row.get(scaled, _NONE).drop()
            named[scaled] = node
        else:
            tray.remarks.add(
                "scaling", node.path, node,
                "atm of a sensor outside, cf_1 of one inside, and nothing tells which: ask for location_type",
            )  # fmt: skip
            named[name] = node
    return named


ADAPTER: Final = Adapter(
    name="purpleair-api",
    title="PurpleAir (cloud, API v1)",
    versions="V1.0.10 to V1.2. /sensors is in columns, /sensors/INDEX an object, /sensors/INDEX/history in"
    " columns, its times the beginnings",
    arrives="GET https://api.purpleair.com/v1/sensors?fields=…",
    read=_read,
    fields={
        "pm2.5_cf_1": Field("pm25", "ug/m3", "cf_1", missing=_MISSING),
        "pm2.5_atm": Field("pm25", "ug/m3", "atm", missing=_MISSING),
        "pm2.5_alt": Field("pm25", "ug/m3", "alt", missing=_MISSING),
        "pm10.0_cf_1": Field("pm10", "ug/m3", "cf_1", missing=_MISSING),
        "pm10.0_atm": Field("pm10", "ug/m3", "atm", missing=_MISSING),
        "pm2.5": Field("pm25", "ug/m3", missing=_MISSING),
        "pm10.0": Field("pm10", "ug/m3", missing=_MISSING),
        "temperature": Field("temperature", "Cel", "value", "main", *FAHRENHEIT),
        "humidity": Field("relativehumidity", "%", missing=_MISSING),
        "pressure": Field("pressure", "hPa", missing=_MISSING),
    },
    others={
        "pm10.0_*": "other means", "pm1.0*": "PM1",
        "pm2.5_*minute*": "mean of means", "pm2.5_*hour*": "mean of means", "pm2.5_24hour*": "mean of means",
        "pm2.5_*week*": "mean of means", "*_um_count*": "particle counts", "scattering_coefficient*": "light",
        "deciviews*": "light", "visual_range*": "light", "voc*": "VOC", "ozone1": "raw",
        "analog_input": "supply", "channel_*": "quality", "confidence*": "quality", "last_*": "history",
        "date_created": "history", "private": "setting", "is_owner": "setting", "icon": "setting",
        "location_type": "setting", "hardware": "hardware", "led_brightness": "setting", "rssi": "reception",
        "uptime": "starts", "pa_latency": "uploads", "memory": "memory", "position_rating": "position",
        "altitude": "position", "primary_*": "upload", "secondary_*": "upload", "time_stamp": "answer",
        "data_time_stamp": "answer", "api_version": "answer", "*max_age": "answer", "*default_*": "answer",
        "*firmware_default_version": "answer", "start_timestamp": "answer", "end_timestamp": "answer",
        "*stats*": "means of means", "location_types": "answer", "channel_states": "answer",
    },
    period_s=120,
    correction="none in cf_1 and atm (pm2.5 alone is atm outside, cf_1 inside, by location_type); alt is"
    " PurpleAir's own of the counts (3.4). Temperature and humidity inside the case",
    many=True,
    time_source="server",
    archive=True,
)  # fmt: skip
