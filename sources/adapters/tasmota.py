"""Tasmota: the sensor telemetry of its devices."""

import re
from dataclasses import replace
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.cells import sensor_id
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import Field
from sources.adapters.core.tray import Tray

_TOPIC: Final = re.compile(
    r"(?:^|/)(?:tele|stat)/([^/].*)/(?:SENSOR|STATUS8|STATUS10)$|^(.+)/(?:tele|stat)/(?:SENSOR|STATUS8|STATUS10)$"
)
_UNITS: Final = {"Temperature": "TempUnit", "Pressure": "PressureUnit"}


def _read(payload: Node, tray: Tray) -> None:
    message = payload["StatusSNS"] or payload
    found = _TOPIC.search(tray.context.topic)
    device = tray.device((found[1] or found[2]) if found else "")
    blocks = [(key, node) for key, node in message.items() if node.is_object() and key not in ADAPTER.others]
    if not blocks:  # its state, not its sensors
        return
    draft = tray.draft(device, message["Epoch"] or message["Time"])
    units = {key: message[unit].text() for key, unit in _UNITS.items()}
    for sensor, block in blocks:
        both = [block[key].peek() for key in ("PM2.5", "PM10")]
        if sensor == "SDS0X1" and both == [0, 0]:
            for key in ("PM2.5", "PM10"):
                tray.leave("sentinel", block[key], "both zero: the SDS011 has just been switched on")
        plantower = any(key.startswith("CF") for key, _ in block.items())
        for key, node in block.items():
            known = ADAPTER.fields.get(key)
            if known is None:
                continue
            known = replace(known, sensor=sensor_id(sensor.lower()))
            if plantower and key.startswith("PM"):
                known = replace(known, channel="atm")
            if units.get(key):
                draft.named(key, node, units[key], known.sensor)
            else:
                draft.take(node, known)


ADAPTER: Final = Adapter(
    name="tasmota",
    title="Tasmota",
    versions="6 to 15. Its clock is local time without an offset; SetOption52 1 adds the offset, Time 3 and"
    " 4 the Epoch. Values beside PM are in TempUnit and PressureUnit",
    arrives="MQTT tele/TOPIC/SENSOR, stat/TOPIC/STATUS8 and STATUS10",
    read=_read,
    fields={
        "PM2.5": Field("pm25", "ug/m3"),
        "PM10": Field("pm10", "ug/m3"),
        "PM2_5": Field("pm25", "ug/m3"),
        "CF2.5": Field("pm25", "ug/m3", "cf_1"),
        "CF10": Field("pm10", "ug/m3", "cf_1"),
        "Temperature": Field("temperature", "Cel"),
        "Humidity": Field("relativehumidity", "%"),
        "Pressure": Field("pressure", "hPa"),
    },
    others={
        "*PB*": "particle counts", "*PM1.0": "PM1", "*Time": "local time", "*.Model": "model", "*CF1": "PM1",
        "*PM1": "PM1", "*PM1_0": "PM1", "*PM4*": "PM4", "*NCPM*": "particle counts",
        "*TYPSIZ": "particle size", "*DewPoint": "dew point", "*SeaPressure": "pressure at sea level",
        "*CarbonDioxide": "CO2", "*eCO2": "CO2", "*TVOC": "VOC", "*NoxIdx": "NOx index",
        "*VOCIdx": "VOC index", "*VOC": "VOC", "*NOx": "NOx index", "*AHum": "absolute humidity",
        "*AbsHumidity": "absolute humidity", "*aHumidity": "absolute humidity", "*Gas": "raw signal",
        "*.Id": "address of a sensor", "*Illuminance": "light", "Uptime*": "starts", "Heap": "memory",
        "Sleep*": "setting", "LoadAvg": "load", "MqttCount": "reception", "POWER*": "outputs",
        "Wifi": "reception", "Vcc": "supply", "ESP32": "temperature of the chip", "ANALOG": "raw input",
        "ENERGY": "power", "Switch*": "inputs",
    },
    naive="station",
    correction="none; SDS011: mean of 4 samples, PMS: the last one",
)  # fmt: skip
