"""Alert events through the sink stage into a real InfluxDB: one point per alert, its newest event."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiokafka import ConsumerRecord

from agents.sink import Sinks, SinkStage
from schemas.alert import SEVERITIES
from schemas.base import parse_time, to_ms
from schemas.dead_letter import DeadLetter
from sinks.influx import InfluxBucket, InfluxSink
from sinks.store import Store
from streams.accept import Keys
from streams.patience import Patience
from streams.stage import Out, StageIo
from streams.stations import StationBook
from tests.exchange.test_cap_and_webhook import EVENTS

ESTIMATES, ALERTS = "aq.estimates.v1", "aq.alerts.v1"


def records(events):
    return [
        ConsumerRecord(
            ALERTS, 0, offset, 0, 0, b"k",
            one if one is None or isinstance(one, bytes) else one.model_dump_json().encode(), None, 0, 0, (),
        )
        for offset, one in enumerate(events)
    ]  # fmt: skip


class Sink:
    """A sink stage without estimates; may be opened again, as after a crash."""

    def __init__(self, url, database, folder, letters):
        async def publish(out):
            letters.extend(out)

        self.store = Store(folder / "store.sqlite", aggregates=True)
        self.executor = ThreadPoolExecutor(1)
        self.influx = InfluxSink(InfluxBucket(url, "o", database), "t", Patience(wait=lambda _: True))
        self.stage = SinkStage(
            StageIo(0, publish), Sinks(self.store, self.influx), StationBook("aq.stations.v1", Keys(1)),
            self.executor, threading.Event(),
        )  # fmt: skip

    def close(self):
        self.influx.close()
        self.store.close()
        self.executor.shutdown()


@pytest.fixture
def opened(influx, proxy, tmp_path):
    made: list[Sink] = []
    letters: list[Out] = []

    def open_sink():
        made.append(Sink(proxy(influx.url, influx1=True).url, influx.database, tmp_path, letters))
        return made[-1].stage

    yield open_sink, letters
    for one in made:
        one.close()


def wanted(events):
    newest = {event.id: event for event in events}
    return {
        event.id: (
            to_ms(parse_time(event.id.rpartition("/")[2])) // 1000, event.station, event.rule, event.event,
            event.event in ("open", "update"), event.severity, SEVERITIES.index(event.severity),
            event.sequence, to_ms(event.at), to_ms(event.since), event.reason,
            event.values.get("value", -1.0), "value" in event.values,
        )
        for event in newest.values()
    }  # fmt: skip


def written(influx):
    return {
        row["id"]: tuple(
            row[name]
            for name in (
                "time", "station", "rule", "event", "active", "severity", "level", "sequence", "at", "since",
                "reason", "value", "has_value",
            )
        )
        for row in influx.rows('SELECT * FROM "alert" GROUP BY "station", "rule"')
    }  # fmt: skip


@pytest.mark.engine
def test_every_alert_is_one_point_with_its_newest_event_however_often_it_is_read(influx, opened):
    open_sink, letters = opened
    source, draw = records(EVENTS), random.Random(4)

    async def run():
        stage, position = open_sink(), 0
        for _ in range(3):  # killed twice: read again from the beginning
            position = 0
            while position < len(source):
                batch = source[position : position + draw.randint(1, 5)]
                await stage.handle(ALERTS, batch)
                position += len(batch)
            stage = open_sink()
        await stage.handle(ALERTS, source[-1:])
        assert await stage.settle() == {ESTIMATES: (0, ""), ALERTS: (len(source), "")}

    asyncio.run(run())
    assert written(influx) == wanted(EVENTS)
    assert {one[3] for one in wanted(EVENTS).values()} >= {"clear", "retract"}
    assert letters == []
    series = [row["key"] for row in influx.rows("SHOW SERIES")]
    assert len(series) == len({(event.station, event.rule) for event in EVENTS})


@pytest.mark.engine
def test_what_is_no_alert_is_a_dead_letter_and_a_tombstone_is_nothing(influx, opened):
    open_sink, letters = opened
    first = EVENTS[0]
    strange = first.model_copy(update={"id": "milan/us-aqi/yesterday"})

    async def run():
        stage = open_sink()
        assert await stage.settle() == {ESTIMATES: (0, "")}
        await stage.handle(ALERTS, records([None, b"{", strange, first]))
        return await stage.settle()

    assert asyncio.run(run())[ALERTS] == (4, "")
    assert written(influx) == wanted([first])
    assert [DeadLetter.from_headers(one.headers).code for one in letters] == ["not_json", "sink_rejected"]
