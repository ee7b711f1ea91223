"""What every way in keeps: found by itself for each class in `sources` that hands over to a reception.

What is taken is acknowledged only once the broker has confirmed it; while Kafka is away nothing is, and the
same comes again; what cannot be translated is a dead letter with its bytes; what is too large is not taken,
and the next one is.
"""

import asyncio
import ftplib
import hashlib
import importlib
import inspect
import io
import json
import pkgutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp
import pytest
from aiohttp import web
from paho.mqtt.client import Client

import sources
from camera.image import MAX_ORIGINAL_BYTES
from camera.picture_file import kind_of
from infra.stack.mosquitto import LocalMosquitto
from infra.stack.ports import free_port
from settings.sections import FtpSettings, GatewaySettings, HttpSettings, MqttSettings
from sources.adapters.core.translation import MAX_BYTES
from sources.cameras.round import CameraRound
from sources.entries import CameraEntry, FolderEntry, PullEntry
from sources.files.watch import FolderWatch
from sources.gateway.errors import KafkaAway
from sources.gateway.ftp_way import FtpWay
from sources.gateway.http_way import HttpWay
from sources.gateway.keys import KeyRing, StoredKey, changing_keys, digest_of
from sources.gateway.mqtt_way import MqttWay
from sources.gateway.reception import Reception
from sources.gateway.way import Way
from sources.pull.schedule import PullSchedule
from streams.stage import Out
from tests.engines import mosquitto_of
from tests.sources.cameras.servers import picture, served
from tests.sources.gateway.desk import NOW, Log
from tests.sources.gateway.test_mqtt import Device

KEY = "sf_contract"
#: Settings allow no less than a second.
SOON = {"every": timedelta(seconds=0.05), "quiet": timedelta(seconds=0.05)}


class Broker(Log):
    """A list that is a broker: it confirms when it is let, and at once says so where it is away."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = 0
        self.confirms = asyncio.Event()
        self.confirms.set()

    async def publish(self, records: Sequence[Out]) -> None:
        self.tried += 1
        if not self.there:
            raise KafkaAway("Kafka is away", 0)
        await self.confirms.wait()
        await super().publish(records)

    @property
    def taken(self) -> int:
        """Readings and frames."""
        return len(self.readings) + len(self.frames)


class Sender(Protocol):
    """Whoever is at the other end of a way in."""

    async def offer(self, body: bytes) -> None:
        """Send it, or have it ready to be fetched: again, as such senders do, until it is acknowledged."""

    def met(self) -> int:
        """How often the gateway has met what was offered: read or asked for it, or turned it away."""

    def acknowledged(self) -> int:
        """How many of those that were offered it knows to be taken."""


class Payloads(NamedTuple):
    """What a way in is offered: good ones by number, one that means nothing, one that is too large."""

    good: Callable[[int], bytes]
    bad: bytes
    large: bytes


def reading(number: int) -> bytes:
    values = [{"parameter": "pm25", "value": number, "unit": "ug/m3"}]
    return json.dumps({"station": "roof", "observed_at": NOW + number, "values": values}).encode()


READINGS = Payloads(reading, b'{"station": "roof", ', b'{"x": "%s"}' % (b"x" * MAX_BYTES))
PICTURES = Payloads(
    picture, b"\xff\xd8\xff no picture", b"\xff\xd8\xff" + bytes(MAX_ORIGINAL_BYTES)
)  # fmt: skip


async def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(way: Way) -> AsyncIterator[None]:
    """It serves meanwhile, and ends when it is cancelled."""
    task = asyncio.create_task(way.serve())
    try:
        yield
    finally:
        assert not task.done(), f"{way.name} ended by itself: {task!r}"
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 60)


class HttpClient:
    """Posts until it gets an answer that does not ask it to come again."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._tasks: list[asyncio.Task[None]] = []
        self._met = self._taken = 0

    async def offer(self, body: bytes) -> None:
        self._tasks.append(asyncio.create_task(self._post(body)))

    async def _post(self, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        while True:
            try:
                async with self._session.post(self._url, data=io.BytesIO(body), headers=headers) as answer:
                    self._met += 1
                    if answer.status != 503:
                        self._taken += answer.status in (200, 422)
                        return
            except aiohttp.ClientError:  # a body that is too large is not read to its end
                self._met += 1
                return
            await asyncio.sleep(0.02)

    def met(self) -> int:
        return self._met

    def acknowledged(self) -> int:
        return self._taken


@asynccontextmanager
async def http(folder: Path, reception: Reception) -> AsyncIterator[HttpClient]:
    with changing_keys(folder / "keys.toml") as keys:
        keys.append(StoredKey(name="all", stations=("*",), sha256=digest_of(KEY)))
    way = HttpWay(HttpSettings(port=0), reception, reception, KeyRing(folder / "keys.toml"))
    async with serving(way), aiohttp.ClientSession() as session:
        await asyncio.wait_for(way.listening.wait(), 60)
        assert way.address is not None
        yield HttpClient(session, f"http://127.0.0.1:{way.address[1]}/v1/observations")


class Publisher:
    """A device behind an MQTT broker, which keeps what the gateway has not acknowledged."""

    def __init__(self, device: Device, acknowledged: list[int]) -> None:
        self._device = device
        self._acknowledged = acknowledged
        self._sent = 0

    async def offer(self, body: bytes) -> None:
        await asyncio.to_thread(self._device.publish, "skyfuse/roof/readings", body)
        self._sent += 1

    def met(self) -> int:
        return self._sent  # the broker has it, and knows what the gateway wants

    def acknowledged(self) -> int:
        return len(self._acknowledged)


@asynccontextmanager
async def mqtt(folder: Path, reception: Reception) -> AsyncIterator[Publisher]:
    acknowledged: list[int] = []
    ack = Client.ack

    def noted(client: Client, mid: int, qos: int) -> Any:
        acknowledged.append(mid)
        return ack(client, mid, qos)

    with mosquitto_of(LocalMosquitto(folder / "mosquitto", free_port())) as broker:
        way = MqttWay(MqttSettings(url=broker.url, client_id="gw"), reception, reception, folder)
        device = Device(broker.url)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Client, "ack", noted)
                async with serving(way):
                    await asyncio.wait_for(way.connected.wait(), 60)
                    yield Publisher(device, acknowledged)
        finally:
            device.close()


