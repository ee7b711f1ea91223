"""Devices of makers in the simulated city: what each says, in its own words and units. Pure.

They breathe the city's air and reach the pipeline as real ones do, through the gateway: by their maker's
topic or path, in the form that its firmware or network server gives. Nothing here knows what adapters make of
it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta, timezone
from typing import Any, Final, Literal, NamedTuple

from schemas.base import from_ms
from schemas.station import Station
from schemas.times import HOUR_MS
from sources.simulate.air import air
from sources.simulate.city import City, SimulatedStation
from sources.simulate.noise import key, normal, uniform

DeviceWay = Literal["mqtt", "http"]
DEVICE_WAYS: Final[tuple[DeviceWay, ...]] = ("http", "mqtt")
#: Seconds from one message to the next of those that go by their network server's clock.
_LORAWAN_S: Final = 300


class VendorMessage(NamedTuple):
    """What a device sends: to an MQTT topic, or to a path of HTTP."""

    address: str
    body: bytes
    headers: Mapping[str, str] = {}


class _AirShown(NamedTuple):
    """What a device's sensors show: ug/m3, Celsius, per cent, hPa."""

    at_ms: int
    pm25: float
    pm10: float
    temperature: float
    humidity: float
    pressure: float


@dataclass(frozen=True)
class VendorDevice:
    """A device: the station it is, by which way and how often it speaks, and its words.

    `basic`: it shows its key as a password, as firmwares do; else as a bearer. `will`: topic, last will and
    birth of one that has them. `zone_h`: hours by which its clock, which knows no zones, is ahead of UTC.
    """

    station: SimulatedStation
    way: DeviceWay
    every_s: int
    words: Callable[["VendorDevice", _AirShown], VendorMessage]
    basic: bool = False
    will: tuple[str, str, str] | None = None
    zone_h: int = 0
    kept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Station id, as the adapter of its maker makes it."""
        return self.station.id

    def message(self, city: City, at_ms: int) -> VendorMessage:
        """What it says at a time, ms."""
        true = air(city, self.station, at_ms)
        stream = key(self.station.key, "vendor")

        def noisy(value: float, share: float, number: int) -> float:
            return max(0.0, value * (1.0 + share * normal(key(stream, str(number)), at_ms)))

        return self.words(
            self,
            _AirShown(
                at_ms,
                noisy(true["pm25"], 0.05, 1),
                noisy(true["pm10"], 0.07, 2),
                true["temperature"] + 0.2 * normal(key(stream, "t"), at_ms),
                min(100.0, noisy(true["relativehumidity"], 0.01, 3)),
                1011.0 + 3.0 * normal(key(city.seed, "pressure"), at_ms // HOUR_MS),
            ),
        )


def _json(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _airgradient(device: VendorDevice, air: _AirShown) -> VendorMessage:
    serial = device.kept["serial"]
    body = {
        "pm01": round(0.7 * air.pm25, 2), "pm02": round(air.pm25, 2), "pm10": round(air.pm10, 2),
        "pm02Standard": round(air.pm25, 2), "pm003Count": round(130 * air.pm25, 1),
        "atmp": round(air.temperature, 2), "atmpCompensated": round(air.temperature, 2),
        "rhum": round(air.humidity, 2), "rhumCompensated": round(air.humidity, 2), "rco2": 447,
        "tvocIndex": 82.67, "noxIndex": 1, "boot": 318, "bootCount": 318, "wifi": -52, "ledMode": "pm",
        "serialno": serial, "firmware": "3.3.9", "model": "O-1PST",
    }  # fmt: skip
    return VendorMessage(f"airgradient/readings/{serial}", _json(body))


def _tasmota(device: VendorDevice, air: _AirShown) -> VendorMessage:
    local = from_ms(air.at_ms).astimezone(timezone(timedelta(hours=device.zone_h)))
    body = {
        "Time": f"{local:%Y-%m-%dT%H:%M:%S}",
        "PMS5003": {
            "CF1": round(0.7 * air.pm25), "CF2.5": round(air.pm25), "CF10": round(air.pm10),
            "PM1": round(0.7 * air.pm25), "PM2.5": round(air.pm25), "PM10": round(air.pm10),
            "PB0.3": round(130 * air.pm25), "PB0.5": round(38 * air.pm25), "PB10": 0,
        },
        "BME280": {
            "Temperature": round(air.temperature, 1), "Humidity": round(air.humidity, 1),
            "DewPoint": round(air.temperature - (100 - air.humidity) / 5, 1),
            "Pressure": round(air.pressure, 1),
        },
        "PressureUnit": "hPa", "TempUnit": "C",
    }  # fmt: skip
    return VendorMessage(f"tele/{device.id}/SENSOR", _json(body))


def _smart_citizen(device: VendorDevice, air: _AirShown) -> VendorMessage:
    sensors = {
        10: 96, 14: 145, 53: 48.2, 55: round(air.temperature, 2), 56: round(air.humidity, 2),
        58: round(air.pressure / 10, 2), 87: round(air.pm25), 88: round(air.pm10), 89: round(0.7 * air.pm25),
    }  # fmt: skip
    batch = {
        "recorded_at": f"{from_ms(air.at_ms):%Y-%m-%d %H:%M:%S}",
        "sensors": [{"id": number, "value": value} for number, value in sensors.items()],
    }
    return VendorMessage(f"device/sck/{device.kept['token']}/readings", _json({"data": [batch]}))


def _milesight(device: VendorDevice, air: _AirShown) -> VendorMessage:
    """An AM319 behind ChirpStack. Its battery is nearly empty, for `skyfuse fleet` to show."""
    eui = device.kept["eui"]
    body = {
        "deduplicationId": f"{air.at_ms:032x}",
        "time": f"{from_ms(air.at_ms).isoformat()}",
        "deviceInfo": {
            "tenantName": "City", "applicationId": "17c82e96", "applicationName": "Air",
            "deviceProfileName": "AM319", "deviceName": "am319", "devEui": eui,
            "tags": {"station": device.id},
        },
        "fCnt": air.at_ms // (1000 * device.every_s) % 65_536, "fPort": 85, "confirmed": False,
        "data": "AXVk",
        "object": {
            "battery": 14, "temperature": round(air.temperature, 1), "humidity": round(air.humidity, 1),
            "pressure": round(air.pressure, 1), "co2": 455, "pm2_5": round(air.pm25),
            "pm10": round(air.pm10),
        },
        "rxInfo": [{"gatewayId": "0016c001f153a14c", "rssi": -36, "snr": 10.5}],
    }  # fmt: skip
    return VendorMessage(f"application/17c82e96/device/{eui}/event/up", _json(body))


def _sensecap(device: VendorDevice, air: _AirShown) -> VendorMessage:
    """A SenseCAP node behind The Things Stack, whose webhooks leave out what is zero."""
    at = from_ms(air.at_ms).astimezone(UTC)
    stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{air.at_ms % 1000:03d}482915Z"
    readings = {
        4097: round(air.temperature, 1), 4098: round(air.humidity), 4101: round(100 * air.pressure),
        4146: round(air.pm25), 4147: round(air.pm10),
    }  # fmt: skip
    body = {
        "end_device_ids": {
            "device_id": "sensecap-roof", "application_ids": {"application_id": "city-air"},
            "dev_eui": device.kept["eui"],
        },
        "received_at": stamp,
        "uplink_message": {
            "session_key_id": "AYfA==", "f_port": 2, "f_cnt": air.at_ms // (1000 * device.every_s) % 65_536,
            "frm_payload": "A2f6AA==",
            "decoded_payload": {
                "valid": True, "err": 0, "payload": "0101",
                "messages": [
                    {"type": "report_telemetry", "measurementId": number, "measurementValue": value}
                    for number, value in readings.items()
                ],
            },
            "rx_metadata": [{"gateway_ids": {"gateway_id": "roof-gw"}, "rssi": -97, "snr": 8.5}],
            "received_at": stamp,
        },
    }  # fmt: skip
    return VendorMessage("/v1/ingest/the-things-stack", _json(body), {"Content-Type": "application/json"})


def _airrohr(device: VendorDevice, air: _AirShown) -> VendorMessage:
    """Values are words, PM10 comes before PM2.5, pressure is in Pa."""
    values = {
        "SDS_P1": f"{air.pm10:.2f}", "SDS_P2": f"{air.pm25:.2f}",
        "BME280_temperature": f"{air.temperature:.2f}", "BME280_pressure": f"{100 * air.pressure:.2f}",
        "BME280_humidity": f"{air.humidity:.2f}", "samples": "4954322", "min_micro": "28",
        "max_micro": "20067", "interval": "145000", "signal": "-67",
    }  # fmt: skip
    body = {
        "esp8266id": device.kept["chip"], "software_version": "NRZ-2020-133",
        "sensordatavalues": [{"value_type": name, "value": value} for name, value in values.items()],
    }  # fmt: skip
    headers = {"Content-Type": "application/json", "X-Sensor": f"esp8266-{device.kept['chip']}"}
    return VendorMessage("/data.php", _json(body), headers)


def _purpleair(device: VendorDevice, air: _AirShown) -> VendorMessage:
    """What its web server answers, as somebody's script passes it on; the case is 8 F too warm."""
    body: dict[str, Any] = {
        "SensorId": device.kept["mac"], "DateTime": f"{from_ms(air.at_ms):%Y/%m/%dT%H:%M:%Sz}",
        "Geo": "PurpleAir-51b0", "lat": device.station.record.latitude,
        "lon": device.station.record.longitude, "place": "outside", "version": "7.02", "uptime": 476371,
        "rssi": -57, "period": 120, "hardwareversion": "2.0",
        "current_temp_f": round(air.temperature * 1.8 + 40), "current_humidity": round(0.9 * air.humidity),
        "pressure": round(air.pressure, 2),
    }  # fmt: skip
    for laser, factor in (("", 1.0), ("_b", 1.04)):
        for scale in ("cf_1", "atm"):
            body[f"pm1_0_{scale}{laser}"] = round(0.7 * factor * air.pm25, 2)
            body[f"pm2_5_{scale}{laser}"] = round(factor * air.pm25, 2)
            body[f"pm10_0_{scale}{laser}"] = round(factor * air.pm10, 2)
        body[f"p_0_3_um{laser}"] = round(130 * factor * air.pm25, 1)
    return VendorMessage("/v1/ingest/purpleair", _json(body), {"Content-Type": "application/json"})


