"""Messages a second through the gateway, by HTTP and by MQTT, beside bare loops to the same Kafka.

The bare loop by HTTP is an aiohttp handler that sends the body to Kafka, waits for the confirmation and
answers; by MQTT it is a paho client that acknowledges after it. Neither looks at what it carries. The gateway
finds the sender's key, bounds body and rate, translates and checks every value, and tells what it cannot use.
By HTTP sixty-four clients send as fast as they are answered; by MQTT a backlog that the broker (Mosquitto)
has kept is taken in. Rounds alternate; each side's best counts.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks._kafka import fresh_broker, verdict
from infra.connect import environment
from infra.errors import MosquittoError
from infra.stack.mosquitto import LocalMosquitto
from infra.stack.ports import free_port
from settings.sections import Settings
from sources.gateway.keys import StoredKey, changing_keys, digest_of
from streams.topics import READINGS

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--messages", "300", "--rounds", "1")

CLIENTS = 64
_TOPIC: Final = "skyfuse/roof/readings"
_IN_FLIGHT: Final = 2000
_PATIENCE_S: Final = 120.0


def body(number: int) -> bytes:
    """What a station with six sensors sends, of a time of its own."""
    values = [
        {"parameter": name, "value": 10.5 + number % 7, "unit": unit}
        for name, unit in (
            ("pm25", "ug/m3"), ("pm10", "ug/m3"), ("no2", "ppb"), ("o3", "ppb"), ("temperature", "Cel"),
            ("relativehumidity", "%"),
        )
    ]  # fmt: skip
    reading = {"station": "roof", "observed_at": int(time.time() * 1000) - 60_000 + number, "values": values}
    return json.dumps(reading).encode()


# -- the bare loops, as processes of their own --------------------------------------------------------------


async def bare_http(bootstrap: str, port: int) -> None:
    """The body to Kafka, and the answer."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5,
        max_batch_size=256 * 1024,
    )  # fmt: skip
    await producer.start()

    async def handle(request: web.Request) -> web.Response:
        await producer.send_and_wait(READINGS.name, await request.read(), key=b"roof")
        return web.Response(text="{}")

    app = web.Application()
    app.router.add_post("/v1/observations", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def bare_mqtt(bootstrap: str, port: int) -> None:
    """The payload to Kafka, and the acknowledgement."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5,
        max_batch_size=256 * 1024,
    )  # fmt: skip
    await producer.start()
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def take(client: Client, message: MQTTMessage) -> None:
        await producer.send_and_wait(READINGS.name, bytes(message.payload), key=b"roof")
        client.ack(message.mid, message.qos)

    def begin(client: Client, message: MQTTMessage) -> None:
        task = loop.create_task(take(client, message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    client = mqtt_client("bare")

    def arrived(client: Client, _: Any, message: MQTTMessage) -> None:
        loop.call_soon_threadsafe(begin, client, message)

    client.on_message = arrived
    connect(client, port)
    client.loop_start()
    await asyncio.Event().wait()


def mqtt_client(name: str) -> Client:
    """A client of MQTT 5 that acknowledges when it is told to."""
    return Client(
        CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
    )


def connect(client: Client, port: int) -> None:
    """With a session that the broker keeps."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 3600
    properties.ReceiveMaximum = _IN_FLIGHT
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)


# -- the measurement ----------------------------------------------------------------------------------------


@contextmanager
def process(log: Path, env: dict[str, str], *command: str) -> Iterator[None]:
    """A program until the block ends."""
    with log.open("ab") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=output, env=os.environ | env
        )
    try:
        yield
    finally:
        running.kill()
        running.wait()


class Log:
    """How much there is on the topic."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = [TopicPartition(READINGS.name, one) for one in range(settings.kafka.partitions)]

    async def pace(self, wanted: int, begin: Callable[[], Any]) -> float:
        """Records a second after `begin`, from the last look without any until there are so many more."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._settings.kafka.bootstrap)
        await consumer.start()
        try:
            consumer.assign(self._places)
            before = sum((await consumer.end_offsets(self._places)).values())
            asked = began = time.perf_counter()
            begin()
            while True:
                look = time.perf_counter()
                more = sum((await consumer.end_offsets(self._places)).values()) - before
                if more >= wanted:
                    return wanted / (time.perf_counter() - began)
                if more == 0:
                    began = look
                if look - asked > _PATIENCE_S:
                    raise SystemExit(f"not all of {wanted} messages arrived within {_PATIENCE_S:g} s")
                await asyncio.sleep(0.01)
        finally:
            await consumer.stop()


async def http_load(port: int, messages: int) -> float:
    """Messages a second that are answered with 200."""
    bodies = iter([body(number) for number in range(messages)])

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for one in bodies:
            writer.write(
                b"POST /v1/observations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Authorization: Bearer k\r\nContent-Length: %d\r\n\r\n" % len(one) + one
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"not taken: {head!r}")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return messages / (time.perf_counter() - began)


