"""Annotations through the sink stage into the store; what is none is a dead letter."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import typer
from aiokafka import ConsumerRecord
from pydantic import ValidationError

from agents.sink import Sinks, SinkStage
from backfill.annotations import read_annotations, withheld_by_station
from cli.shared.annotations import _annotation
from schemas.annotation import Annotation, Undone
from schemas.base import from_ms
from schemas.dead_letter import DeadLetter
from sinks.points import annotation_point
from sinks.store import Store
from streams.accept import Keys
from streams.stage import StageIo
from streams.stations import StationBook

NOON = 1_750_248_000_000
TOPIC = "aq.annotations.v1"
SPIDER = Annotation(
    id="a/1", station="a", kind="invalid", sensor="main", parameter="pm25", since=from_ms(NOON),
    until=from_ms(NOON + 60_000), text='a "spider"', by="me", made_at=from_ms(NOON + 90_000),
)  # fmt: skip
NOTE = SPIDER.model_copy(update={"id": "a/2", "kind": "note", "sensor": None, "text": "barbecue"})
UNDONE = SPIDER.model_copy(update={"undone": Undone(at=from_ms(NOON + 120_000), by="you")})


def records(values, key=None):
    return [
        ConsumerRecord(
            TOPIC, 0, offset, 0, 0, key or (one.id.encode() if isinstance(one, Annotation) else b"a/9"),
            one.model_dump_json().encode() if isinstance(one, Annotation) else one, None, 0, 0, (),
        )
        for offset, one in enumerate(values)
    ]  # fmt: skip


def test_the_store_keeps_the_newest_of_each(tmp_path):
    letters = []

    async def publish(out):
        letters.extend(out)

    async def run(stage, values):
        await stage.handle(TOPIC, records(values))
        return await stage.settle()

    with Store(tmp_path / "store.sqlite") as store, ThreadPoolExecutor(1) as executor:
        assert store.annotations() == []
        stage = SinkStage(
            StageIo(0, publish), Sinks(store), StationBook("aq.stations.v1", Keys(1)), executor,
            threading.Event(),
        )  # fmt: skip
        settled = asyncio.run(run(stage, [SPIDER, b"{", None, NOTE]))
        assert settled[TOPIC] == (4, "")
        assert store.annotations() == [SPIDER, NOTE]
        asyncio.run(run(stage, [UNDONE]))
        assert store.annotations() == [UNDONE, NOTE]
        asyncio.run(stage.handle(TOPIC, records([SPIDER], key=b"b/1")))
        assert store.annotations() == [UNDONE, NOTE]
    assert [DeadLetter.from_headers(one.headers).code for one in letters] == ["not_json", "key_mismatch"]
    with Store(tmp_path / "store.sqlite", read_only=True) as store:
        assert store.annotations() == [UNDONE, NOTE]


def test_the_newest_per_id_counts_and_what_is_taken_back_withholds_nothing():
    found = read_annotations(records([SPIDER, b"{", NOTE, UNDONE]), Keys(1))
    assert found == [UNDONE, NOTE]
    assert withheld_by_station(found) == {}
    [withheld] = withheld_by_station([SPIDER, NOTE])["a"]
    assert withheld == ("a/1", NOON, NOON + 60_000, "main", "pm25")
    assert read_annotations(records([SPIDER], key=b"b/1"), Keys(1)) == []
    away = next(count for count in range(2, 9) if Keys(count).partition("a") != 0)
    assert read_annotations(records([SPIDER]), Keys(away)) == []
    tombstone = records([SPIDER, None])
    tombstone[1].key = b"a/1"
    assert read_annotations(tombstone, Keys(1)) == []


def test_the_point_says_whether_it_is_in_force():
    assert annotation_point(SPIDER).line() == (
        'annotation,id=a/1,kind=invalid,station=a active=t,text="a \\"spider\\"",by="me",sensor="main",'
        f'parameter="pm25",since={NOON}i,until={NOON + 60_000}i,made_at={NOON + 90_000}i {NOON // 1000}'
    )
    assert annotation_point(UNDONE).fields["active"] is False


@pytest.mark.parametrize(
    ("places", "text", "parameter", "words"),
    [
        (("a", "main"), "x", None, "takes STATION [SENSOR] FROM TO"),
        ((), "x", None, "got 0: nothing"),
        (("a", "2026-08-21T10:00:00", "2026-08-21T11:00:00Z"), "x", None, "has no zone"),
        (("a", "2026-08-21T10:00:00Z", "2026-08-21T10:00:00Z"), "x", None, "later than the first"),
        (("a b", "2h", "1h"), "x", None, "station"),
        (("a", "2h", "1h"), "", None, "text"),
        (("a", "2h", "1h"), "x", "pm99", "parameter"),
    ],
)
def test_what_cannot_be_said_is_explained(places, text, parameter, words):
    with pytest.raises(Exception, match=words.replace("[", r"\[")) as error:
        _annotation("invalid", places, text, parameter, "me", from_ms(NOON))
    assert not isinstance(error.value, ValidationError)


def test_times_may_be_ages_and_the_sensor_may_be_left_out():
    made = _annotation("note", ("a", "2h", "1h"), "x", None, "me", from_ms(NOON + 123))
    assert (made.sensor, made.since, made.until) == (
        None,
        from_ms(NOON + 123 - 7_200_000),
        from_ms(NOON + 123 - 3_600_000),
    )
    assert made.id == "a/2025-06-18T12:00:00.123Z"
    with pytest.raises(typer.BadParameter):
        _annotation("note", ("a", "b", "c", "d", "e"), "x", None, "me", from_ms(NOON))
