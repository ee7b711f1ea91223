"""HTTPS and MQTT over TLS, with certificates of an authority made for the test, and passwords."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from infra.stack.mosquitto import _CONFIG, LocalMosquitto
from infra.stack.ports import free_port
from settings.sections import HttpSettings, MqttSettings
from sources.gateway import tls
from sources.gateway.errors import CertificateFileError
from sources.gateway.http_way import HttpWay
from sources.gateway.keys import KeyRing, StoredKey, changing_keys, digest_of
from sources.gateway.mqtt_way import MqttWay
from tests.engines import mosquitto_of
from tests.sources.gateway.desk import desk
from tests.sources.gateway.test_http import ALL, READING
from tests.sources.gateway.test_mqtt import Device, Served, reading, until

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority (ca.pem), and a certificate of it for this machine (one.pem, one.key)."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (apt-get install openssl)")
    place = tmp_path_factory.mktemp("certificates")
    (place / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for command in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=made"],
        ["req", *key, "-keyout", "one.key", "-out", "one.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "one.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
         "-out", "one.pem", "-days", "2", "-extfile", "names"],
        ["genpkey", "-algorithm", "RSA", "-aes256", "-pass", "pass:secret", "-out", "locked.key"],
    ):  # fmt: skip
        subprocess.run(["openssl", *command], cwd=place, check=True, capture_output=True)
    return place


def test_readings_come_over_https(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sources.gateway.http_way._SILENT_S", 0.5)
    with changing_keys(tmp_path / "keys.toml") as keys:
        keys[:] = [StoredKey(name="fleet", stations=("*",), sha256=digest_of(ALL))]

    async def run() -> None:
        reception, log = desk()
        settings = HttpSettings(
            port=0, tls_cert=folder / "one.pem", tls_key=folder / "one.key", max_clients=5
        )
        way = HttpWay(settings, reception, reception, KeyRing(tmp_path / "keys.toml"))
        serving = asyncio.create_task(way.serve())
        await asyncio.wait_for(way.listening.wait(), 60)
        assert way.address is not None
        url = f"https://localhost:{way.address[1]}/v1/observations"
        headers = {"Authorization": f"Bearer {ALL}", "Content-Type": "application/json"}
        try:
            # Who never begins to shake hands holds a place, and not for long.
            idle = [await asyncio.open_connection(*way.address) for _ in range(5)]
            full = await asyncio.open_connection(*way.address)
            assert await asyncio.wait_for(full[0].read(), 60) == b""
            await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in idle)), 60)
            async with aiohttp.ClientSession() as session:
                known = ssl.create_default_context(cafile=folder / "ca.pem")
                async with session.post(url, data=READING, headers=headers, ssl=known) as answer:
                    assert answer.status == 200
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.post(url, data=READING, headers=headers)
            for _, writer in (*idle, full):
                writer.close()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        assert len(log.readings) == 1

    asyncio.run(run())


@pytest.fixture
def guarded(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalMosquitto]:
    """A broker that speaks TLS on a second port (its `folder`/tls), and wants a password there."""
    port = free_port()
    place = tmp_path / "mosquitto"
    place.mkdir()
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    subprocess.run([program, "-b", "-c", place / "users", "me", "right"], check=True, capture_output=True)
    (place / "tls").write_text(f"{port}")
    more = (
        f"per_listener_settings true\n{_CONFIG}listener {port} 127.0.0.1\nallow_anonymous false\n"
        f"password_file {place}/users\ncafile {folder}/ca.pem\ncertfile {folder}/one.pem\n"
        f"keyfile {folder}/one.key\nrequire_certificate true\n"
    )
    monkeypatch.setattr("infra.stack.mosquitto._CONFIG", more)
    with mosquitto_of(LocalMosquitto(place, free_port())) as broker:
        yield broker


# The client leaves a socket to the collector whose handshake has failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_is_known_by_its_certificate_and_knows_us(
    guarded: LocalMosquitto, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reception, log = desk()
    device = Device(guarded.url)
    url = f"mqtts://localhost:{(guarded.folder / 'tls').read_text()}"
    ours = {"certfile": folder / "one.pem", "keyfile": folder / "one.key"}

    async def work() -> None:
        unknown = Served(url, tmp_path, reception, username="me", password="right", **ours)
        task = asyncio.create_task(unknown.way.serve())
        await until(
            "a certificate of nobody's is refused", lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text
        )
        assert not unknown.way.connected.is_set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        right = {"username": "me", "password": "right", "cafile": folder / "ca.pem"}
        async with Served(url, tmp_path, reception, **right, **ours):
            device.publish("skyfuse/roof/readings", reading(3))
            await until("it is there", lambda: log.readings)

    asyncio.run(work())
    device.close()
    assert "right" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tls_cert": "one.pem", "tls_key": "ca.key"}, "gateway.http.tls_cert and tls_key"),
        ({"tls_cert": "none.pem", "tls_key": "one.key"}, "No such file"),
        ({"tls_cert": "names", "tls_key": "one.key"}, "names and"),
        ({"tls_cert": "one.pem", "tls_key": "locked.key"}, "locked.key"),
    ],
)
def test_a_wrong_certificate_is_told(folder: Path, settings: dict[str, str], words: str) -> None:
    with pytest.raises(CertificateFileError, match=words):
        tls.of_server(HttpSettings(**{name: folder / file for name, file in settings.items()}))


def test_a_wrong_authority_of_the_broker_is_told_before_anything_begins(folder: Path) -> None:
    reception, _ = desk()
    settings = MqttSettings(url="mqtts://localhost", cafile=folder / "names")
    with pytest.raises(CertificateFileError, match=r"gateway\.mqtt\.cafile"):
        MqttWay(settings, reception, reception, folder)
