"""The worker of the page beside a real broker: news in the stream, kills of either, and nothing is lost."""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from infra.connect import environment
from infra.stack.broker import EmbeddedBroker
from infra.stack.processes import Child, spawn
from settings.sections import KafkaSettings, Settings, WebSettings
from streams.admin import create_topics
from streams.topics import ESTIMATES
from tests.engines import free_port, until
from tests.harness import Sent, send
from tests.samples import T0, estimate, index, measured

pytestmark = [pytest.mark.broker, pytest.mark.slow]


class WebWorker:
    """`skyfuse worker web` as a process."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self._log = log
        self._child: Child | None = None
        self.start()

    def start(self) -> None:
        kafka = self.settings.kafka
        env = {
            **os.environ, **environment(self.settings), "SKYFUSE_CONFIG": "",
            "SKYFUSE_KAFKA__PARTITIONS": str(kafka.partitions), "SKYFUSE_WEB__RATE_PER_ADDRESS": "1000",
        }  # fmt: skip
        command = [sys.executable, "-m", "cli.main", "worker", "web"]
        self._child = spawn(command, name="web", log=self._log, env=env)
        until(lambda: self.health() is not None, "the page to answer", 60)

    def kill(self) -> None:
        assert self._child is not None
        self._child.kill()

    def stop(self) -> None:
        assert self._child is not None
        assert self._child.stop(10.0) == 0, self._log.read_text()[-2000:]

    def health(self) -> Any:
        try:
            answer = urllib3.request(
                "GET", f"http://127.0.0.1:{self.settings.web.port}/api/v1/health", retries=False, timeout=2
            )
        except urllib3.exceptions.HTTPError:
            return None
        return answer.json()


class Listener:
    """One who listens as the page does: it comes back after the last event that it had."""

    def __init__(self, port: int) -> None:
        self.events: list[tuple[str, Any]] = []
        self._port = port
        self._id = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):
                self._listen()
            self._ended.wait(0.1)

    def _listen(self) -> None:
        with contextlib.closing(socket.create_connection(("127.0.0.1", self._port), 20)) as line:
            again = f"Last-Event-ID: {self._id}\r\n" if self._id else ""
            line.sendall(f"GET /api/v1/stream HTTP/1.0\r\nHost: localhost\r\n{again}\r\n".encode())
            text = b""
            while not self._ended.is_set():
                some = line.recv(65536)
                if not some:
                    return
                text += some
                *whole, text = text.split(b"\n\n")
                for block in whole:
                    fields = dict(
                        part.split(": ", 1) for part in block.decode().rpartition("\r\n\r\n")[2].split("\n")
                    )
                    self._id = fields.get("id", self._id)
                    self.events.append((fields["event"], json.loads(fields["data"])))

    def ends(self) -> list[str]:
        return [data["at"] for name, data in list(self.events) if name == "estimate"]

    def close(self) -> None:
        self._ended.set()


def sent(number: int) -> Sent:
    one = estimate("s1", T0 + 60 * number, 1, {"pm25": measured(5.0)}, (index(40),))
    return Sent(ESTIMATES, b"s1", one.model_dump_json().encode())


@pytest.fixture
def worker(restartable_broker: EmbeddedBroker, tmp_path: Path) -> Iterator[WebWorker]:
    settings = Settings(
        data_dir=tmp_path / "data",
        kafka=KafkaSettings(bootstrap=restartable_broker.bootstrap, partitions=2),
        web=WebSettings(port=free_port(), pictures=False),
    )
    create_topics(settings)
    made = WebWorker(settings, tmp_path / "web.log")
    yield made
    made.stop()


def test_kills_of_the_server_and_of_the_broker_cost_a_listener_no_event(worker, restartable_broker):
    settings = worker.settings
    send(settings, [sent(0)])
    until(lambda: worker.health()["stations"] == 1, "the first estimate", 30)
    listener = Listener(settings.web.port)
    until(lambda: listener.events, "the greeting")
    began = time.monotonic()
    send(settings, [sent(1)])
    until(lambda: len(listener.ends()) == 1, "an estimate in the stream")
    assert time.monotonic() - began < 2.0

    worker.kill()
    send(settings, [sent(2), sent(3)])  # while nobody serves
    worker.start()
    until(lambda: len(listener.ends()) >= 3, "what came meanwhile", 60)

    restartable_broker.kill()
    until(lambda: worker.health()["kafka"] == "away", "the page to say that the broker is away", 30)
    assert worker.health()["kafka_since"] is not None
    until(
        lambda: any(name == "pulse" and data["kafka_away_since"] for name, data in listener.events),
        "listeners to be told",
    )
    restartable_broker.start()
    until(lambda: worker.health()["kafka"] == "ok", "the broker to be back", 60)
    send(settings, [sent(4)])
    until(lambda: len(listener.ends()) >= 4, "news after that", 60)
    listener.close()
    found = listener.ends()
    assert found == sorted(set(found)), "each once, in order"
    assert len(found) == 4
    assert all(name != "reset" for name, _ in listener.events)
