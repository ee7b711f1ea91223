"""The way in by MQTT: a message of QoS 1 is acknowledged when Kafka has confirmed what became of it.

The client's network runs in a thread of its own and hands over what came in batches. How much is under way is
bounded by the broker, which sends no more than `in_flight` unacknowledged messages, and here in bytes. While
Kafka is away nothing is acknowledged: the broker keeps it. Messages of QoS 0, which nobody sends again, wait
on disk. After a reconnect the broker sends again what was not acknowledged, so nothing of an earlier
connection is acknowledged on a later one: its number may be another message's there.
"""

import asyncio
import fcntl
import logging
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from camera.image import MAX_ORIGINAL_BYTES
from schemas.base import is_id
from settings.sections import MqttSettings
from sources.gateway import tls
from sources.gateway.arrival import Arrival, Picture
from sources.gateway.errors import KafkaAway, NotAllowed, SpoolFull
from sources.gateway.key_scope import KeyScope
from sources.gateway.reception import Reception
from sources.gateway.topics import Match, TopicMap, is_online
from sources.gateway.way import TakesPayloads
from streams import metrics

log = logging.getLogger(__name__)

#: Seconds after which the broker forgets a gateway that does not come back, and what it kept for it.
_SESSION_S: Final = 24 * 3600
_KEEPALIVE_S: Final = 30
#: Seconds between two tries to connect; doubled up to the longest.
_FIRST_PAUSE_S: Final = 1
_LONGEST_PAUSE_S: Final = 30
#: Seconds after which what Kafka did not confirm is tried again.
_AGAIN_S: Final = 1.0
#: Seconds between two looks at whether the gateway that takes MQTT has ended.
_STAND_BY_S: Final = 1.0
#: A message of more bytes is asked for by nobody, and not kept.
_MOST_BYTES: Final = MAX_ORIGINAL_BYTES + 64 * 1024
#: Bytes under way, and what a message costs beside its own. Beyond them QoS 0 is let go and counted.
_MOST_HELD: Final = 64 * 1024 * 1024
_MESSAGE_BYTES: Final = 4000


class _MqttMessage(NamedTuple):
    """What came, on which connection."""

    connection: int
    received_at: int
    mid: int
    qos: int
    retained: bool
    topic: str
    payload: bytes


def address_of(settings: MqttSettings) -> tuple[str, int]:
    """Host and port of the broker that settings name."""
    address = urlsplit(settings.url or "")
    return address.hostname or "localhost", address.port or (8883 if address.scheme == "mqtts" else 1883)


def introduce(client: Client, settings: MqttSettings) -> None:
    """Tell a client that does not run yet by what name, password and certificates it comes.

    Raises CertificateFileError.
    """
    if settings.username is not None:
        password = settings.password
        client.username_pw_set(settings.username, None if password is None else password.get_secret_value())
    context = tls.of_client(settings)
    if context is not None:
        client.tls_set_context(context)