def vendor_devices(city: City, ways: tuple[DeviceWay, ...] = DEVICE_WAYS) -> list[VendorDevice]:
    """The devices of a city that speak by these ways."""
    zone_h = round(city.place.longitude / 15)
    near = len(city.stations)

    def at(number: int, station: str, name: str, zone: str = "UTC") -> SimulatedStation:
        model = city.stations[number % near]
        own = key(city.seed, "vendor", station)
        record = Station(
            station=station,
            name=name,
            city="Simulated",
            latitude=round(city.place.latitude + 0.05 * normal(own, 1), 4),
            longitude=round(city.place.longitude + 0.05 * normal(own, 2), 4),
            timezone=zone,
            kind="simulated",
            standards=model.record.standards,
        )
        return replace(
            model, record=record, key=own, level=0.8 + 0.4 * uniform(own, 3), reading_phase=uniform(own, 4)
        )

    # POSIX counts zones the other way round.
    zone = f"Etc/GMT{-zone_h:+d}" if zone_h else "UTC"
    made = [
        VendorDevice(
            at(0, "airgradient-84fce6020051", "AirGradient Open Air"), "mqtt", 60, _airgradient,
            kept={"serial": "84fce6020051"},
        ),
        VendorDevice(
            at(1, "sim-tasmota", "Tasmota, PMS5003", zone), "mqtt", 60, _tasmota,
            will=("tele/sim-tasmota/LWT", "Offline", "Online"), zone_h=zone_h,
        ),
        VendorDevice(
            at(2, "smart-citizen-51b0aa", "Smart Citizen Kit"), "mqtt", 60, _smart_citizen,
            kept={"token": "51b0aa"},
        ),
        VendorDevice(
            at(3, "sim-milesight", "Milesight AM319 (ChirpStack)"), "mqtt", _LORAWAN_S, _milesight,
            kept={"eui": "24e124126b510051"},
        ),
        VendorDevice(
            at(4, "eui-2cf7f12024900051", "SenseCAP (The Things Stack)"), "http", _LORAWAN_S, _sensecap,
            kept={"eui": "2CF7F12024900051"},
        ),
        VendorDevice(
            at(5, "esp8266-51005100", "airRohr, SDS011"), "http", 145, _airrohr, basic=True,
            kept={"chip": "51005100"},
        ),
        VendorDevice(
            at(0, "purpleair-84f3eb7b51b0", "PurpleAir PA-II"), "http", 120, _purpleair,
            kept={"mac": "84:f3:eb:7b:51:b0"},
        ),
    ]  # fmt: skip
    return [device for device in made if device.way in ways]


def records_of(city: City, ways: tuple[DeviceWay, ...]) -> list[Station]:
    """The records of the devices that speak by these ways."""
    return [device.station.record for device in vendor_devices(city, ways)]
