"""`skyfuse doctor` finds what is wrong with real servers and files, and says how to mend it."""

import fcntl
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import redis
from rich.console import Console

from cli.doctor import (
    alert_rules,
    bundle,
    cache,
    disk,
    doctor,
    examine,
    influx,
    jar_files,
    packages,
    sensors,
    store,
)  # fmt: skip
from cli.shared.checks import Check
from infra.room import LEAST
from infra.stack import jars
from infra.stack.broker import EmbeddedBroker, lock_of
from infra.stack.cache import EmbeddedCache
from infra.stack.ports import free_port
from model.bundle.bundle import DEFAULT_BUNDLE
from schemas.estimate import SensorDrift
from schemas.times import DAY_MS
from settings.sections import (
    AlertSettings,
    InfluxSettings,
    KafkaSettings,
    RedisSettings,
    RetentionSettings,
    Settings,
)  # fmt: skip
from sinks.store import Store
from sources.sender import Sender
from streams.admin import admin_client, create_topics
from streams.topics import READINGS
from tests.engines import victoria_metrics
from tests.samples import T0, estimate

Make = Callable[..., Settings]


def _by_name(settings: Settings) -> dict[str, Check]:
    return {check.what: check for check in examine(settings)}


def test_a_fresh_checkout_is_well(tmp_path: Path) -> None:
    output = io.StringIO()
    settings = Settings(data_dir=tmp_path / "new" / "data")
    assert doctor(settings, Console(file=output, width=200)) == 0
    assert "all is well" in output.getvalue()
    found = _by_name(settings)
    assert {"Python", "packages", "data folder", "memory", "ports", "clock", "model bundle", "cache"} <= set(
        found
    )
    assert found["broker"].state == "note"
    assert "skyfuse up" in found["broker"].mend


def test_wrong_alert_rules_are_named_with_their_line(tmp_path: Path) -> None:
    assert alert_rules(Settings()).found.endswith("in the default set")
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nid = "pm"\nwhat = "nonsense"\n')
    check = alert_rules(Settings(alerts=AlertSettings(rules=file)))
    assert check.state == "bad"
    assert f"{file}:3" in check.mend


def test_packages_that_differ_from_the_lock_are_named(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    lock.write_text(
        "# made by\nnumpy==0.0.1 \\\n    --hash=sha256:00\nno-such-package==1.0 ; python_version >= '3' \\\n"
        "other==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
    )
    check = packages(lock)
    assert check.state == "bad"
    assert check.found == "2 of 2 differ from run.lock"
    assert "locked 0.0.1" in check.mend
    assert "no-such-package is missing" in check.mend


def test_an_altered_bundle_and_an_altered_jar_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, copy)
    assert bundle(Settings(bundle=copy)).state == "ok"
    network = next(copy.glob("*.onnx"))
    network.write_bytes(network.read_bytes()[:-1])
    check = bundle(Settings(bundle=copy))
    assert (check.state, network.name in check.mend) == ("bad", True)

    monkeypatch.setattr(jars, "folder", lambda: tmp_path / "jars")
    assert jar_files().state == "note"
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / jars.locked()[0].file).write_bytes(b"altered")
    check = jar_files()
    assert (check.state, jars.locked()[0].file in check.mend) == ("bad", True)


def test_a_full_disk_is_bad_and_a_full_table_says_so(tmp_path: Path) -> None:
    def full(_: Path) -> int:
        return 255 << 20

    assert disk(Settings(data_dir=tmp_path), full).state == "bad"
    output = io.StringIO()
    assert doctor(Settings(data_dir=tmp_path), Console(file=output, width=200), full) == 1
    assert "✘ data folder: Kafka needs 256 MiB" in output.getvalue()
    assert "1 thing to mend" in output.getvalue()


