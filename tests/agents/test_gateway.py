"""The gateway's worker as a process: takes what is sent, says when Kafka is away, ends when it is told to."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.stack.broker import EmbeddedBroker
from infra.stack.ports import free_port
from settings.sections import KafkaSettings, Settings
from sources.gateway.keys import StoredKey, changing_keys, digest_of
from streams.admin import create_topics
from streams.topics import READINGS
from tests.busy import stretched
from tests.harness import read_all, until

pytestmark = pytest.mark.broker

READING = {"station": "roof", "values": [{"parameter": "pm25", "value": 12.5, "unit": "ug/m3"}]}


@contextmanager
def gateway(settings: Settings, port: int, web: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {
        "SKYFUSE_KAFKA__BOOTSTRAP": settings.kafka.bootstrap or "", "SKYFUSE_CONFIG": "",
        "SKYFUSE_KAFKA__PREFIX": settings.kafka.prefix, "SKYFUSE_DATA_DIR": str(settings.data_dir),
        "SKYFUSE_GATEWAY__HTTP__PORT": str(port), "SKYFUSE_GATEWAY__PATIENCE": "2s",
        "SKYFUSE_KAFKA__PARTITIONS": str(settings.kafka.partitions),
    }  # fmt: skip
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "worker", "gateway", "--web-port", str(web)],
            env=environment, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def send(port: int, minute: int) -> int:
    body = json.dumps(READING | {"observed_at": f"2026-08-21T10:{minute:02}:00Z"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/observations", body,
        {"Authorization": "Bearer k", "Content-Type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


def ready(web: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/readyz", timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


def test_everything_acknowledged_is_there_after_kafka_was_away(
    restartable_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    kafka = KafkaSettings(bootstrap=restartable_broker.bootstrap, partitions=2)
    settings = Settings(data_dir=tmp_path / "data", kafka=kafka)
    create_topics(settings)
    with changing_keys(settings.keys_path) as keys:
        keys.append(StoredKey(name="k", stations=("roof",), sha256=digest_of("k")))
    port, web = free_port(), free_port()
    with gateway(settings, port, web, tmp_path / "log") as process:
        until("it is ready", lambda: ready(web) == 200)
        taken = [minute for minute in range(5) if send(port, minute) == 200]
        assert taken == list(range(5))
        restartable_broker.kill()
        assert send(port, 5) == 503
        assert ready(web) == 503
        restartable_broker.start()
        until("it is taken", lambda: send(port, 6) == 200)
        until("it is ready", lambda: ready(web) == 200)
        taken.append(6)
        restartable_broker.kill()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        took = time.monotonic() - began
        assert took < stretched(10.5)
        restartable_broker.start()
    found = {json.loads(record.value)["observed_at"] for record in read_all(settings, READINGS)}
    assert {1_787_306_400_000 + minute * 60_000 for minute in taken} <= found
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_wrong_file_of_keys_ends_it_with_a_sentence(broker: EmbeddedBroker, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", kafka=KafkaSettings(bootstrap=broker.bootstrap))
    settings.keys_path.parent.mkdir(parents=True)
    settings.keys_path.write_text("[[key]]\nname = 3\n")
    with gateway(settings, free_port(), free_port(), tmp_path / "log") as process:
        assert process.wait(120) == 1
    assert (tmp_path / "log").read_text().startswith("skyfuse: ")
    assert "key 1: name" in (tmp_path / "log").read_text()
