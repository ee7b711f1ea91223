"""`skyfuse alerts` and the example consumer, on a real broker."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from agents.notifier import notify
from alerting.explained import explain_station
from alerting.rules import default
from alerting.watch import Watch
from cli.alerts import app
from cli.dlq import Dead, scan
from cli.errors import QueryError
from cli.shared.connection import kafka_connection
from exchange.webhook import Webhook
from sinks.store import Store
from streams.admin import create_topics
from streams.patience import Patience
from streams.topics import ALERTS, DEAD_LETTERS
from tests.engines import until
from tests.exchange.test_cap_and_webhook import EVENTS, Receiver
from tests.samples import T0, estimate, imputed, index, measured

EXAMPLE = Path(__file__).parents[2] / "examples" / "alert_consumer.py"


@pytest.fixture
def published(kafka_settings, monkeypatch):
    """Settings of a broker whose alerts topic holds EVENTS, some of them twice, as after a crash."""
    settings = kafka_settings(partitions=2)
    create_topics(settings)
    monkeypatch.setenv("SKYFUSE_KAFKA__BOOTSTRAP", settings.kafka.bootstrap)
    monkeypatch.setenv("SKYFUSE_KAFKA__PREFIX", settings.kafka.prefix)
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    produce(settings, EVENTS[:5] + EVENTS)
    return settings


def produce(settings, events):
    producer = KafkaProducer(**kafka_connection(settings))
    for event in events:
        value = event if isinstance(event, bytes) else event.model_dump_json().encode()
        key = b"k" if isinstance(event, bytes) else event.id.encode()
        producer.send(settings.kafka.prefix + ALERTS.name, key=key, value=value, partition=0)
    producer.flush(300)
    producer.close()


def run(*arguments):
    result = CliRunner(env={"COLUMNS": "250"}).invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.broker
@pytest.mark.usefixtures("published")
def test_list_shows_what_is_open_now():
    newest = {event.id: event for event in EVENTS}.values()
    active = [event for event in newest if event.event in ("open", "update")]
    assert active
    listed = run("list").output
    assert f"{len(active)} open alert" in listed
    assert "could not be read" not in listed
    for event in active:
        assert event.reason in listed
    everything = run("list", "--all").output
    assert f"{len(newest)} alerts" in everything
    assert "withdrawn" in everything
    assert "cleared" in everything


@pytest.mark.broker
def test_what_is_no_alert_does_not_hide_the_others(published):
    produce(published, [b"not an alert"])
    listed = run("list", "--all").output
    assert f"{len({event.id for event in EVENTS})} alerts" in listed
    assert f"1 record on {published.kafka.prefix}{ALERTS.name} could not be read" in listed


@pytest.mark.broker
@pytest.mark.usefixtures("published")
def test_cap_prints_the_newest_event():
    event = {event.id: event for event in EVENTS if event.station == "milan"}.popitem()[1]
    output = run("cap", event.id, "--sender", "air@example.org", "--status", "Test").output
    assert f"<identifier>{event.id}/{event.sequence}</identifier>" in output
    with pytest.raises(QueryError, match="no alert x"):
        run("cap", "x", "--sender", "a")


@pytest.mark.broker
def test_the_web_hook_gets_every_event_and_what_it_refuses_is_a_dead_letter(published):
    produce(published, [b"not an alert"])
    receiver = Receiver()
    receiver.answers.extend([(204, {})] * 3 + [(500, {})] * 2 + [(422, {})])
    stopping = threading.Event()
    hook = Webhook(receiver.url, b"s", Patience(wait=lambda _: False), lambda: 0.0)
    lines: list[str] = []
    arguments = (kafka_connection(published), published.kafka.names, "g", hook, stopping)
    thread = threading.Thread(target=notify, args=arguments, kwargs={"tell": lines.append})
    thread.start()
    try:
        until(lambda: len(lines) == len(EVENTS) + 5 + 1, "all deliveries")
    finally:
        stopping.set()
        thread.join(30)
        receiver.server.shutdown()
        receiver.server.server_close()
    assert len(receiver.got) == len(EVENTS) + 5 + 2
    dead = scan(kafka_connection(published), published.kafka.prefix + DEAD_LETTERS.name)
    letters = [one for one in dead if isinstance(one, Dead)]
    refused, alien = sorted(letters, key=lambda one: one.story.offset)
    assert (refused.story.code, refused.story.offset) == ("webhook_refused", 3)
    assert refused.value == EVENTS[3].model_dump_json().encode()
    assert (alien.story.code, alien.value) == ("not_json", b"not an alert")
    assert refused.story.stage == "alert"
    # Started again, the group goes on where it left off.
    stopping.clear()
    produce(published, EVENTS[:1])
    thread = threading.Thread(target=notify, args=arguments, kwargs={"tell": lines.append})
    receiver = Receiver()
    object.__setattr__(hook, "url", receiver.url)
    thread.start()
    try:
        until(lambda: receiver.got, "the new event")
    finally:
        stopping.set()
        thread.join(30)
        receiver.server.shutdown()
        receiver.server.server_close()
    assert len(receiver.got) == 1


@pytest.mark.broker
@pytest.mark.slow
def test_the_example_consumer_killed_and_restarted_handles_each_event_once(published, tmp_path):
    random_ = random.Random(5)
    command = [
        sys.executable, str(EXAMPLE), published.kafka.bootstrap, published.kafka.prefix + ALERTS.name,
    ]  # fmt: skip
    database = tmp_path / "handled.sqlite"

    def handled():
        if not database.exists():
            return []
        with sqlite3.connect(database) as db:
            try:
                return [line for (line,) in db.execute("SELECT line FROM log ORDER BY number")]
            except sqlite3.OperationalError:
                return []  # not made yet

    def reached(target: int) -> bool:
        return len(handled()) >= target

    wanted = [f"{event.event} {event.id}" for event in EVENTS]
    for fraction in (0.2, 0.5, 0.8, 1.0):
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            target = max(1, int(len(wanted) * fraction) - (random_.randrange(3) if fraction < 1 else 0))
            try:
                until(partial(reached, target), "the events", 60)
            finally:
                process.send_signal(signal.SIGKILL)
    assert handled() == wanted
    with sqlite3.connect(database) as db:
        left = {id for (id,) in db.execute("SELECT id FROM open_alerts")}
    newest = {event.id: event for event in EVENTS}
    assert left == {id for id, event in newest.items() if event.event in ("open", "update")}


def test_the_example_is_short_and_needs_nothing_of_ours():
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 60
    assert "import skyfuse" not in text
    assert not any(f"from {package}" in text for package in ("schemas", "streams", "agents", "infra"))


# --- explain ------------------------------------------------------------------------------------------------


def explained(estimates, station="milan"):
    return {one.rule: one for one in explain_station(default(), estimates, station)}


def minute(n, value, **more):
    pollutants = {"pm25": imputed(value, value - 30, value + 30) if more.pop("guess", 0) else measured(value)}
    return estimate("milan", T0 + 60 * n, pollutants=pollutants, indices=(index(int(value)),), **more)


def test_explain_says_what_is_lacking():
    one = explained([minute(n, 80.0) for n in range(1, 5)])["pm25-episode"]
    assert not one.open
    assert one.text == (
        "not open: pm25 is 80 ug/m3;"
        " at or above 75 ug/m3 since 2026-01-01T00:01:00Z; minor in 7 min if it lasts"
    )
    one = explained([minute(1, 50.0)])["pm25-episode"]
    assert one.text == "not open: pm25 is 50 ug/m3; minor needs 75 ug/m3 or more for 10 min"
    one = explained([minute(n, 100.0, guess=True) for n in range(1, 20)])["pm25-episode"]
    # 100 is above 75, but only an interval that lies above it whole opens the alert.
    assert one.text == (
        "not open: pm25 is 100 ug/m3 (70 to 130, imputed); minor needs its lower end at 75 ug/m3 or more for"
        " 10 min"
    )
    assert "us-aqi" in explained([minute(1, 50.0)])


def test_explain_says_why_an_alert_is_open_and_when_it_ends():
    windows = [minute(n, 160.0) for n in range(1, 20)]
    one = explained(windows)["pm25-episode"]
    assert one.open
    assert one.text.startswith("open since 2026-01-01T00:01:00Z, moderate: pm25 is 160 ug/m3")
    assert "clears once below 120 ug/m3 for 30 min" in one.text
    one = explained([*windows, minute(20, 10.0), minute(21, 10.0)])["pm25-episode"]
    assert "below 120 ug/m3 since 2026-01-01T00:20:00Z; clears in 29 min if it lasts" in one.text


def test_explain_says_why_a_window_says_nothing_and_how_long_it_is_silent():
    # Known well enough: it speaks every minute.
    windows = [minute(n, 50.0) for n in range(-6, 2)]
    windows += [estimate("turin", T0 + 60 * n) for n in range(1, 16)]
    said = explained(windows)
    assert said["silence"].open
    # Thirteen are missing: the fourteenth may be on its way still.
    assert said["silence"].text == (
        "open since 2026-01-01T00:01:00Z, minor: no data for 13 windows, the last is of 2026-01-01T00:01:00Z;"
        " moderate after 60 windows without data; clears 3 min after data came back"
    )
    heard = explained([*windows[:8], estimate("turin", T0 + 120)])["silence"].text
    assert heard == "not open: data come, last 2026-01-01T00:01:00Z; minor after 10 windows without data"
    rare = [minute(15 * n, 50.0) for n in range(1, 9)]
    assert explained(rare)["silence"].text == (
        "not open: data come, last 2026-01-01T02:00:00Z, usually every 15 min; minor after 45 windows without"
        " data"
    )
    assert said["in-aqi"].text == (
        "not open: the last window says nothing: in-naqi-2014 is not computed for this station"
    )
    assert said["camera-blocked"].text == "not open: the last window says nothing: no frame was taken"


def test_the_explain_command_reads_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    with Store(tmp_path / "store.sqlite") as store:
        store.write([minute(n, 160.0) for n in range(1, 20)])
        store.write([estimate("turin", T0 + 60 * 40)])
    output = run("explain", "milan").output
    assert output.startswith(
        "milan: newest window 2026-01-01T00:19:00Z; of the network 2026-01-01T00:40:00Z, "
    )
    assert "● pm25-episode  open since" in output
    assert "● silence  open since 2026-01-01T00:19:00Z, minor" in output
    assert "○ stuck-sensor" in output
    with pytest.raises(QueryError, match="milan, turin"):
        run("explain", "rome")


def test_explain_knows_that_it_does_not_know_what_was_before(tmp_path, monkeypatch):
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    rules = tmp_path / "rules.toml"
    rules.write_text(
        """
        [[rule]]
        id = "high"
        what = "concentration"
        parameter = "pm25"
        steps = [{ severity = "minor", enter = 75 }]
        [[rule]]
        id = "elsewhere"
        what = "concentration"
        parameter = "pm25"
        stations = ["turin*"]
        steps = [{ severity = "minor", enter = 75 }]
        """
    )
    with Store(tmp_path / "store.sqlite") as store:
        store.write([minute(n, 160.0) for n in range(1, 26 * 60)])
    output = run("explain", "milan", "--rules", str(rules)).output
    assert "● high  open since 2026-01-01T01:59:00Z or earlier, minor" in output
    assert "- elsewhere  is not for this station: stations = turin*" in output


def test_explain_agrees_with_what_was_told():
    rules = default()
    windows = [minute(n, float(v)) for n, v in enumerate([160] * 15 + [10] * 5, 1)]
    told = Watch(rules, horizon=600_000).feed(windows)
    open_now = {e.rule for e in {e.id: e for e in told}.values() if e.event in ("open", "update")}
    assert {one.rule for one in explain_station(rules, windows, "milan") if one.open} == open_now


@pytest.mark.broker
@pytest.mark.slow
def test_a_killed_notifiers_successor_goes_on_in_seconds_and_ends_when_asked(published, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s")
    receiver = Receiver()
    command = [
        sys.executable, "-m", "cli.main", "alerts", "notify", receiver.url, "--secret-file", str(secret),
    ]  # fmt: skip
    root = EXAMPLE.parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as first:
        try:
            until(lambda: len(receiver.got) == len(EVENTS) + 5, "all events", 60)
        finally:
            first.kill()
    produce(published, EVENTS[:1])
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as second:
        try:
            # Of 45 s, kafka-python's own session time-out, 6 are left; the rest is the start of a process.
            until(lambda: len(receiver.got) > len(EVENTS) + 5, "the event that came meanwhile", 25)
            second.send_signal(signal.SIGINT)
            second.wait(300)
        finally:
            second.kill()
    receiver.server.shutdown()
    receiver.server.server_close()