class Writer:
    """Puts files into a folder; one that has left it for `done` or `failed` is settled."""

    def __init__(self, folder: Path, ending: str) -> None:
        self._folder = folder
        self._ending = ending
        self._offered = 0

    async def offer(self, body: bytes) -> None:
        self._offered += 1
        (self._folder / f"{self._offered}.{self._ending}").write_bytes(body)

    def met(self) -> int:
        return self._offered - len(list(self._folder.glob(f"*.{self._ending}")))

    def acknowledged(self) -> int:
        # Pictures are not kept.
        waiting = [path for path in self._folder.rglob("*") if path.suffix == f".{self._ending}"]
        return self._offered - sum(path.parent.name not in ("done", "failed") for path in waiting)


@asynccontextmanager
async def folder_of_readings(folder: Path, reception: Reception) -> AsyncIterator[Writer]:
    entry = FolderEntry(path=folder, adapter="skyfuse-json").model_copy(update=SOON)
    async with serving(FolderWatch([entry], [], reception, look_s=0.02)):
        yield Writer(folder, "json")


@asynccontextmanager
async def folder_of_pictures(folder: Path, reception: Reception) -> AsyncIterator[Writer]:
    entry = CameraEntry(station="roof", folder=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sources.files.watch._PICTURE_QUIET_S", 0.05)
        async with serving(FolderWatch([], [entry], reception, look_s=0.02)):
            yield Writer(folder, "jpg")


class Server:
    """Has the last of what it was offered; who has that already says so with its ETag."""

    def __init__(self) -> None:
        self._body = b""
        self._known: set[str] = set()
        self._met = 0

    async def offer(self, body: bytes) -> None:
        self._body = body

    def met(self) -> int:
        return self._met

    def acknowledged(self) -> int:
        return len(self._known)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not self._body:
            return web.Response(status=404)
        tag = f'"{hashlib.sha256(self._body).hexdigest()}"'
        if (known := request.headers.get("If-None-Match")) is not None:
            self._known.add(known)
        if known == tag:
            return web.Response(status=304)
        answer = web.StreamResponse(headers={"ETag": tag, "Content-Length": str(len(self._body))})
        await answer.prepare(request)
        try:
            await answer.write(self._body)
        finally:
            self._met += 1
        return answer

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/", self.answer)
        async with served(app) as url:
            yield f"{url}/"


@asynccontextmanager
async def pull(folder: Path, reception: Reception) -> AsyncIterator[Server]:
    server = Server()
    async with server.served() as url:
        entry = PullEntry(name="cloud", url=url, adapter="skyfuse-json", local=True).model_copy(update=SOON)
        async with serving(PullSchedule([entry], reception, folder / "pull.sqlite")):
            yield server


@asynccontextmanager
async def cameras(folder: Path, reception: Reception) -> AsyncIterator[Server]:
    del folder
    server = Server()
    async with server.served() as url:
        entry = CameraEntry(station="roof", snapshot=url, local=True).model_copy(update=SOON)
        async with serving(CameraRound([entry], reception)):
            yield server


class Uploader:
    """A camera that uploads a picture until it hears that it is taken, or that it is none."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._tasks: list[asyncio.Task[None]] = []
        self._met = self._taken = 0

    async def offer(self, body: bytes) -> None:
        self._tasks.append(asyncio.create_task(self._send(body)))

    async def _send(self, body: bytes) -> None:
        reply = "451"
        while reply.startswith("451"):  # it connects anew each time, which takes a while
            reply = await asyncio.to_thread(self._upload, body)
        self._taken += reply.startswith("226")
        self._met += 1

    def _upload(self, body: bytes) -> str:
        with ftplib.FTP(timeout=60) as client:
            client.connect(*self._address)
            client.login("roof", KEY)
            try:
                return client.storbinary("STOR snapshot.jpg", io.BytesIO(body))
            except (ftplib.Error, OSError) as error:
                return str(error)

    def met(self) -> int:
        return self._met

    def acknowledged(self) -> int:
        return self._taken


@asynccontextmanager
async def ftp(folder: Path, reception: Reception) -> AsyncIterator[Uploader]:
    with changing_keys(folder / "keys.toml") as keys:
        keys.append(StoredKey(name="all", stations=("*",), sha256=digest_of(KEY)))
    way = FtpWay(FtpSettings(port=0), reception, KeyRing(folder / "keys.toml"))
    async with serving(way):
        await asyncio.wait_for(way.listening.wait(), 60)
        assert way.address is not None
        yield Uploader(way.address)


Driver = Callable[[Path, Reception], AbstractAsyncContextManager[Sender]]
#: How each way in is served and sent to. A new one needs its own here.
DRIVERS: dict[type, list[tuple[Driver, Payloads]]] = {
    HttpWay: [(http, READINGS)],
    MqttWay: [(mqtt, READINGS._replace(large=bytes(MAX_ORIGINAL_BYTES + 1)))],
    FtpWay: [(ftp, PICTURES)],
    FolderWatch: [(folder_of_readings, READINGS), (folder_of_pictures, PICTURES)],
    PullSchedule: [(pull, READINGS)],
    CameraRound: [(cameras, PICTURES)],
}


def ways() -> Iterator[type]:
    """Every class in `sources` that serves and hands over to a reception, without being one itself."""
    for module in pkgutil.walk_packages(sources.__path__, "sources."):
        if module.name == "sources.codecs.child":  # runs in a process of its own
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if (
                inspect.isclass(kind)
                and kind.__module__ == module.name
                and inspect.iscoroutinefunction(getattr(kind, "serve", None))
                and "reception" in inspect.signature(kind).parameters
                and not hasattr(kind, "take")
            ):
                yield kind


def test_every_way_in_is_tried() -> None:
    assert set(ways()) == set(DRIVERS)


CASES = [
    pytest.param(driver, payloads, id=driver.__name__, marks=[pytest.mark.engine] if driver is mqtt else [])
    for drivers in DRIVERS.values()
    for driver, payloads in drivers
]


def over(driver: Driver, folder: Path, work: Callable[[Sender, Broker], Any]) -> None:
    async def run() -> None:
        broker = Broker()
        async with driver(folder, Reception(broker, GatewaySettings())) as sender:
            await work(sender, broker)

    asyncio.run(run())


@pytest.mark.parametrize(("driver", "payloads"), CASES)
def test_confirmed_before_it_is_acknowledged(driver: Driver, payloads: Payloads, tmp_path: Path) -> None:
    async def work(sender: Sender, broker: Broker) -> None:
        broker.confirms.clear()
        await sender.offer(payloads.good(1))
        await until("it is produced", lambda: broker.tried > 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await until("never", lambda: sender.acknowledged() > 0)
        broker.confirms.set()
        await until("it is acknowledged", lambda: sender.acknowledged() == 1)
        assert broker.taken == 1

    over(driver, tmp_path, work)


@pytest.mark.parametrize(("driver", "payloads"), CASES)
def test_nothing_is_acknowledged_while_kafka_is_away_and_it_comes_again(
    driver: Driver, payloads: Payloads, tmp_path: Path
) -> None:
    async def work(sender: Sender, broker: Broker) -> None:
        broker.there = False
        await sender.offer(payloads.good(1))
        await until("it is tried again", lambda: broker.tried > 1)
        assert sender.acknowledged() == 0
        assert broker.records == []
        broker.there = True
        await until("it is acknowledged", lambda: sender.acknowledged() == 1)
        assert broker.taken == 1

    over(driver, tmp_path, work)


@pytest.mark.parametrize(("driver", "payloads"), CASES)
def test_what_means_nothing_is_a_dead_letter_with_its_bytes_where_they_are_no_picture(
    driver: Driver, payloads: Payloads, tmp_path: Path
) -> None:
    async def work(sender: Sender, broker: Broker) -> None:
        await sender.offer(payloads.bad)
        await until("there is a dead letter", lambda: bool(broker.letters))
        # What may be a picture says why alone: it may show somebody.
        assert broker.letters[0][1] == (None if kind_of(payloads.bad) else payloads.bad)
        await sender.offer(payloads.good(1))
        await until("the next one is taken", lambda: broker.taken == 1)

    over(driver, tmp_path, work)


@pytest.mark.parametrize(("driver", "payloads"), CASES)
def test_what_is_too_large_is_not_taken_and_the_next_one_is(
    driver: Driver, payloads: Payloads, tmp_path: Path
) -> None:
    async def work(sender: Sender, broker: Broker) -> None:
        await sender.offer(payloads.large)
        await until("it is met", lambda: sender.met() > 0)
        await sender.offer(payloads.good(1))
        await until("the next one is taken", lambda: broker.taken == 1)
        assert [record for record in broker.records if len(record.value or b"") > 1024 * 1024] == []

    over(driver, tmp_path, work)
