"""The way in by MQTT against a real Mosquitto: acknowledged is what Kafka has, and nothing else."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from infra.stack.mosquitto import _CONFIG, LocalMosquitto
from infra.stack.ports import free_port
from settings.sections import MqttSettings
from sources.gateway.mqtt_way import MqttWay
from sources.gateway.reception import Reception
from sources.gateway.spool import PatientReception
from streams.metrics import REGISTRY
from tests.engines import mosquitto_of
from tests.sources.gateway.desk import NOW, Log, desk
from tests.sources.gateway.test_http import picture

pytestmark = pytest.mark.engine

VERSIONS = ("5", "3.1.1")
T = TypeVar("T")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[LocalMosquitto]:
    with mosquitto_of(LocalMosquitto(tmp_path / "mosquitto", free_port())) as broker:
        yield broker


class Device:
    """A client that publishes and knows what was acknowledged."""

    def __init__(self, url: str, **will: Any) -> None:
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        if will:
            self.client.will_set(**will)
        host, _, port = url.removeprefix("mqtt://").partition(":")
        self.client.connect(host, int(port))
        self.client.loop_start()

    def publish(self, topic: str, payload: bytes | str, qos: int = 1, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos, retain).wait_for_publish(60)

    def vanish(self) -> None:
        """As a device that loses its power: its last will is published."""
        self.client.loop_stop()
        sock = self.client.socket()
        assert sock is not None
        sock.close()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def reading(number: int, station: str = "roof") -> str:
    return json.dumps(
        {
            "station": station,
            "observed_at": NOW - 60_000 + number,
            "values": [{"parameter": "pm25", "value": 1.0 + number, "unit": "ug/m3"}],
        }
    )


async def until(what: str, condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def numbers(log: Log) -> list[int]:
    return [json.loads(record.value or b"")["observed_at"] - NOW + 60_000 for record in log.readings]


class Served:
    """A way that is served while it is used."""

    def __init__(
        self, url: str, folder: Path, reception: Reception, patient: Any = None, **more: Any
    ) -> None:
        settings = MqttSettings(**{"url": url, "client_id": "gw"} | more)
        self.way = MqttWay(settings, reception, patient or reception, folder, now=lambda: NOW / 1000)
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> MqttWay:
        self.task = asyncio.create_task(self.way.serve())
        await asyncio.wait_for(self.way.connected.wait(), 60)
        return self.way

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def over(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(work())


@pytest.mark.parametrize("version", VERSIONS)
def test_payloads_become_records_by_topic(
    mosquitto: LocalMosquitto, tmp_path: Path, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    reception, log = desk()
    device = Device(mosquitto.url)

    async def work() -> None:
        async with Served(mosquitto.url, tmp_path, reception, version=version):
            device.publish("skyfuse/roof/readings", reading(1).replace('"station": "roof", ', ""))
            device.publish("airgradient/readings/84fce602549c", '{"serialno":"84fce602549c","pm02":7}')
            device.publish("tele/yard/SENSOR", '{"Time":"2026-08-21T09:59:30Z","SDS0X1":{"PM2.5":7.1}}')
            device.publish("skyfuse/roof/ingest/airgradient", '{"pm02":', qos=1)
            device.publish("nobody/wants/this", "x")
            device.publish("skyfuse/roof/readings", reading(2, station="hill"))
            await until("all are there", lambda: len(log.records) == 5)

    over(work)
    device.close()
    assert "takes MQTT at 127.0.0.1" in caplog.text
    told = {record.key: json.loads(record.value or b"") for record in log.readings}
    assert set(told) == {b"roof", b"airgradient-84fce602549c", b"yard"}
    assert told[b"airgradient-84fce602549c"]["time_source"] == "broker"
    assert told[b"yard"]["time_source"] == "device"
    assert {story.code: value for story, value in log.letters} == {
        "not_json": b'{"pm02":',
        "not_yours": reading(2, station="hill").encode(),  # a topic speaks for its own station
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_what_kafka_has_not_confirmed_comes_again_after_the_gateway_died(
    mosquitto: LocalMosquitto, tmp_path: Path, version: str
) -> None:
    """The gateway goes without a word, as by kill -9, while messages are unconfirmed."""
    reception, log = desk()
    device = Device(mosquitto.url)

    async def dies() -> None:
        served = Served(mosquitto.url, tmp_path, reception, version=version)
        async with served as way:
            device.publish("skyfuse/roof/readings", reading(0))
            await until("the first is there", lambda: numbers(log) == [0])
            log.there = False
            for number in range(1, 31):
                device.publish("skyfuse/roof/readings", reading(number))
            await until("some wait", lambda: len(way._tasks) > 0)

    over(dies)
    assert numbers(log) == [0]

    async def comes_back() -> None:
        log.there = True
        async with Served(mosquitto.url, tmp_path, reception, version=version):
            await until("all are there", lambda: len(set(numbers(log))) == 31)

    over(comes_back)
    device.close()
    assert sorted(set(numbers(log))) == list(range(31))

    async def comes_again() -> int:
        before = len(log.records)
        number = 100 + before
        async with Served(mosquitto.url, tmp_path, reception, version=version):
            last = Device(mosquitto.url)
            last.publish("skyfuse/roof/readings", reading(number))
            await until("the newest is there", lambda: number in numbers(log))
            last.close()
        return len(log.records) - before - 1

    # What was acknowledged does not come again; acknowledgements that were under way as the gateway ended
    # may not have been read.
    assert any(over(comes_again) == 0 for _ in range(5))


def test_while_kafka_is_away_the_gateway_waits_and_goes_on(mosquitto: LocalMosquitto, tmp_path: Path) -> None:
    reception, log = desk()
    device = Device(mosquitto.url)

    async def work() -> None:
        async with Served(mosquitto.url, tmp_path, reception, in_flight=10) as way:
            log.there = False
            for number in range(100):
                device.publish("skyfuse/roof/readings", reading(number))
            await until("it holds as many as it may", lambda: len(way._tasks) == 10)
            log.there = True
            await until("all are there", lambda: len(set(numbers(log))) == 100)

    over(work)
    device.close()
    assert len(log.readings) == 100


def test_a_broker_that_restarts_keeps_what_it_took(mosquitto: LocalMosquitto, tmp_path: Path) -> None:
    reception, log = desk()
    device = Device(mosquitto.url)

    async def work() -> None:
        async with Served(mosquitto.url, tmp_path, reception, in_flight=10) as way:
            log.there = False
            for number in range(50):
                device.publish("skyfuse/roof/readings", reading(number))
            await until("it holds as many as it may", lambda: len(way._tasks) == 10)
            assert REGISTRY.get_sample_value("aq_gateway_takes", {"way": "mqtt"}) == 1
            await asyncio.to_thread(mosquitto.stop)
            await until("it is lost", lambda: not way.connected.is_set())
            assert REGISTRY.get_sample_value("aq_gateway_takes", {"way": "mqtt"}) == 0
            log.there = True
            await asyncio.to_thread(mosquitto.start)
            await until("all are there", lambda: len(set(numbers(log))) == 50, 40)

    over(work)
    device.close()


def test_qos_0_waits_on_disk(mosquitto: LocalMosquitto, tmp_path: Path) -> None:
    reception, log = desk()
    device = Device(mosquitto.url)

    async def work() -> None:
        patient = PatientReception(reception, tmp_path / "spool.sqlite", 1024 * 1024)
        emptying = asyncio.create_task(patient.serve())
        async with Served(mosquitto.url, tmp_path, reception, patient):
            log.there = False
            for number in range(20):
                device.publish("skyfuse/roof/readings", reading(number), qos=0)
            await until("all wait", lambda: patient.waiting == 20)
            log.there = True
            await until("all are there", lambda: len(log.readings) == 20)
        emptying.cancel()
        await asyncio.gather(emptying, return_exceptions=True)
        patient.close()

    over(work)
    device.close()
    assert numbers(log) == list(range(20))


def test_two_gateways_share_the_work(mosquitto: LocalMosquitto, tmp_path: Path) -> None:
    both = [desk() for _ in range(2)]
    device = Device(mosquitto.url)

    async def work() -> None:
        one, other = (Served(mosquitto.url, tmp_path, reception, share="g") for reception, _ in both)
        async with one, other:
            for number in range(200):
                device.publish("skyfuse/roof/readings", reading(number))
            await until("all are there", lambda: sum(len(log.readings) for _, log in both) >= 200)

    over(work)
    device.close()
    shares = [numbers(log) for _, log in both]
    assert sorted(shares[0] + shares[1]) == list(range(200))
    assert min(len(share) for share in shares) > 20


def test_of_two_gateways_that_do_not_share_one_takes_and_the_other_stands_by(
    mosquitto: LocalMosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sources.gateway.mqtt_way._STAND_BY_S", 0.05)
    (one, its), (other, others) = desk(), desk()
    device = Device(mosquitto.url)
    timeless = json.dumps({"values": [{"parameter": "pm25", "value": 1, "unit": "ug/m3"}]})

    async def work() -> None:
        standing_by = Served(mosquitto.url, tmp_path, other)
        async with Served(mosquitto.url, tmp_path, one):
            task = asyncio.create_task(standing_by.way.serve())
            for _ in range(20):
                device.publish("skyfuse/roof/readings", timeless)
            await until("all are there", lambda: len(its.readings) == 20)
            assert not standing_by.way.connected.is_set()
        await asyncio.wait_for(standing_by.way.connected.wait(), 120)
        device.publish("skyfuse/roof/readings", timeless)
        await until("it goes on", lambda: len(others.readings) == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    over(work)
    device.close()
    assert (len(its.readings), len(others.readings)) == (20, 1)  # each is counted once


def test_births_last_wills_and_what_is_kept_of_old(mosquitto: LocalMosquitto, tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []

    class Ear:
        def taken(self, *_: object) -> None: ...

        def picture_taken(self, *_: object) -> None: ...

        def link_changed(self, station: str, online: bool, at_ms: int, _: str) -> None:
            assert at_ms == NOW
            told.append((station, online))

    reception, log = desk(listeners=[Ear()])
    before = Device(mosquitto.url)
    before.publish("tele/yard/LWT", "Online", retain=True)
    before.publish("skyfuse/roof/readings", reading(7), retain=True)
    before.close()

    async def work() -> None:
        async with Served(mosquitto.url, tmp_path, reception, share=""):
            await until("the birth is told", lambda: ("yard", True) in told)
            device = Device(mosquitto.url, topic="skyfuse/roof/status", payload="offline", qos=1)
            device.publish("skyfuse/roof/status", "online")
            await until("the birth is told", lambda: ("roof", True) in told)
            device.vanish()
            await until("the last will is told", lambda: ("roof", False) in told)

    over(work)
    # A broker gives what it keeps to whoever comes, however old: of a reading nobody knows how old.
    assert not log.readings


def test_pictures_by_mqtt(mosquitto: LocalMosquitto, tmp_path: Path) -> None:
    reception, log = desk()
    device = Device(mosquitto.url)

    async def work() -> None:
        async with Served(mosquitto.url, tmp_path, reception):
            device.publish("skyfuse/roof/frames/south", picture())
            await until("it is there", lambda: len(log.frames) == 1)

    over(work)
    device.close()
    assert dict(log.frames[0].headers)["ce_camera"] == b"south"


def test_a_wrong_password_is_said_and_not_shown(
    tmp_path: Path,
    mosquitto: LocalMosquitto,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mosquitto.stop()
    monkeypatch.setattr(
        "infra.stack.mosquitto._CONFIG", _CONFIG.replace("allow_anonymous true", "allow_anonymous false")
    )
    mosquitto.start()
    reception, _ = desk()

    async def work() -> None:
        served = Served(mosquitto.url, tmp_path, reception, username="me", password="wrong-secret")
        task = asyncio.create_task(served.way.serve())
        await until("it is said", lambda: "the broker refuses us" in caplog.text)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    over(work)
    assert "wrong-secret" not in caplog.text