def test_a_store_that_will_not_fit_is_told_before_it_is_full(tmp_path: Path) -> None:
    assert store(Settings(data_dir=tmp_path)).found == "none yet"
    with Store(tmp_path / "store.sqlite") as kept:
        kept.write([estimate(f"s{n}", T0 + 60 * minute) for minute in range(120) for n in range(5)])
        size = kept.pace().a_day  # by the two hours there are
    assert size == pytest.approx(1.25 * 5 * 1440 * len(estimate("s0", T0).model_dump_json()), rel=0.02)
    whole = int(8 * size)

    def check(free: int, **retention: str) -> Check:
        settings = Settings(data_dir=tmp_path, retention=RetentionSettings.model_validate(retention))
        return store(settings, lambda _: free + LEAST)

    assert check(whole).state == "ok"
    tight = check(whole // 2)
    assert tight.state == "note"
    assert f"windows of 7 days take {whole / 2**20:.0f} MiB" in tight.found
    assert re.search(r"the disk is too small for that by \d\d MiB: make room", tight.mend)
    assert check(whole // 2, windows="2d").state == "ok"
    for_ever = {"windows": "forever", "hours": "forever"}
    assert check(40 * int(size), **for_ever).state == "ok"
    assert "the disk is full in 8 days" in check(8 * int(size), **for_ever).mend


def told(settings: Settings) -> tuple[int, str]:
    """Exit code of `doctor` and all it says."""
    output = io.StringIO()
    return doctor(settings, Console(file=output, width=200)), output.getvalue()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what processes hold")
def test_data_removed_under_what_runs_are_found(tmp_path: Path) -> None:
    data = tmp_path / "the data"
    settings = Settings(data_dir=data)
    with Store(settings.store_path) as kept:
        kept.write([estimate("s", T0)])
        assert told(settings)[0] == 0
        shutil.rmtree(data)
        code, text = told(settings)
        assert code == 1
        assert "all is well" not in text
        assert (
            f"{settings.store_path} was removed, but what runs goes on with it: process {os.getpid()}" in text
        )
        assert "kept nowhere: end what runs" in text
        with Store(settings.store_path) as newer:  # of another start, at the same place
            newer.write([estimate("s", T0)])
            assert told(settings)[0] == 1
    assert told(settings)[0] == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what processes hold")
def test_a_broker_whose_files_were_removed_is_found(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    folder = settings.data_dir / "kafka"
    folder.mkdir(parents=True)
    with lock_of(folder).open("w") as lock:  # as the broker and who started it do
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert _by_name(settings)["broker"].state == "bad", "no address file"
        assert "runs, but does not say where" in _by_name(settings)["broker"].found
        shutil.rmtree(settings.data_dir)
        assert f"{lock_of(folder)} was removed" in _by_name(settings)["running skyfuse"].found
        assert told(settings)[0] == 1
    assert told(settings)[0] == 0


def test_redis_is_asked_and_its_password_not_shown(tmp_path: Path) -> None:
    with EmbeddedCache(tmp_path) as running:
        assert cache(Settings(redis=RedisSettings(url=running.url))).state == "ok"
        with redis.Redis.from_url(running.url) as client:
            client.config_set("requirepass", "right")
        assert cache(Settings(redis=RedisSettings(url=running.url))).state == "bad"
        right = running.url.replace("redis://", "redis://:right@")
        assert cache(Settings(redis=RedisSettings(url=right))).state == "ok"
        check = cache(Settings(redis=RedisSettings(url=right.replace("right", "secret"))))
    assert check.state == "bad"
    assert "secret" not in check.found + check.mend
    gone = cache(Settings(redis=RedisSettings(url=running.url)))
    assert "does not answer" in gone.mend


def test_sensors_that_left_their_neighbours_are_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert list(sensors(settings)) == []
    of_now = T0 + 3 * DAY_MS // 1000
    with Store(tmp_path / "store.sqlite") as kept:
        kept.write([estimate("a", end=of_now)])
        assert list(sensors(settings)) == []  # no region watches it
        kept.write([estimate("b", end=of_now, drift={})])
        assert [(one.state, one.found) for one in sensors(settings)] == [
            ("ok", "none of 1 station has left its neighbours")
        ]
        left = SensorDrift(
            kind="scale", since=datetime(2025, 12, 3, tzinfo=UTC), share=0.3, reason="pm25 is off"
        )
        kept.write([estimate("a", end=of_now + 60, drift={"pm25": left, "pm10": left})])
        kept.write([estimate("long-silent", end=T0, drift={"pm25": left})])
    [check] = sensors(settings)
    assert check.state == "note"
    assert check.found == "2 sensors of 1 station away from the neighbours: a: pm25 is off; a: pm25 is off"
    assert "skyfuse calibration suggest a" in check.mend


@contextmanager
def _server(status: int, body: bytes) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            del args

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "state", "advice"),
    [
        (204, b"", "ok", ""),
        (400, b'{"code":"invalid","message":"writing requires points"}', "ok", ""),
        (401, b"unauthorized", "bad", "is influx.token right"),
        (404, b"bucket not found", "bad", "is there a bucket air in organisation city"),
        (500, b"", "bad", "see the server's log"),
    ],
)
def test_influxdb_answers_are_understood(status: int, body: bytes, state: str, advice: str) -> None:
    with _server(status, body) as url:
        check = influx(Settings(influx=InfluxSettings(url=url, org="city", bucket="air")))
    assert check.state == state
    assert advice in check.mend


@pytest.mark.engine
def test_a_real_server_takes_the_write_of_nothing(tmp_path: Path) -> None:
    with victoria_metrics(tmp_path) as engine:
        assert influx(Settings(influx=InfluxSettings(url=engine.url))).state == "ok"
    gone = influx(Settings(influx=InfluxSettings(url=engine.url)))
    assert "does not answer" in gone.mend


@pytest.mark.broker
def test_broker_and_topics(kafka_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = kafka_settings(partitions=2)
    assert _by_name(settings)["topics"].state == "note"
    create_topics(settings)
    found = _by_name(settings)
    assert (found["broker"].state, found["topics"].state) == ("ok", "ok")
    assert "clocks" not in found

    with Sender(settings.kafka) as sender:
        sender.send(READINGS.name, b"a", b"any")
    assert "clocks" not in _by_name(settings)
    # The broker stamps records with its own clock: one from our future means that ours is behind.
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 60)
    # A busy machine may take some seconds from the record to the look at it.
    assert re.search(r"\b(5\d|60) s behind the broker", _by_name(settings)["clocks"].found)
    monkeypatch.undo()

    with admin_client(settings.kafka) as client:
        client.delete_topics([settings.kafka.prefix + READINGS.name])
    create_topics(kafka_settings(partitions=1))
    check = _by_name(settings)["topics"]
    assert check.state == "bad"
    assert f"{READINGS.name} has 1 partitions, not 2" in check.mend


@pytest.mark.broker
def test_an_embedded_broker_that_runs_is_found(restartable_broker: EmbeddedBroker) -> None:
    settings = Settings(data_dir=restartable_broker.data_dir.parent)
    assert restartable_broker.bootstrap in _by_name(settings)["broker"].found


def test_a_broker_that_does_not_answer_is_bad() -> None:
    nobody = KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")
    check = _by_name(Settings(kafka=nobody))["broker"]
    assert check.state == "bad"
    assert "no Kafka broker answers" in check.mend
