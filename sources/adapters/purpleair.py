"""PurpleAir's own web server on each device."""

from dataclasses import replace
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import FAHRENHEIT, Field
from sources.adapters.core.tray import Tray

#: What no sensor measured: no air has it.
_NONE: Final = (-1.0,)
#: A dead Plantower repeats the end of its range.
_END: Final = (*_NONE, 5000.0)


def _read(payload: Node, tray: Tray) -> None:
    device = tray.device(payload["SensorId"].text().replace(":", "").lower(), "purpleair-")
    tray.fact(device, "name", payload["Geo"])
    tray.fact(device, "firmware", payload["version"])
    tray.fact(device, "model", payload["hardwarediscovered"])
    tray.fact(device, "exposure", payload["place"])
    tray.place(device, payload["lat"], payload["lon"])
    # A unit with one laser has no key that ends in _b.
    twins = any(key.endswith("_b") for key, _ in payload.items())
    draft = tray.draft(device, payload["DateTime"], tray.seconds(payload["period"]))
    for key, node in payload.items():
        second = key.endswith("_b")
        known = ADAPTER.fields.get(key.removesuffix("_b"))
        if known is not None:
            suffix = "_b" if second else "_a" if twins and known.parameter in ("pm25", "pm10") else ""
            draft.take(node, replace(known, channel=known.channel + suffix))


ADAPTER: Final = Adapter(
    name="purpleair",
    title="PurpleAir (the device's web server)",
    versions="firmware 6 and 7, PA-I to PA-II-Flex. One laser: no keys with _b. ?live=true: the last"
    " reading, period 0",
    arrives="GET http://DEVICE/json",
    read=_read,
    fields={
        "pm2_5_cf_1": Field("pm25", "ug/m3", "cf_1", missing=_END),
        "pm2_5_atm": Field("pm25", "ug/m3", "atm", missing=_END),
        "pm10_0_cf_1": Field("pm10", "ug/m3", "cf_1", missing=_END),
        "pm10_0_atm": Field("pm10", "ug/m3", "atm", missing=_END),
        "current_temp_f": Field("temperature", "Cel", "value", "main", *FAHRENHEIT),
        "current_humidity": Field("relativehumidity", "%", missing=_NONE),
        "pressure": Field("pressure", "hPa", missing=_NONE),
        "current_temp_f_680": Field("temperature", "Cel", "value", "bme680", *FAHRENHEIT),
        "current_humidity_680": Field("relativehumidity", "%", "value", "bme680", missing=_NONE),
        "pressure_680": Field("pressure", "hPa", "value", "bme680", missing=_NONE),
    },
    others={
        "pm1_0_*": "PM1", "p_*_um*": "particle counts", "pm2.5_aqi*": "index", "p25aqic*": "colour",
        "current_dewpoint_f*": "dew point", "gas_680": "VOC, raw", "rssi": "reception", "uptime": "starts",
        "Mem": "memory", "mem*": "memory", "Id": "counter", "Adc": "supply", "loggingrate": "setting",
        "place": "setting", "http*": "uploads",
        "hardwareversion": "hardware", "latency": "uploads", "pa_latency": "uploads", "wlstate": "reception",
        "response*": "uploads", "status_*": "uploads", "ssid": "reception", "key1_*": "uploads",
        "ts_*": "uploads", "lastcalibration*": "uploads",
    },
    period_s=120,
    naive="utc",
    correction="none. Temperature and humidity are those inside the case: about 4 K too warm, 4 % too dry;"
    " the EPA correction (barkjohn-2021) wants them so, and the mean of both cf_1",
)  # fmt: skip
