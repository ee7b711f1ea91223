"""`skyfuse stations` on a real broker."""

import json

import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from cli.main import app
from infra.connect import environment
from schemas.station import Station
from streams.accept import Keys
from streams.admin import create_topics
from streams.topics import FRAMES, QUARANTINE, QUARANTINED_FRAMES, READINGS, STATIONS
from tests.harness import read_all


@pytest.fixture
def settings(kafka_settings, monkeypatch):
    made = kafka_settings()
    create_topics(made)
    for name, text in environment(made).items():
        monkeypatch.setenv(name, text)
    return made


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["stations", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.mark.broker
def test_a_retired_stations_record_is_a_tombstone_where_its_key_belongs(settings):
    run("retire", "milan")
    (record,) = read_all(settings, STATIONS)
    assert (record.key, record.value) == (b"milan", None)
    assert record.partition == Keys(settings.kafka.partitions).partition("milan")


@pytest.mark.broker
def test_records_are_made_changed_and_carried_over(settings, tmp_path):
    run("add", "roof", "--lat", 45, "--lon", 9)
    run("add", "roof", code=1)
    run("add", "other", "--zone", "Mars", code=1)
    run("edit", "roof", "--standard", "eaqi-2025", "--from", "2026-11-01T00:00:00Z")
    assert "would move" in str(
        CliRunner().invoke(app, ["stations", "edit", "roof", "--lat", "46", "--lon", "9"]).exception
    )
    assert "from ever to 2026-11-01T00:00:00Z" in run("show", "roof")
    assert "roof" in run("list")
    lines = run("export")
    (tmp_path / "all.jsonl").write_text(lines)
    assert "0 stations recorded, 1 as they were" in run("import", tmp_path / "all.jsonl")
    (tmp_path / "bad.jsonl").write_text(
        json.dumps({"station": "fine"}) + "\n" + json.dumps({"station": "a b"})
    )
    run("import", tmp_path / "bad.jsonl", code=1)
    run("edit", "roof", "--lat", 46, "--lon", 9, "--moved")
    sent = read_all(settings, STATIONS)
    assert [record.value is None for record in sent] == [False, False, True, False]
    newest = Station.model_validate_json(sent[-1].value)
    assert [one.standards for one in newest.earlier] == [("eaqi-2025",), ("us-epa-2024",)]


@pytest.mark.broker
def test_who_waits_is_let_in_in_order_and_once(settings):
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap)
    topic = settings.kafka.names.of(QUARANTINE)
    for number in range(5):
        for station in (b"stranger", b"other"):
            headers = [("x-gateway-adapter", b"skyfuse-json"), ("x-gateway-origin", b"10.0.0.7")]
            producer.send(topic, key=station, value=b"%d" % number, headers=headers)
    pictures = settings.kafka.names.of(QUARANTINED_FRAMES)
    for where, value in ((pictures, b"p2"), (topic, b"p1")):  # the second where version 0.2.0 kept them
        headers = [("x-gateway-adapter", b"frame"), ("x-gateway-origin", b"10.0.0.7")]
        producer.send(where, key=b"stranger", value=value, headers=headers)
    producer.close()
    said = run("waiting", code=1)
    assert "stranger  5 readings and 2 pictures" in said
    assert "skyfuse-json from 10.0.0.7" in said
    assert "7 messages published" in run("adopt", "stranger", "--name", "Stranger")
    got = [(record.key, record.value) for record in read_all(settings, READINGS)]
    assert got == [(b"stranger", b"%d" % number) for number in range(5)]
    assert {record.value for record in read_all(settings, FRAMES)} == {b"p1", b"p2"}
    assert "0 messages published" in run("adopt", "stranger")
    said = run("waiting", code=1)
    assert "other" in said
    assert "stranger " not in said
    assert {record.key for record in read_all(settings, STATIONS)} == {b"stranger"}


def test_what_is_no_id_is_refused():
    run("retire", "a b", code=2)
