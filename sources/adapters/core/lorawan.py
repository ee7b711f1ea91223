"""What the vendors' decoders of LoRaWAN devices give, whichever network server ran them.

Names are those of the public decoders: Milesight (SensorDecoders), Decentlab (decentlab-decoders), SenseCAP
(its list of measurement ids) and Dragino; others by their plain names and units.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

from schemas.errors import Refused
from sources.adapters.core.cells import sensor_id
from sources.adapters.core.draft import Device, Draft
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import Field
from sources.adapters.core.tray import Tray

#: By name, or by SenseCAP's number of a measurement.
FIELDS: Final = {
    "pm2_5": Field("pm25", "ug/m3"),
    "pm10": Field("pm10", "ug/m3"),
    "pm2_5_mass_concentration": Field("pm25", "ug/m3"),
    "pm10_mass_concentration": Field("pm10", "ug/m3"),
    "air_temperature": Field("temperature", "Cel"),
    "air_humidity": Field("relativehumidity", "%"),
    "barometric_pressure": Field("pressure", "hPa", factor=0.01),
    "temperature": Field("temperature", "Cel"),
    "humidity": Field("relativehumidity", "%"),
    "pressure": Field("pressure", "hPa"),
    # Dragino: all bits set where the probe is not there.
    "TempC_SHT": Field("temperature", "Cel", missing=(327.67, -327.68)),
    "Hum_SHT": Field("relativehumidity", "%", missing=(6553.5, 3276.7)),
    "TempC_SHT31": Field("temperature", "Cel", missing=(327.67, -327.68)),
    "Hum_SHT31": Field("relativehumidity", "%", missing=(6553.5, 3276.7)),
    "4097": Field("temperature", "Cel"),
    "4098": Field("relativehumidity", "%"),
    "4101": Field("pressure", "hPa", factor=0.01),
    "4146": Field("pm25", "ug/m3"),
    "4147": Field("pm10", "ug/m3"),
}

#: Parts of decoded payloads that are no reading.
OTHERS: Final = {
    "pm1_0_*": "PM1", "pm4_*": "PM4", "*_number_concentration": "particle counts",
    "*particle_size": "particle size", "*number concentration": "particle counts",
    "Typical particle size": "particle size", "protocol_version": "decoder", "device_id": "decoder",
    "light_level": "light", "illumination": "light", "infrared*": "light", "pir*": "presence",
    "activity*": "presence", "occupancy": "presence", "beep": "setting", "buzzer*": "setting",
    "Work_mode": "setting", "ALARM_status": "setting", "Alarm_status": "setting", "Node_type": "model",
    "Ext_sensor": "model", "Bat_status": "battery", "BatV_status": "battery", "TempC_DS": "probe",
    "TempC1": "probe", "Systimestamp": "clock", "No_connect": "probe", "*CO2_ppm": "CO2", "*TVOC_ppb": "VOC",
    "4099": "light", "4100": "CO2", "4104": "wind", "4105": "wind", "4113": "rain", "4190": "light",
    "4191": "wind", "4102": "soil", "4103": "soil", "4108": "soil", "4148": "noise", "4195": "VOC",
    "ipso_version": "device", "hardware_version": "device", "tsl_version": "device", "sn": "device",
    "lorawan_class": "device", "power": "device", "*_status": "device", "*_event": "device",
    "reset_event": "device",
}  # fmt: skip
#: Cayenne LPP numbers its values: The Things Stack at the end of the name, ChirpStack inside.
_CAYENNE: Final = re.compile(r"(temperature|relative_humidity|barometric_pressure)_([0-9]+)")
_CAYENNE_OBJECTS: Final = {
    "temperatureSensor": "temperature", "humiditySensor": "humidity", "barometer": "pressure"
}  # fmt: skip
#: Decoders of one's own put their values into one of these. Others may hold settings and limits, whose
#: numbers are no air.
_WRAPPERS: Final = frozenset(
    ("air", "data", "decoded", "environment", "measurement", "measurements", "readings", "sensors",
     "telemetry", "values")
)  # fmt: skip
#: Of Decentlab's names, also of the older ones with blanks.
_MASS: Final = re.compile(r"[ _]mass[ _]concentration$")
_BATTERY_V: Final = ("battery_voltage", "Battery voltage", "BatV", "Bat_V", "Bat")
#: Names of a time that the whole of a decoded payload is of.
_OWN_TIME: Final = ("timestamp", "measured_at", "observed_at")
#: Bytes of a frame; LoRaWAN carries up to 242.
_MAX_FRAME: Final = 1024


def take_raw(
    tray: Tray, device: Device, names: Sequence[str], stated: Node, frame: Node, port: Node, decoded: Node,
    advice: str,
) -> None:  # fmt: skip
    """The values of an uplink: by the codec where one is given, else as the network server decoded them.

    Args:
        names: of the device, by which its codec is known: its EUI, name, model, application.
        stated: when the server received it.
        frame: raw bytes, in base64; left where they are if nothing decodes them anew.
        port: on which they came.
        decoded: where the server's decoded object is, and where the codec's goes.
        advice: what to do where there is neither.
    """
    codec = tray.context.codec_of(names) if frame else None
    if codec is None:
        if frame and says_no_values(decoded):
            tray.refuse("not_decoded", frame, f"not decoded: {advice}, or give the gateway its codec")
        elif decoded:
            take_decoded(tray, device, tray.draft(device, stated), decoded)
        return
    draft = tray.draft(device, stated)
    try:
        found = codec.decode(_frame(frame.peek()), _port(port.peek()), draft.at or tray.context.received_at)
    except Refused as refused:
        tray.refuse(refused.code, frame, refused.message)
        return
    for warning in found.warnings:
        tray.left_out.add("codec_warning", warning, frame, f"{codec.name} warns: {warning}")
    if not found.data:
        tray.left_out.add("codec_empty", frame.path, frame, f"{codec.name} finds no values in it")
    take_decoded(tray, device, draft, decoded.put(found.data))


def says_no_values(decoded: Node) -> bool:
    """Whether there is no decoded object, or an empty one: network servers write null and {} too."""
    return not decoded or (decoded.peek() is None and not any(decoded.items()) and not any(decoded.each()))


def _frame(text: object) -> bytes:
    try:
        frame = base64.b64decode(text if isinstance(text, str) else "!", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("not_a_frame", "the raw bytes are no base64") from error
    if len(frame) > _MAX_FRAME:
        raise Refused("not_a_frame", f"{len(frame)} raw bytes: more than a frame of LoRaWAN has")
    return frame


def _port(raw: object) -> int:
    if raw is None:
        return 0  # what is zero is left out of JSON
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= 255:
        return raw
    raise Refused("not_a_port", f"{raw!r:.40} is no port (fPort) of 0 to 255")


def take_decoded(tray: Tray, device: Device, draft: Draft, decoded: Node) -> None:
    """The values of a decoded payload; those with a time of their own (a device's history) at that.

    A time of the whole payload is the device's own as well: what it has kept while out of reach is of then.
    """
    for key in _OWN_TIME:
        own = decoded[key]
        if own and not own.has_parts() and (at := tray.moment(device, own)) is not None:
            draft = tray.draft(device, at=at, source="device")
            break
    if decoded["valid"].peek() is False or decoded["err"].peek() not in (None, 0):
        tray.refuse("declared_invalid", decoded, "its decoder says that it is not valid")
        return
    for key in ("valid", "err", "payload"):
        decoded[key].take()
    tray.fact(device, "firmware", decoded["firmware_version"])
    tray.fact(device, "battery_percent", decoded["battery"])
    for key in _BATTERY_V:
        tray.fact(device, "battery_volts", decoded[key]["value"] or decoded[key])
        decoded[key]["displayName"].take()
        decoded[key]["unit"].take()
    for past in decoded["history"].each():
        _named(tray, tray.draft(device, past["timestamp"], source="device"), past)
    for message in decoded["messages"].each():
        for part in message.one_or_each():  # some models nest them
            _measurement(tray, device, draft, part)
    _named(tray, draft, decoded)


def _named(tray: Tray, draft: Draft, part: Node) -> None:
    for key, node in part.items():
        if key in ("history", "messages") or (key in _BATTERY_V and node.is_object()):
            continue  # taken already; what is in it beside is named as unknown
        if key in _CAYENNE_OBJECTS:
            for number, inner in node.items():
                draft.named(_CAYENNE_OBJECTS[key], inner, sensor=sensor_id(f"channel-{number}"))
            continue
        if numbered := _CAYENNE.fullmatch(key):
            draft.named(numbered[1], node, sensor=f"channel-{numbered[2]:.9}")
            continue
        if key.lower() in _WRAPPERS and node.has_parts():
            _wrapped(tray, draft, node)
            continue
        value, unit = node, ""
        if node["value"] or node["unit"]:  # Decentlab: {"displayName": …, "value": 9.8, "unit": "µg⋅m⁻³"}
            node["displayName"].take()
            value, unit = node["value"].called(key), node["unit"].text()
        known = FIELDS.get(key)
        if known is not None and not unit:
            draft.take(value, known)
        elif not draft.named(_MASS.sub("", key), value, unit):
            tray.other(key, node)


def _wrapped(tray: Tray, draft: Draft, wrapper: Node) -> None:
    """Values in an object, or in a list of `{"name": …, "value": …, "unit": …}`."""
    if wrapper.is_object():
        _named(tray, draft, wrapper)
        return
    for entry in wrapper.each():
        name = next((found for key in ("name", "parameter", "type") if (found := entry[key].text())), "")
        value = entry["value"].called(name)
        if name and not draft.named(name, value, entry["unit"].text()):
            tray.other(name, value)


def take_normalized(tray: Tray, draft: Draft, entry: Node) -> None:
    """A measurement as The Things Stack normalizes it, whoever decoded it: Celsius, per cent and hPa."""
    for key, node in entry["air"].items():
        if not draft.named(key, node):
            tray.other(key, node)


def _measurement(tray: Tray, device: Device, draft: Draft, part: Node) -> None:
    number, value = part["measurementId"].text(), part["measurementValue"]
    for key in ("type", "dataloggerPort", "interval", "measureInterval"):
        part[key].take()
    tray.fact(device, "firmware", part["firmware"])
    tray.fact(device, "battery_percent", part["battery"] or part["Battery(%)"])
    own = tray.draft(device, part["timestamp"], source="device") if part["timestamp"] else draft
    known = FIELDS.get(number)
    if known is not None:
        own.take(value.called(number), known)
    elif value:
        tray.other(number, value)