class MqttWay:
    """A client of a broker.

    Args:
        settings: of it.
        reception: for what the broker keeps until it is acknowledged (QoS 1).
        patient: for what nobody sends again (QoS 0).
        folder: where a lock keeps two gateways from being the same client.
        zone_of: of a station's civil time, where its record says so.

    Raises CertificateFileError.
    """

    name = "mqtt"

    def __init__(
        self,
        settings: MqttSettings,
        reception: Reception,
        patient: TakesPayloads,
        folder: Path,
        *,
        now: Callable[[], float] = time.time,
        zone_of: Callable[[str], ZoneInfo | None] = lambda _: None,
    ) -> None:
        assert settings.url is not None
        self._settings = settings
        self._reception = reception
        self._patient = patient
        self._folder = folder
        self._now = now
        self._zone_of = zone_of
        self._topics = TopicMap(settings.topics)
        tls.of_client(settings)  # what is wrong with it is said before anything begins
        self._host, self._port = address_of(settings)
        self._scope = KeyScope(("*",), f"the MQTT broker {self._host}")
        self._came: deque[_MqttMessage] = deque()
        self._room = threading.Condition()
        self._held = 0
        self._ending = False
        self._waking = False
        self._connection = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The problem that was logged last, None where there is none; "": nothing was yet.
        self._problem: str | None = ""
        #: Set while subscribed.
        self.connected = asyncio.Event()

    async def serve(self) -> None:
        """Take in what comes, until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._ending = False
        lock, number = await self._slot()
        base = self._settings.client_id or f"skyfuse-{socket.gethostname()[:40]}"
        client = self._client(f"{base}-{number}" if number else base)
        try:
            # In this order: a thread that finds no address would end.
            self._connect(client)
            client.loop_start()
            await asyncio.Event().wait()
        finally:
            self._ending = True
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            client.disconnect()
            # The thread ends by itself; one that just waits for a broker's address is not waited for.
            await asyncio.wait_for(asyncio.shield(asyncio.to_thread(client.loop_stop)), 3.0)
            lock.close()

    async def _slot(self) -> tuple[TextIO, int]:
        """The first number that no other gateway of this data folder has, held until the file is closed.

        Those that share the work have a number each. Of others only one may take: what each of them took
        would be counted twice where it has no time of its own. The rest wait until their turn comes, and then
        go on with its session, so that nothing is lost.
        """
        number = 0
        while True:
            lock = _locked(self._folder / f"mqtt-{number}.lock")
            if lock is not None:
                return lock, number
            if self._settings.share:
                number += 1
                continue
            self._log_change("another gateway of this data folder takes it, and this one when that one ends")
            await asyncio.sleep(_STAND_BY_S)

    # -- in the client's thread ----------------------------------------------------------------------------

    def _client(self, client_id: str) -> Client:
        newest = self._settings.version == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            # Of MQTT 5 `connect` says so.
            clean_session=None if newest else False,
            protocol=MQTTProtocolVersion.MQTTv5 if newest else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        client.reconnect_delay_set(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        introduce(client, self._settings)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_message = self._on_message
        return client

    def _connect(self, client: Client) -> None:
        if self._settings.version == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_S
            properties.ReceiveMaximum = self._settings.in_flight
            properties.MaximumPacketSize = _MOST_BYTES
            client.connect_async(
                self._host, self._port, _KEEPALIVE_S, clean_start=False, properties=properties
            )
        else:
            client.connect_async(self._host, self._port, _KEEPALIVE_S)

    def _on_connect(
        self, client: Client, _: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del flags, properties
        if reason.is_failure:
            self._log_change(f"the broker refuses us: {reason}")
            return
        with self._room:
            self._connection += 1
        client.subscribe([(topic, 1) for topic in self._topics.subscriptions(self._settings.share)])

    def _on_subscribe(
        self, client: Client, _: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        del client, mid, properties
        refused = [f"{one}" for one in reasons if one.is_failure]
        self._log_change(
            f"the broker refuses what we subscribe to: {', '.join(refused)}" if refused else None
        )
        if len(refused) < len(reasons):
            metrics.TAKES.labels(self.name).set(1)
            self._in_loop(self.connected.set)

    def _on_disconnect(
        self,
        client: Client,
        _: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        del client, flags, properties
        metrics.TAKES.labels(self.name).set(0)
        self._in_loop(self.connected.clear)
        if reason.is_failure:
            self._log_change(f"the connection was lost: {reason}")

    def _on_connect_fail(self, client: Client, _: Any) -> None:
        del client
        why = sys.exception()  # the client calls us where it handles it, and does not hand it over
        if isinstance(why, ssl.SSLError):
            self._log_change(f"TLS fails: {why}")
        else:
            self._log_change("no broker answers" if why is None else f"no broker answers: {why}")

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        size = len(message.payload) + _MESSAGE_BYTES
        with self._room:
            if message.qos == 0 and self._held + size > _MOST_HELD:
                metrics.TURNED_AWAY.labels(self.name, "too_many").inc()
                return
            # The thread stands still, and so does the broker. Should it take us for dead, it sends again.
            while self._held and self._held + size > _MOST_HELD and not self._ending:
                self._room.wait(1.0)
            self._held += size
            self._came.append(
                _MqttMessage(
                    self._connection, int(self._now() * 1000), message.mid, message.qos, message.retain,
                    message.topic, bytes(message.payload),
                )
            )  # fmt: skip
            if self._waking:
                return
            self._waking = True
        self._in_loop(self._begin, client)

    def _in_loop(self, work: Callable[..., Any], *arguments: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(work, *arguments)
        except RuntimeError:  # the loop has ended, and the gateway with it
            log.debug("a message came while the gateway ended: the broker sends it again")

    def _log_change(self, problem: str | None) -> None:
        """One line when something changes, not one for every try."""
        if problem == self._problem:
            return
        self._problem = problem
        where = f"MQTT at {self._host}:{self._port}"
        if problem is None:
            log.info("takes %s", where)
        else:
            log.warning("%s: %s; it is tried again", where, problem)

    # -- in the event loop ---------------------------------------------------------------------------------

    def _begin(self, client: Client) -> None:
        with self._room:
            came, self._came = self._came, deque()
            self._waking = False
        for message in came:
            task = asyncio.create_task(self._take(client, message))
            self._tasks.add(task)
            task.add_done_callback(partial(self._done, len(message.payload) + _MESSAGE_BYTES))

    def _done(self, size: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with self._room:
            self._held -= size
            self._room.notify()

    async def _take(self, client: Client, message: _MqttMessage) -> None:
        while True:
            try:
                await self._use(message)
                break
            except KafkaAway:
                metrics.TURNED_AWAY.labels(self.name, "kafka_away").inc()
                # Not acknowledged, the broker keeps it; it would not send it again on this connection.
                if message.qos == 0 or message.connection != self._connection:
                    return
                await asyncio.sleep(_AGAIN_S)
            except SpoolFull:
                metrics.TURNED_AWAY.labels(self.name, "spool_full").inc()
                return
            except NotAllowed:
                metrics.TURNED_AWAY.labels(self.name, "not_allowed").inc()
                break
            except Exception:
                log.exception("a message on %s raised what nobody expected; it is let go", message.topic)
                metrics.TURNED_AWAY.labels(self.name, "unexpected").inc()
                break
        if message.qos and message.connection == self._connection:
            client.ack(message.mid, message.qos)

    async def _use(self, message: _MqttMessage) -> None:
        match = self._topics.match(message.topic)
        if match is None or len(message.payload) > MAX_ORIGINAL_BYTES:
            metrics.TURNED_AWAY.labels(self.name, "unknown_topic" if match is None else "too_large").inc()
            return
        station = match.station
        if station is not None and not is_id(station):
            metrics.TURNED_AWAY.labels(self.name, "bad_station").inc()
            return
        if match.kind == "status":
            online = is_online(message.payload)
            if online is not None and station is not None:
                self._reception.link_changed(station, online, message.received_at, self._scope.holder)
            return
        if message.retained:  # of any age: it was measured when somebody else was listening
            metrics.TURNED_AWAY.labels(self.name, "retained").inc()
            return
        if match.kind == "frame":
            await self._reception.take_picture(self._picture(message, match))
            return
        takes = self._reception if message.qos else self._patient
        scope = self._scope if station is None else _scope_of(station, self._scope.holder)
        await takes.take(
            Arrival(
                match.kind, message.payload, message.received_at, self.name, message.topic,
                self._scope.holder, station, scope, {}, "broker",
                None if station is None else self._zone_of(station),
            )
        )  # fmt: skip

    def _picture(self, message: _MqttMessage, match: Match) -> Picture:
        assert match.station is not None
        return Picture(
            match.station, message.received_at, message.payload, message.received_at, self.name,
            match.camera, self._scope.holder, self._scope,
        )  # fmt: skip


@lru_cache(20_000)
def _scope_of(station: str, holder: str) -> KeyScope:
    """What a topic may speak for that names a station: this one, whatever its messages say."""
    return KeyScope((station,), f"{holder}, by a topic of {station},", vouched=False)


def _locked(file: Path) -> TextIO | None:
    """The file, held until it is closed; None: another gateway has it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
