"""A worker whose broker is away says so once a minute, and ends when it is told to."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agents.away import Away
from infra.stack.broker import EmbeddedBroker
from infra.stack.ports import free_port
from settings.sections import KafkaSettings, Settings
from streams import admin
from streams.admin import create_topics
from streams.web import waiting_pages
from tests.busy import stretched
from tests.harness import until

REFUSED = "Unable connect to node with id 1: [Errno 111] Connect call failed ('127.0.0.1', 9092)"


def line(text: str, name: str = "aiokafka.conn") -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, text, (), None)


def test_of_an_outage_one_line_a_minute_is_said() -> None:
    now = 0.0
    away = Away("kafka:9092", lambda: now)
    said = []
    for tenth in range(1300):
        now = tenth / 10
        record = line(REFUSED if tenth % 2 else "Failed fetch messages from 1: NodeNotReadyError: no")
        if away.filter(record):
            said.append((now, record.getMessage()))
    assert [at for at, _ in said] == [0.0, 60.0, 120.0]
    assert said[1][1].startswith("waiting for the broker at kafka:9092, for 60 s so far: Failed fetch")
    # It came back, and is away again: that is said at once.
    now = 141.0
    again = line(REFUSED)
    assert away.filter(again)
    assert again.getMessage() == f"waiting for the broker at kafka:9092, for 0 s so far: {REFUSED}"


def test_nothing_else_is_held_back() -> None:
    away = Away("kafka:9092", lambda: 0.0)
    assert away.filter(line(REFUSED))
    assert not away.filter(line(REFUSED))
    for record in (
        line("Failed fetch messages from 1: TopicAuthorizationFailedError: no"),
        line(REFUSED, "agents.worker"),
    ):
        before = record.getMessage()
        assert away.filter(record)
        assert record.getMessage() == before


def test_a_broker_that_is_not_there_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_SAID_EVERY_S", 0.2)
    monkeypatch.setattr(admin, "_AGAIN_S", 0.02)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))  # taken, and answers nobody before it listens
        port = listening.getsockname()[1]
        told: list[str] = []

        def say(text: str) -> None:
            told.append(text)
            if len(told) == 3:
                listening.listen()

        admin.wait_for_broker(KafkaSettings(bootstrap=f"127.0.0.1:{port}"), say)
    assert len(told) == 3
    assert all(
        "waiting for the broker, for 0 s so far: no Kafka broker answers (127.0.0.1" in text for text in told
    )


def worker(role: str, bootstrap: str, folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {
        "SKYFUSE_DATA_DIR": str(folder / "data"),
        "SKYFUSE_KAFKA__BOOTSTRAP": bootstrap,
        "SKYFUSE_KAFKA__PARTITIONS": "1",
    }
    with (folder / "worker.log").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", "worker", role, *options],
            env=environment,
            stdout=out,
            stderr=out,
        )


def ends_when_told_to(running: "subprocess.Popen[bytes]") -> None:
    asked = time.monotonic()
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=120) == 0
    took = time.monotonic() - asked
    assert took < stretched(10.0)


STUCK = """
import asyncio, os, signal
import faust
from agents import away, worker as workers

away._ENDS_WITHIN = 0.2

class Stuck(workers.Worker):
    async def stop(self):
        await asyncio.sleep(3600)

worker = Stuck(faust.App("stuck"), "kafka:9092", "INFO")

async def told_to_end():
    worker.install_signal_handlers()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(3600)

worker.loop.run_until_complete(told_to_end())
"""


def test_a_worker_that_cannot_stop_ends_all_the_same(tmp_path: Path) -> None:
    """So it is while Faust and aiokafka wait for a broker that does not come back."""
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", STUCK],
        capture_output=True, text=True, timeout=300, cwd=root, env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "ends now as a killed worker does" in ended.stdout + ended.stderr


def asked(port: int, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_worker_that_waits_is_alive_and_not_ready() -> None:
    """What restarts it for being dead would do so for as long as the broker is away."""
    port = free_port()
    with waiting_pages("127.0.0.1", port, "sink"):
        assert asked(port, "livez") == (200, '{"status": "alive", "role": "sink"}')
        status, said = asked(port, "readyz")
        assert status == 503
        assert "no broker answers yet" in said
        assert "aq_messages_total" in asked(port, "metrics")[1]
    with waiting_pages("127.0.0.1", port, "sink"):  # the port is free again, for the worker's own
        assert asked(port, "livez")[0] == 200


def test_a_worker_waits_for_a_broker_that_is_not_there_yet_and_ends_on_sigterm(tmp_path: Path) -> None:
    told = tmp_path / "worker.log"
    port = free_port()
    running = worker("sink", "127.0.0.1:9", tmp_path, "--web-port", str(port))
    try:
        until("what it waits for", lambda: "waiting for the broker" in told.read_text(), 60)
        assert asked(port, "livez")[0] == 200
        assert running.poll() is None
        ends_when_told_to(running)
    finally:
        running.kill()
        running.wait()
    text = told.read_text()
    assert text.startswith(
        "skyfuse: waiting for the broker, for 0 s so far: no Kafka broker answers (127.0.0.1:9: "
    )
    assert text.count("\n") == 1


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("role", ["sink", "fusion"])
def test_a_worker_whose_broker_is_away_ends_on_sigterm(
    restartable_broker: EmbeddedBroker, tmp_path: Path, role: str
) -> None:
    kafka = KafkaSettings(bootstrap=restartable_broker.bootstrap, partitions=1)
    create_topics(Settings(data_dir=tmp_path / "data", kafka=kafka))
    assert kafka.bootstrap is not None
    told = tmp_path / "worker.log"
    running = worker(role, kafka.bootstrap, tmp_path)
    try:
        until("the worker", lambda: "Worker ready" in told.read_text(), 90)
        restartable_broker.kill()
        until("what it waits for", lambda: "waiting for the broker at" in told.read_text(), 60)
        # A second of retries, of which aiokafka writes some thirty lines.
        deadline = time.monotonic() + 1.0
        until("a second", lambda: time.monotonic() > deadline)
        ends_when_told_to(running)
    finally:
        running.kill()
        running.wait()
    text = told.read_text()
    assert text.count("waiting for the broker at") == 1
    assert text.count("Connect call failed") <= 1
