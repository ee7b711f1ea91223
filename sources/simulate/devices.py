"""The makers' devices of the simulated city on the air: over real MQTT and HTTP, to a gateway."""

import base64
import heapq
import logging
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from settings.sections import Settings
from sources.gateway.keys import StoredKey, changing_keys, digest_of, new_key
from sources.gateway.mqtt_way import address_of, introduce
from sources.simulate.city import City
from sources.simulate.vendors import DeviceWay, VendorDevice, VendorMessage, vendor_devices

log = logging.getLogger(__name__)

#: Of the key that those have who speak HTTP.
KEY_NAME: Final = "simulated devices"
_ANSWERED_S: Final = 15.0
#: The first messages come within so many seconds, one after the other; later ones at each device's pace.
_BEGINS_S: Final = 3.0
#: Seconds until what was not taken is sent again.
_AGAIN_S: Final = 5.0


def devices_key(settings: Settings, devices: Sequence[VendorDevice]) -> str:
    """The key for the devices that speak HTTP, made where there is none. Raises KeyFileError.

    The secret lies beside the digests, for this user alone to read.
    """
    file = settings.data_dir / "gateway" / "simulated-devices.key"
    stations = tuple(sorted(device.id for device in devices))
    with changing_keys(settings.keys_path) as known:
        before = next((key for key in known if key.name == KEY_NAME), None)
        secret = _read(file)
        if secret is None or before is None or before.sha256 != digest_of(secret):
            secret = new_key()
            file.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
                handle.write(secret)
        known[:] = [key for key in known if key.name != KEY_NAME]
        known.append(StoredKey(name=KEY_NAME, stations=stations, sha256=digest_of(secret)))
    return secret


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except OSError:
        return None


@contextmanager
def devices_on_air(settings: Settings, city: City, ways: tuple[DeviceWay, ...]) -> Iterator[None]:
    """Let the devices speak, in a thread of their own, until the end of the block.

    They begin now: a device has no past. While the gateway does not take it, they try with what is newest.
    Raises KeyFileError.
    """
    stop = threading.Event()
    devices = vendor_devices(city, ways)
    over_http = [device for device in devices if device.way == "http"]
    caller = _Caller(settings, devices_key(settings, over_http)) if over_http else None
    thread = threading.Thread(
        target=_speak, args=(settings, city, devices, caller, stop), name="devices", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_ANSWERED_S)


def _speak(
    settings: Settings,
    city: City,
    devices: Sequence[VendorDevice],
    caller: "_Caller | None",
    stop: threading.Event,
) -> None:
    with ExitStack() as closing:
        clients = {
            device.id: closing.enter_context(_connected(settings, device))
            for device in devices
            if device.way == "mqtt"
        }
        began = time.monotonic()
        due = [(began + _BEGINS_S * device.station.reading_phase, n) for n, device in enumerate(devices)]
        heapq.heapify(due)
        while due and not stop.wait(max(0.0, due[0][0] - time.monotonic())):
            at, number = due[0]
            device = devices[number]
            message = device.message(city, int(time.time() * 1000))
            then = at + device.every_s
            if device.way == "mqtt":
                # QoS 1: what the broker has not acknowledged waits in the client, as in a good firmware.
                clients[device.id].publish(message.address, message.body, qos=1)
            elif caller is not None and not caller.taken(device, message):
                then = time.monotonic() + _AGAIN_S
            # Not in step with the past: a machine that slept does not make up for it.
            heapq.heapreplace(due, (max(then, time.monotonic()), number))


@contextmanager
def _connected(settings: Settings, device: VendorDevice) -> Iterator[Client]:
    client = Client(CallbackAPIVersion.VERSION2, client_id=f"simulated-{device.id}")
    introduce(client, settings.gateway.mqtt)
    client.max_queued_messages_set(1000)
    if device.will is not None:
        topic, last, born = device.will
        client.will_set(topic, last, qos=1, retain=True)

        def greet(connected: Client, *_: object) -> None:
            connected.publish(topic, born, qos=1, retain=True)

        client.on_connect = greet
    client.connect_async(*address_of(settings.gateway.mqtt))
    client.loop_start()
    try:
        yield client
    finally:
        if device.will is not None:
            client.publish(device.will[0], device.will[1], qos=1, retain=True).wait_for_publish(1.0)
        client.disconnect()
        client.loop_stop()


class _Caller:
    """Speaks HTTP to the gateway of this machine. A fault is said once, until it answers again."""

    def __init__(self, settings: Settings, key: str) -> None:
        http = settings.gateway.http
        host = "127.0.0.1" if http.host in ("0.0.0.0", "::", "") else http.host
        self._base = f"{'http' if http.tls_cert is None else 'https'}://{host}:{http.port}"
        self._tls = None
        if http.tls_cert is not None:
            # The gateway's own certificate, by whichever name it is known elsewhere.
            self._tls = ssl.create_default_context(cafile=http.tls_cert)
            self._tls.check_hostname = False
        self._bearer = f"Bearer {key}"
        self._basic = "Basic " + base64.b64encode(f"airrohr:{key}".encode()).decode()
        self._said = ""

    def taken(self, device: VendorDevice, message: VendorMessage) -> bool:
        """Send one message; whether the gateway has it."""
        shown = self._basic if device.basic else self._bearer
        request = urllib.request.Request(
            self._base + message.address, message.body, {**message.headers, "Authorization": shown}
        )
        said = ""
        try:
            with urllib.request.urlopen(request, timeout=_ANSWERED_S, context=self._tls):
                pass
        except urllib.error.HTTPError as error:
            said = (
                f"{device.id}: the gateway answers {error.code}: {error.read(500).decode(errors='replace')}"
            )
        except OSError as error:
            said = f"the gateway at {self._base} does not answer: {error}"
        if said and said != self._said:
            log.warning("%s", said)
        self._said = said
        return not said
