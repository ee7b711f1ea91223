"""The worker of the page beside real engines, all of which are killed: what the open page says and hears."""

import contextlib
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from infra.connect import environment
from infra.stack.broker import EmbeddedBroker
from infra.stack.cache import EmbeddedCache
from infra.stack.processes import Child, spawn
from schemas.dead_letter import DeadLetter
from settings.sections import KafkaSettings, RedisSettings, Settings, WebSettings
from streams.admin import create_topics
from streams.topics import DEAD_LETTERS, ESTIMATES
from tests.busy import stretched
from tests.engines import free_port, until
from tests.harness import Sent, send
from tests.samples import estimate, index, measured

pytestmark = [pytest.mark.broker, pytest.mark.slow]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Worker:
    """A `skyfuse worker` as a process, which is killed and started again."""

    def __init__(self, role: str, settings: Settings, log: Path, *options: str) -> None:
        self.settings = settings
        self._role = role
        self._log = log
        self._options = options
        self._child: Child | None = None

    def start(self) -> None:
        kafka = self.settings.kafka
        env = {
            **os.environ, **environment(self.settings), "SKYFUSE_CONFIG": "",
            "SKYFUSE_KAFKA__PARTITIONS": str(kafka.partitions), "SKYFUSE_WEB__RATE_PER_ADDRESS": "1000",
        }  # fmt: skip
        command = [sys.executable, "-m", "cli.main", "worker", self._role, *self._options]
        self._child = spawn(command, name=self._role, log=self._log, env=env)

    def kill(self) -> None:
        assert self._child is not None
        self._child.kill()

    def stop(self) -> None:
        assert self._child is not None
        assert self._child.stop(120.0) == 0, self._log.read_text()[-2000:]


class WebWorker(Worker):
    """The one of the page, and what works beside it."""

    cache: EmbeddedCache
    sink: Worker

    def start(self) -> None:
        super().start()
        until(lambda: self.health() is not None, "the page to answer", 60)

    def health(self) -> Any:
        return self.json("health")

    def json(self, path: str) -> Any:
        try:
            answer = urllib3.request(
                "GET", f"http://127.0.0.1:{self.settings.web.port}/api/v1/{path}", retries=False, timeout=10
            )
        except urllib3.exceptions.HTTPError:
            return None
        return answer.json()

    def change(self, method: str, path: str, body: Any) -> Any:
        answer = urllib3.request(
            method, f"http://127.0.0.1:{self.settings.web.port}/api/v1/{path}", json=body, retries=False,
            timeout=20,
        )  # fmt: skip
        assert answer.status in (200, 201, 204), (path, answer.status, answer.data)
        return answer.json() if answer.data else None


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


def windows_of_now() -> Callable[[int], Sent]:
    """Estimates by number, of the minutes just gone: of older ones the page says that they are old.

    Read as the test begins: the module is imported as the run begins, which may be half an hour before.
    """
    begin = int(time.time()) // 60 * 60 - 300

    def sent(number: int) -> Sent:
        one = estimate("s1", begin + 60 * number, 1, {"pm25": measured(5.0)}, (index(40),))
        return Sent(ESTIMATES, b"s1", one.model_dump_json().encode())

    return sent


