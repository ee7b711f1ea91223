"""AirGradient ONE and Open Air: local server, MQTT, and what they post to their cloud (or to here)."""

import re
from dataclasses import replace
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import Field
from sources.adapters.core.tray import Tray

_SERIAL: Final = re.compile(r"airgradient(?:/readings/([^/]+)|[:_/]([0-9a-fA-F]{12}))")
#: All sizes are this after a bad frame of the PMS5003 (firmware issue 294).
_BAD_FRAME: Final = (3661.0,)
#: What firmwares send that do not leave out what is not there (3.0 and before, and some of 3.1).
_INVALID: Final = (-1.0,)
_INVALID_TEMPERATURE: Final = (-1000.0, -1001.0)


def _read(payload: Node, tray: Tray) -> None:
    for message in payload.one_or_each():
        serial = tray.own(message["serialno"].text(), _SERIAL)
        device = tray.device(serial.lower(), "airgradient-")
        firmware = message["firmware"] or message["firmwareVersion"]
        tray.fact(device, "name", message["locationName"])
        tray.fact(device, "firmware", firmware)
        tray.fact(device, "model", message["model"] or message["fwMode"])
        tray.place(device, message["latitude"], message["longitude"])
        stated = message["timestamp"]  # of the cloud's API only
        draft = tray.draft(device, stated, source="server" if stated else None)
        for number, suffix in (("1", "_a"), ("2", "_b")):
            for key, node in message["channels"][number].items():
                if known := ADAPTER.fields.get(key):
                    draft.take(node, replace(known, channel=known.channel + suffix))
                    if message[key]:
                        tray.leave("no_reading", message[key], "mean of both channels, which are taken")
        draft.fields(message)


ADAPTER: Final = Adapter(
    name="airgradient",
    title="AirGradient ONE, Open Air",
    versions="firmware 3.0.10 to 3.6. Before 3.1: firmwareVersion, fwMode, tvoc_raw; pm02Compensated from"
    " 3.1.4, pm02Standard later. The post to the cloud has no serialno and no firmware: its path has that",
    arrives="GET /measures/current; MQTT airgradient/readings/SERIAL; POST"
    " /sensors/airgradient:SERIAL/measures (httpDomain, from 3.3.2); GET /public/api/v1/…/measures/current",
    read=_read,
    fields={
        "pm02": Field("pm25", "ug/m3", "atm", missing=(*_BAD_FRAME, *_INVALID)),
        "pm02Standard": Field("pm25", "ug/m3", "cf_1", missing=(*_BAD_FRAME, *_INVALID)),
        "pm02Compensated": Field("pm25", "ug/m3", "epa", missing=_INVALID),
        "pm02_corrected": Field("pm25", "ug/m3", "epa"),
        "atmp_corrected": Field("temperature", "Cel", "compensated"),
        "rhum_corrected": Field("relativehumidity", "%", "compensated"),
        "pm10": Field("pm10", "ug/m3", "atm", missing=(*_BAD_FRAME, *_INVALID)),
        "pm10Standard": Field("pm10", "ug/m3", "cf_1", missing=(*_BAD_FRAME, *_INVALID)),
        "atmp": Field("temperature", "Cel", missing=_INVALID_TEMPERATURE),
        "atmpCompensated": Field("temperature", "Cel", "compensated", missing=_INVALID_TEMPERATURE),
        "rhum": Field("relativehumidity", "%", missing=_INVALID),
        "rhumCompensated": Field("relativehumidity", "%", "compensated", missing=_INVALID),
    },
    others={
        "*pm01": "PM1", "*pm01Standard": "PM1", "bootCount": "starts", "*Count": "particle counts",
        "*rco2": "CO2", "*tvoc*": "VOC index or raw signal", "*nox*": "NOx index or raw signal",
        "*_corrected": "corrected by the cloud", "rco2_*": "CO2", "location*": "of the place",
        "publicLocationName": "of the place", "timezone": "of the place", "heatindex": "computed",
        "led*": "setting", "wifi": "reception", "boot": "starts", "ledMode": "setting",
        "monitorDisplayCompensatedValues": "setting", "resetReason": "starts", "freeHeap": "memory",
        "satellites": "other devices nearby", "volt": "supply", "light": "light",
    },
    time_source="receiver",
    correction="pm02Compensated (channel epa): EPA 2021 with humidity, or the batch's line; atmpCompensated"
    " and rhumCompensated: for the case of Open Air; pm02, pm02Standard: none, unless configured",
)  # fmt: skip