async def until_open(port: int) -> None:
    """Wait until a server listens."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return


def keep_backlog(port: int, name: str, topic: str, messages: int) -> None:
    """Have the broker keep messages for a client that is not there."""
    absent = mqtt_client(name)
    connect(absent, port)
    absent.loop_start()
    absent.subscribe(topic, 1)
    time.sleep(0.5)
    absent.disconnect()
    absent.loop_stop()
    sender = Client(CallbackAPIVersion.VERSION2, client_id="sender", protocol=MQTTProtocolVersion.MQTTv5)
    sender.max_inflight_messages_set(1000)
    sender.max_queued_messages_set(0)
    sender.connect("127.0.0.1", port)
    sender.loop_start()
    for sent in [sender.publish(_TOPIC, body(number), 1) for number in range(messages)]:
        sent.wait_for_publish(_PATIENCE_S)
    sender.disconnect()
    sender.loop_stop()


def forget(port: int, name: str) -> None:
    """Let the broker keep nothing more for a client."""
    gone = mqtt_client(name)
    gone.connect("127.0.0.1", port, clean_start=True)
    gone.loop_start()
    gone.disconnect()
    gone.loop_stop()


def gateway_environment(settings: Settings, http: str, mqtt: str = "") -> dict[str, str]:
    """Of a gateway with a key `k`, whom nobody slows down."""
    return environment(settings) | {
        "SKYFUSE_CONFIG": "", "SKYFUSE_GATEWAY__HTTP__PORT": http, "SKYFUSE_GATEWAY__MQTT__URL": mqtt,
        "SKYFUSE_GATEWAY__HTTP__RATE_PER_KEY": "1e6", "SKYFUSE_GATEWAY__HTTP__RATE_PER_ADDRESS": "1e6",
        "SKYFUSE_GATEWAY__MQTT__CLIENT_ID": "gw", "SKYFUSE_GATEWAY__MQTT__IN_FLIGHT": str(_IN_FLIGHT),
        "SKYFUSE_KAFKA__PARTITIONS": str(settings.kafka.partitions),
    }  # fmt: skip


def by_http(settings: Settings, messages: int, rounds: int, folder: Path) -> tuple[float, float]:
    """(gateway, bare): messages a second."""
    bootstrap = settings.kafka.bootstrap or ""
    gate, bare = free_port(), free_port()
    best = {gate: 0.0, bare: 0.0}
    with ExitStack() as stack:
        env = gateway_environment(settings, str(gate))
        stack.enter_context(process(folder / "gateway.log", env, "cli.main", "worker", "gateway"))
        stack.enter_context(
            process(folder / "bare.log", {}, "benchmarks.gateway", "--bare", "http", bootstrap, str(bare))
        )
        for port in best:
            asyncio.run(until_open(port))
        time.sleep(2.0)  # until the producers have connected
        for port in best:
            asyncio.run(http_load(port, min(500, messages)))
        for _ in range(rounds):
            for port in best:
                best[port] = max(best[port], asyncio.run(http_load(port, messages)))
    return best[gate], best[bare]


def by_mqtt(settings: Settings, messages: int, rounds: int, folder: Path) -> tuple[float, float]:
    """(gateway, bare): messages a second of a backlog."""
    bootstrap = settings.kafka.bootstrap or ""
    best = {"gw": 0.0, "bare": 0.0}
    with LocalMosquitto(folder / "mosquitto", free_port()) as broker:
        port = int(broker.url.rpartition(":")[2])
        for _ in range(rounds):
            for name, topic in (("gw", "skyfuse/+/readings"), ("bare", _TOPIC)):
                forget(port, "gw")
                forget(port, "bare")
                keep_backlog(port, name, topic, messages)
                command = ["benchmarks.gateway", "--bare", "mqtt", bootstrap, str(port)]
                env: dict[str, str] = {}
                if name == "gw":
                    command = ["cli.main", "worker", "gateway"]
                    env = gateway_environment(settings, "off", broker.url)
                with ExitStack() as stack:

                    def begin(
                        stack: ExitStack = stack, env: dict[str, str] = env, command: list[str] = command
                    ) -> None:
                        stack.enter_context(process(folder / "mqtt.log", env, *command))

                    log = Log(settings)
                    # A process needs a while to start: the clock begins with its first message.
                    pace = asyncio.run(log.pace(int(messages * 0.8), begin))
                best[name] = max(best[name], pace)
    return best["gw"], best["bare"]


def main(arguments: Sequence[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="skyfuse bench gateway", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.bare is not None:
        kind, bootstrap, port = chosen.bare
        asyncio.run((bare_http if kind == "http" else bare_mqtt)(bootstrap, int(port)))
        return 0
    with fresh_broker() as settings, tempfile.TemporaryDirectory() as folder:
        with changing_keys(settings.keys_path) as keys:
            keys.append(StoredKey(name="k", stations=("*",), sha256=digest_of("k")))
        gate, bare = by_http(settings, chosen.messages, chosen.rounds, Path(folder))
        print(f"HTTP: {gate:.0f} messages/s, the bare loop {bare:.0f}: {gate / bare:.2f} of it")
        more: dict[str, Any] = {"http": gate / bare}
        try:
            mqtt, bare_loop = by_mqtt(settings, chosen.messages, chosen.rounds, Path(folder))
        except MosquittoError as error:
            print(f"MQTT: not measured: {error}")
        else:
            print(f"MQTT: {mqtt:.0f} messages/s, the bare loop {bare_loop:.0f}: {mqtt / bare_loop:.2f} of it")
            more |= {"mqtt": mqtt / bare_loop, "mqtt_messages_s": mqtt, "mqtt_baseline": bare_loop}
    verdict("gateway", gate, "messages/s", bare, min(more["http"], more.get("mqtt", more["http"])), **more)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
