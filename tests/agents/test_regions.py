"""What fusion tells regions, and what it goes on to tell everybody."""

from agents.regions import Regions
from schemas.alone import Alone, Mark
from schemas.times import HOUR_MS, end_of
from settings.names import TopicNames
from streams import topics
from streams.accept import Keys
from tests.agents.strangers import NOON
from tests.agents.test_boundary import MINUTE, Fusion, Log, closing, reading

STATIONS = {b"a": b'{"station":"a","latitude":45.0,"longitude":9.0}', b"b": b'{"station":"b"}'}


def told(regions: bool) -> Fusion:
    log, fusion = Log(), Fusion()
    if regions:
        fusion.stage._regions = Regions(TopicNames(), Keys(1), 1, 0)
    said = [
        reading(log, NOON + n * MINUTE, ("pm25", 9.0 + n), station=name) for n in range(12) for name in "ab"
    ]
    fusion.handle([log.record(topics.STATIONS, key, value) for key, value in STATIONS.items()])
    fusion.handle(said, *closing())
    fusion.handle()
    return fusion


def test_a_station_with_a_place_speaks_to_its_region_and_one_without_as_ever() -> None:
    without, within = told(False), told(True)
    before = {(one.key, one.value) for one in without.broker.on(topics.ESTIMATES)}
    published = {(one.key, one.value) for one in within.broker.on(topics.ESTIMATES)}
    assert published == {one for one in before if one[0] == b"b"}
    handed = [one for one in within.broker.on(topics.ALONE) if one.key is not None]
    alone = [Alone.model_validate_json(one.value or b"") for one in handed]
    assert {(b"a", one.estimate.model_dump_json().encode()) for one in alone} == before - published
    hours = {one.averaged_since for one in alone}
    assert hours == {end_of(NOON + MINUTE, HOUR_MS)}, "of any window, however many were worked on at a time"
    assert not without.broker.on(topics.ALONE)


def test_a_mark_says_what_is_committed_and_comes_after_all_of_it() -> None:
    within = told(True)
    records = within.broker.on(topics.ALONE)
    marks = [Mark.model_validate_json(one.value or b"") for one in records if one.key is None]
    assert marks[-1].final == within.join.done
    ends = [
        Alone.model_validate_json(one.value or b"").estimate.window.end.timestamp() * 1000
        for one in records
        if one.key is not None
    ]
    assert marks[-1].final >= max(ends)
    assert records[-1].key is None
