"""A fleet at QoS 1 while gateway, MQTT broker and Kafka are killed: what was acknowledged is in Kafka.

    python -m tests.agents.test_gateway_kills DEVICES SECONDS

runs it with more devices and for longer than the test does, and says what it saw.
"""

import asyncio
import json
import random
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from infra.connect import environment
from infra.stack.broker import EmbeddedBroker
from infra.stack.mosquitto import LocalMosquitto
from infra.stack.ports import free_port
from infra.stack.processes import Child, spawn
from settings.sections import KafkaSettings, Settings
from streams.admin import create_topics
from streams.topics import READINGS
from tests.engines import mosquitto_of
from tests.harness import read_all

PERIOD_S = 10.0
#: 2026-08-21T10:00:00Z
T0 = 1_787_306_400_000


class Device:
    """A device that speaks MQTT 3.1.1, and sends again what was not acknowledged when it is back."""

    def __init__(self, number: int, port: int, messages: int) -> None:
        self.station = f"d{number}"
        self._port = port
        self._messages = messages
        #: Numbers of messages that were not acknowledged, by packet id.
        self._open: dict[int, int] = {}
        self.acknowledged: set[int] = set()

    def _publish(self, packet: int) -> bytes:
        message = self._open[packet]
        topic = f"skyfuse/{self.station}/readings".encode()
        payload = json.dumps(
            {
                "observed_at": T0 + message * 10_000,
                "values": [{"parameter": "pm25", "value": 1.0 + message, "unit": "ug/m3"}],
            }
        ).encode()
        rest = struct.pack("!H", len(topic)) + topic + struct.pack("!H", packet) + payload
        assert len(rest) < 16_384
        return bytes((0x32, len(rest) & 0x7F | 0x80, len(rest) >> 7)) + rest

    async def run(self, began: float, until: float) -> None:
        """Send a message a period, each at its own place in it, until all are acknowledged."""
        phase = random.Random(self.station).random() * PERIOD_S
        due = [began + phase + number * PERIOD_S for number in range(self._messages)]
        sent = 0
        while time.monotonic() < until and len(self.acknowledged) < self._messages:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.5)
                continue
            with suppress(OSError, asyncio.IncompleteReadError):
                name = self.station.encode()
                head = b"\x00\x04MQTT\x04\x02\x00\x3c" + struct.pack("!H", len(name)) + name
                writer.write(bytes((0x10, len(head))) + head)
                await reader.readexactly(4)  # CONNACK
                for packet in list(self._open):
                    writer.write(self._publish(packet))
                reading = asyncio.create_task(self._acknowledgements(reader))
                try:
                    while not reading.done() and len(self.acknowledged) < self._messages:
                        if sent < self._messages and time.monotonic() >= due[sent]:
                            self._open[sent % 65_535 + 1] = sent
                            writer.write(self._publish(sent % 65_535 + 1))
                            sent += 1
                        wait = due[sent] - time.monotonic() if sent < self._messages else 0.2
                        await asyncio.wait([reading], timeout=min(max(wait, 0.01), 1.0))
                        if time.monotonic() > until:
                            break
                finally:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
            writer.close()

    async def _acknowledgements(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, _ = await reader.readexactly(2)
            assert kind == 0x40, kind
            (packet,) = struct.unpack("!H", await reader.readexactly(2))
            self.acknowledged.add(self._open.pop(packet))


class Seen(NamedTuple):
    """What became of a fleet's messages, and the gateway's memory (MiB) over time."""

    sent: int
    acknowledged: int
    lost: list[tuple[str, int]]
    records: int
    distinct: int
    memory: list[float]


async def _run(folder: Path, devices: int, seconds: float, *, kill_mqtt: bool) -> Seen:
    messages = max(1, int(seconds / PERIOD_S))
    with EmbeddedBroker(folder / "kafka") as kafka, LocalMosquitto(folder / "mqtt", free_port()) as mqtt:
        settings = Settings(
            data_dir=folder / "data", kafka=KafkaSettings(bootstrap=kafka.bootstrap, partitions=4)
        )
        create_topics(settings)
        env = environment(settings) | {
            "SKYFUSE_CONFIG": "", "SKYFUSE_GATEWAY__HTTP__PORT": "off",
            "SKYFUSE_GATEWAY__MQTT__URL": mqtt.url, "SKYFUSE_GATEWAY__MQTT__CLIENT_ID": "gw",
            "SKYFUSE_GATEWAY__PATIENCE": "5s",
        }  # fmt: skip

        def gateway() -> Child:
            command = [sys.executable, "-m", "cli.main", "worker", "gateway"]
            return spawn(command, name="gateway", log=folder / "gateway.log", env=env)

        running = gateway()
        await asyncio.to_thread(_until_said, folder / "gateway.log", "takes MQTT")
        began = time.monotonic()
        until = began + seconds + PERIOD_S + 90
        port = int(mqtt.url.rpartition(":")[2])
        fleet = [Device(number, port, messages) for number in range(devices)]
        speaking = asyncio.gather(*(device.run(began, until) for device in fleet))
        memory: list[float] = []

        async def pause(share: float) -> None:
            while time.monotonic() < began + share * seconds:
                if running.poll() is None:
                    with suppress(psutil.Error):
                        whole = psutil.Process(running.pid)
                        everybody = [whole, *whole.children(recursive=True)]
                        memory.append(max(one.memory_info().rss for one in everybody) / 2**20)
                await asyncio.sleep(min(5.0, seconds / 20))

        try:
            await pause(0.25)
            running.kill()
            await asyncio.sleep(3.0)
            running = gateway()
            await pause(0.5)
            await asyncio.to_thread(mqtt.kill if kill_mqtt else mqtt.stop)
            await asyncio.sleep(2.0)
            await asyncio.to_thread(mqtt.start)
            await pause(0.7)
            await asyncio.to_thread(kafka.kill)
            await asyncio.sleep(5.0)
            await asyncio.to_thread(kafka.start)
            await pause(1.0)
            await speaking
            acknowledged = {(device.station, one) for device in fleet for one in device.acknowledged}
            deadline = time.monotonic() + 90
            while True:
                found = [
                    (record.key.decode(), (json.loads(record.value)["observed_at"] - T0) // 10_000)
                    for record in await asyncio.to_thread(read_all, settings, READINGS)
                ]
                lost = sorted(acknowledged - set(found))
                if not lost or time.monotonic() > deadline:
                    break
                await asyncio.sleep(1.0)
        finally:
            running.kill()
    return Seen(devices * messages, len(acknowledged), lost, len(found), len(set(found)), memory)


def _until_said(log: Path, words: str) -> None:
    deadline = time.monotonic() + 60
    while not (log.exists() and words in log.read_text(errors="replace")):
        assert time.monotonic() < deadline, f"{log} never said {words!r}"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.engine
def test_what_was_acknowledged_is_in_kafka_whatever_was_killed(tmp_path: Path) -> None:
    with mosquitto_of(LocalMosquitto(tmp_path / "probe", free_port())):
        pass  # it is installed
    seen = asyncio.run(_run(tmp_path, 50, 40.0, kill_mqtt=False))
    assert seen.acknowledged == seen.sent == 200
    assert seen.lost == []
    # The series is that of an undisturbed run: every message, and no other.
    assert seen.distinct == seen.sent


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(asyncio.run(_run(Path(place), int(sys.argv[1]), float(sys.argv[2]), kill_mqtt=True)))
        print((Path(place) / "gateway.log").read_text()[-3000:])