def refused() -> Sent:
    """A dead letter."""
    story = DeadLetter(
        stage="fusion", code="not_json", reason="not JSON", topic="aq.readings.v1", partition=0, offset=7,
        failed_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    return Sent(DEAD_LETTERS, b"s1", b"{", tuple(story.to_headers()))


@pytest.fixture
def worker(restartable_broker: EmbeddedBroker, tmp_path: Path) -> Iterator[WebWorker]:
    port, probes = free_port(), free_port()
    with EmbeddedCache(tmp_path / "cache") as cache:
        settings = Settings(
            data_dir=tmp_path / "data",
            kafka=KafkaSettings(bootstrap=restartable_broker.bootstrap, partitions=2),
            redis=RedisSettings(url=cache.url),
            web=WebSettings(
                port=port, pictures=False, anonymous=("read", "write", "admin"),
                workers={"sink": f"http://127.0.0.1:{probes}/metrics"},
            ),
        )  # fmt: skip
        create_topics(settings)
        sink = Worker("sink", settings, tmp_path / "sink.log", "--web-port", str(probes))
        made = WebWorker("web", settings, tmp_path / "web.log")
        made.cache, made.sink = cache, sink
        sink.start()
        made.start()
        yield made
        made.stop()
        sink.stop()


@pytest.fixture
def page(worker: WebWorker) -> Iterator[Any]:
    """The page, open in a browser while all that follows happens; None where there is no Chromium."""
    if CHROMIUM is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        made = browser.new_context(locale="en-GB").new_page()
        # What the page reads of its stream, by its own hand.
        made.add_init_script(
            "window.heard = []; const parse = JSON.parse; JSON.parse = (...given) => {"
            " const read = parse(...given); if (read?.revision) window.heard.push(read.at); return read; };"
        )
        made.goto(f"http://127.0.0.1:{worker.settings.web.port}/")
        yield made
        browser.close()


def notice(page: Any, text: str) -> None:
    """Return when the page says it; with an empty text: when it says nothing any more."""
    if page is not None and text:
        page.locator("#notice", has_text=text).wait_for(timeout=60_000)
    elif page is not None:
        page.wait_for_selector("#notice", state="hidden", timeout=60_000)


def test_what_is_killed_is_named_and_costs_neither_a_listener_nor_the_open_page_an_event(
    worker, page, restartable_broker
):
    settings = worker.settings
    sent = windows_of_now()
    send(settings, [sent(0), refused()])
    until(lambda: worker.health()["stations"] == 1, "the first estimate", 30)
    until(lambda: worker.health()["refused"] == {"not_json": 1}, "the dead letter")
    if page is not None:
        page.wait_for_selector(".stations li")
    listener = Listener(settings.web.port)
    until(lambda: listener.events, "the greeting")
    until(lambda: worker.health()["streams"] == (1 if page is None else 2), "the page to listen")
    began = time.monotonic()
    send(settings, [sent(1)])
    until(lambda: len(listener.ends()) == 1, "an estimate in the stream")
    took = time.monotonic() - began
    assert took < stretched(2.0)

    until(lambda: worker.health()["status"] == "ok", "the sink to answer", 60)
    worker.sink.kill()
    notice(page, "The worker sink has not answered since")
    until(lambda: worker.health()["workers"][0]["down_since"] is not None, "it to be told", 30)

    worker.cache.stop()  # what it had is gone with it
    worker.kill()
    notice(page, "The server has not answered since")
    send(settings, [sent(2), sent(3)])  # while nobody serves
    worker.start()
    until(lambda: len(listener.ends()) >= 3, "what came meanwhile", 60)
    worker.sink.start()
    notice(page, "")

    # One that hangs takes connections, and answers none.
    java = psutil.Process(restartable_broker.pid)
    java.suspend()
    until(lambda: worker.health()["kafka"] == "away", "the page to say that the broker hangs", 30)
    java.resume()
    until(lambda: worker.health()["kafka"] == "ok", "the broker to answer again", 60)

    restartable_broker.kill()
    until(lambda: worker.health()["kafka"] == "away", "the page to say that the broker is away", 30)
    assert worker.health()["kafka_since"] is not None
    until(
        lambda: any(name == "pulse" and data["kafka_away_since"] for name, data in listener.events),
        "listeners to be told",
    )
    notice(page, "Kafka has not answered since")
    restartable_broker.start()
    until(lambda: worker.health()["kafka"] == "ok", "the broker to be back", 60)
    send(settings, [sent(4)])
    until(lambda: len(listener.ends()) >= 4, "news after that", 60)
    notice(page, "")
    # Its topic was read once more by the server that was started anew, and where the broker was away.
    assert worker.health()["refused"] == {"not_json": 1}
    assert [one["code"] for one in worker.json("dead-letters")["letters"]] == ["not_json"]
    listener.close()
    found = listener.ends()
    assert found == sorted(set(found)), "each once, in order"
    assert len(found) == 4
    assert all(name != "reset" for name, _ in listener.events)
    if page is not None:
        heard = page.evaluate("window.heard")
        # The first one it was given by `latest`; from then on all came by the stream, without loading anew.
        assert [one for one in dict.fromkeys(heard) if one in found] == found

    # Those who manage stations and write notes do it by the same broker.
    record = worker.change("POST", "records", {"station": "s2", "name": "New", "latitude": 1, "longitude": 2})
    assert record["name"] == "New"
    until(lambda: worker.json("records/s2").get("station") == "s2", "the record to be known")
    worker.change("PATCH", "records/s2", {"name": "Newer"})
    until(lambda: worker.json("records/s2")["name"] == "Newer", "the change to be known")
    made = worker.change(
        "POST", "notes",
        {"station": "s1", "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T01:00:00Z", "text": "smoke"},
    )  # fmt: skip
    asked = "notes?station=s1&since=2025-12-31T00:00:00Z&until=2026-01-02T00:00:00Z"
    until(lambda: made in worker.json(asked).get("notes", []), "the note to be in the store", 60)
    worker.change("DELETE", "records/s2", None)
    until(lambda: worker.json("records/s2").get("status") == 404, "the station to be gone")
