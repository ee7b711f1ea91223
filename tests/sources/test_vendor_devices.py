"""Devices of makers in the simulated city: their words are understood, and they come in by their own ways."""

import asyncio
import contextlib
import shutil
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from infra.stack.mosquitto import LocalMosquitto
from infra.stack.ports import free_port
from schemas.base import from_ms
from settings.sections import HttpSettings, MqttSettings, Settings
from sources.adapters import adapters
from sources.adapters.core.source_format import Context
from sources.adapters.core.translation import translate
from sources.gateway.arrival import Arrival, Picture, Receipt
from sources.gateway.http_way import HttpWay
from sources.gateway.keys import KeyRing, read_keys
from sources.gateway.mqtt_way import MqttWay
from sources.gateway.reception import Reception
from sources.gateway.topics import TopicMap
from sources.simulate.air import air
from sources.simulate.city import Place, build
from sources.simulate.devices import KEY_NAME, devices_key, devices_on_air
from sources.simulate.vendors import VendorDevice, vendor_devices
from tests.sources.gateway.desk import Log

NOW = 1_787_306_400_000
CITY = build(6, place=Place(12.0, 77.2))
#: By path of HTTP, what knows its payloads.
PATHS = {"/data.php": "sensor-community"}


def understood(device: VendorDevice, at_ms: int):
    """What the gateway's adapter makes of a message that comes at once."""
    message = device.message(CITY, at_ms)
    if device.way == "mqtt":
        match = TopicMap(None).match(message.address)
        assert match is not None, message.address
        name = match.kind
        station = match.station
    else:
        name, station = PATHS.get(message.address) or message.address.removeprefix("/v1/ingest/"), None
    zone = ZoneInfo(device.station.record.timezone)
    context = Context(from_ms(at_ms), station, zone, message.address, {}, "server", lambda _: None)
    return translate(adapters()[name], message.body, context)


@pytest.mark.parametrize("device", vendor_devices(CITY), ids=lambda device: device.id)
def test_its_words_become_the_station_s_air(device: VendorDevice) -> None:
    for hour in range(0, 96, 5):
        at_ms = NOW + hour * 3_600_000 + 17_000
        made = understood(device, at_ms)
        assert not made.refused
        assert {reading.station for reading in made.readings} == {device.id}
        true = air(CITY, device.station, at_ms)
        [reading] = made.readings
        assert abs(reading.observed_at.timestamp() * 1000 - at_ms) < 1000
        found = {value.parameter: value for value in reading.values}
        assert {"pm25", "pm10", "temperature", "relativehumidity"} <= found.keys()
        assert found["pm25"].value == pytest.approx(true["pm25"], rel=0.3, abs=0.6)
        assert found["pm10"].value == pytest.approx(true["pm10"], rel=0.4, abs=0.6)
        # A PurpleAir's case is 8 F too warm, and its adapter leaves it so.
        assert found["temperature"].value == pytest.approx(true["temperature"], abs=5.5)


def test_the_key_is_made_once_and_is_for_these_devices_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    devices = vendor_devices(CITY, ("http",))
    key = devices_key(settings, devices)
    assert devices_key(settings, devices) == key
    scope = KeyRing(settings.keys_path).holder(key)
    assert scope is not None
    assert all(scope.covers(device.id) for device in devices)
    assert not scope.covers("centre")
    assert (tmp_path / "gateway" / "simulated-devices.key").stat().st_mode & 0o077 == 0
    (tmp_path / "gateway" / "simulated-devices.key").unlink()
    assert devices_key(settings, devices) != key
    assert [one.name for one in read_keys(settings.keys_path)] == [KEY_NAME]


class _Due:
    """A witness that waits for stations."""

    def __init__(self, stations: set[str]) -> None:
        self._stations = stations
        self.all_heard = asyncio.Event()

    def taken(self, arrival: Arrival, receipt: Receipt) -> None:
        del arrival
        self._stations -= set(receipt.stations)
        if not self._stations:
            self.all_heard.set()

    def picture_taken(self, picture: Picture, receipt: Receipt) -> None:
        """No pictures here."""

    def link_changed(self, station: str, online: bool, at_ms: int, origin: str) -> None:
        """Births are told elsewhere."""


@pytest.mark.engine
@pytest.mark.skipif(
    not (shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()),
    reason="Mosquitto is not installed",
)
def test_they_come_in_by_real_mqtt_and_http(tmp_path: Path) -> None:
    with LocalMosquitto(tmp_path / "mosquitto", free_port()) as mosquitto:
        asyncio.run(_heard_by_a_gateway(tmp_path, mosquitto.url))


async def _heard_by_a_gateway(tmp_path: Path, url: str) -> None:
    gateway = {"http": HttpSettings(port=free_port()), "mqtt": MqttSettings(url=url)}
    settings = Settings(data_dir=tmp_path, gateway=gateway)
    due = _Due({device.id for device in vendor_devices(CITY)})
    reception = Reception(Log(), settings.gateway, listeners=(due,))
    zones = {device.id: ZoneInfo(device.station.record.timezone) for device in vendor_devices(CITY)}
    keys = KeyRing(settings.keys_path)
    http = HttpWay(settings.gateway.http, reception, reception, keys, zone_of=zones.get)
    mqtt = MqttWay(settings.gateway.mqtt, reception, reception, tmp_path / "gateway", zone_of=zones.get)
    serving = [asyncio.create_task(way.serve()) for way in (http, mqtt)]
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(http.listening.wait(), mqtt.connected.wait())
            with devices_on_air(settings, CITY, ("http", "mqtt")):
                await due.all_heard.wait()
    finally:
        for task in serving:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
