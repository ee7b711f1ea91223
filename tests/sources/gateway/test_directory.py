"""Which stations the gateway knows: as the compacted topic has them, whatever stands on it."""

import asyncio
import json
import time
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer

from cli.shared.connection import kafka_connection
from infra.stack.broker import EmbeddedBroker
from schemas.station import Station
from settings.sections import KafkaSettings, Settings
from sources.gateway import directory as module
from sources.gateway.directory import StationDirectory
from streams.admin import create_topics
from streams.topics import STATIONS


def made(**more: object) -> StationDirectory:
    return StationDirectory(KafkaSettings(**{"bootstrap": "unused:9092", "partitions": 1} | more))


def record(station: str, **more: object) -> bytes:
    return json.dumps({"station": station} | more).encode()


def test_the_newest_record_counts_and_a_tombstone_takes_the_station_out() -> None:
    known = made()
    assert "roof" not in known
    assert (known.zone_of("roof"), known.place_of("roof")) == (None, None)
    known.note(b"roof", record("roof", timezone="Europe/Rome", latitude=45.0, longitude=9.0))
    assert "roof" in known
    assert (known.zone_of("roof"), known.place_of("roof")) == (ZoneInfo("Europe/Rome"), (45.0, 9.0))
    known.note(b"roof", record("roof"))
    assert (known.zone_of("roof"), known.place_of("roof")) == (ZoneInfo("UTC"), None)
    known.note(b"roof", None)
    assert "roof" not in known
    known.note(b"nobody", None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"roof", b"{"), (b"roof", b"[" * 100_000), (b"roof", b"\xff"), (b"roof", record("other")),
        (b"roof", record("roof", latitude=200)), (None, record("roof", timezone="Asia/Tokyo")),
        (b"\xff", record("roof", timezone="Asia/Tokyo")),
    ],
)  # fmt: skip
def test_what_is_no_record_changes_nothing(key: bytes | None, value: bytes) -> None:
    known = made()
    known.note(b"roof", record("roof", timezone="Europe/Rome"))
    known.note(key, value)
    assert known.zone_of("roof") == ZoneInfo("Europe/Rome")
    assert "other" not in known


def test_a_zone_that_an_earlier_version_took_is_utc() -> None:
    known = made()
    known.note(b"roof", record("roof", timezone="Mars/Base"))
    assert known.zone_of("roof") == ZoneInfo("UTC")


def test_no_more_stations_are_remembered_than_partitions_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATIONS_PER_PARTITION", 2)
    known = made(partitions=2)
    for number in range(6):
        known.note(b"s%d" % number, record(f"s{number}"))
    assert [f"s{number}" in known for number in range(6)] == [True] * 4 + [False] * 2
    known.note(b"s0", record("s0", timezone="Europe/Rome"))
    assert known.zone_of("s0") == ZoneInfo("Europe/Rome"), "those that are known still change"
    known.note(b"s1", None)
    known.note(b"s5", record("s5"))
    assert "s5" in known, "there is room again"


NAMES = st.sampled_from("abc")
ZONES = st.sampled_from(["UTC", "Europe/Rome", "Asia/Kolkata"])


@given(st.lists(st.tuples(NAMES, st.none() | ZONES)))
def test_it_is_a_dictionary_of_the_newest(steps: list[tuple[str, str | None]]) -> None:
    known = made()
    newest: dict[str, str] = {}
    for name, zone in steps:
        if zone is None:
            newest.pop(name, None)
            known.note(name.encode(), None)
        else:
            newest[name] = zone
            known.note(name.encode(), record(name, timezone=zone))
    assert {name: known.zone_of(name) for name in "abc"} == {
        name: ZoneInfo(newest[name]) if name in newest else None for name in "abc"
    }


async def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


@pytest.mark.broker
def test_it_follows_the_topic_once_there_is_a_broker(
    restartable_broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.2)
    settings = Settings(kafka=KafkaSettings(bootstrap=restartable_broker.bootstrap, partitions=2))
    create_topics(settings)
    topic = settings.kafka.names.of(STATIONS)

    def send(station: str, value: bytes | None) -> None:
        with KafkaProducer(**kafka_connection(settings), acks="all") as producer:
            producer.send(topic, key=station.encode(), value=value).get(timeout=300)

    for number in range(8):
        send(f"s{number}", Station(station=f"s{number}").model_dump_json().encode())
    send("s7", None)
    restartable_broker.kill()

    async def run() -> None:
        known = StationDirectory(settings.kafka)
        serving = asyncio.create_task(known.serve())
        try:
            await until("it waits", lambda: "station records cannot be read" in caplog.text)
            assert not known.read.is_set()
            await asyncio.to_thread(restartable_broker.start)
            await asyncio.wait_for(known.read.wait(), 180)
            assert [f"s{number}" in known for number in range(8)] == [True] * 7 + [False]
            await asyncio.to_thread(send, "s0", None)
            await asyncio.to_thread(send, "new", record("new"))
            await until("what comes later is known", lambda: "new" in known and "s0" not in known)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(run())
