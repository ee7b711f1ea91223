"""What fusion tells regions, and what it goes on to tell everybody."""

import numpy as np
import pytest
from pydantic import ValidationError

from agents.network import check_alone
from agents.regions import Regions, region_of
from camera.sight import CAMERA_SIZE, Sight
from fusion.together.cameras import sight_of
from schemas.alone import Alone, Mark, WindowSight
from schemas.base import from_ms
from schemas.errors import Refused
from schemas.limits import FORGOTTEN_AFTER_MS
from schemas.station import Station
from schemas.times import HOUR_MS, end_of
from settings.names import TopicNames
from streams import topics
from streams.accept import Keys
from tests.agents.strangers import NOON
from tests.agents.test_boundary import MINUTE, Fusion, Log, closing, punctuation_at, reading
from tests.fusion.together.towns import alone

#: Of a third one there is no record.
STATIONS = {b"a": b'{"station":"a","latitude":45.0,"longitude":9.0}', b"b": b'{"station":"b"}'}


def told(regions: bool) -> Fusion:
    log, fusion = Log(), Fusion()
    if regions:
        fusion.stage._regions = Regions(TopicNames(), Keys(1), 1, 0)
    said = [
        reading(log, NOON + n * MINUTE, ("pm25", 9.0 + n), station=name) for n in range(12) for name in "abc"
    ]
    fusion.handle([log.record(topics.STATIONS, key, value) for key, value in STATIONS.items()])
    fusion.handle(said, *closing())
    fusion.handle()
    return fusion


def test_a_station_speaks_to_its_region_and_one_without_a_place_to_one_of_its_own() -> None:
    without, within = told(False), told(True)
    before = {(one.key, one.value) for one in without.broker.on(topics.ESTIMATES)}
    assert not within.broker.on(topics.ESTIMATES)
    handed = [one for one in within.broker.on(topics.ALONE) if one.key is not None]
    alone = [Alone.model_validate_json(one.value or b"") for one in handed]
    said = [(one.estimate.station.encode(), one.estimate.model_dump_json().encode()) for one in alone]
    assert set(said) == before
    assert {(one.estimate.station, one.region) for one in alone} == {("a", ""), ("b", "@b"), ("c", "@c")}
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


def shown() -> Sight:
    return Sight("front@e/whole", np.linspace(-1, 1, CAMERA_SIZE, dtype=np.float32), 40.0)


def test_a_region_is_told_what_a_camera_shows_where_it_may_teach_it() -> None:
    regions = Regions(TopicNames(), Keys(1), 1, 0)
    station = Station.model_validate_json(STATIONS[b"a"])
    silent = alone("a", NOON, {}).estimate
    told = Alone.model_validate_json(regions.alone(silent, station, 0, shown()).value or b"")
    back = sight_of(told)
    assert back is not None
    assert (back.layout, back.humidity) == ("front@e/whole", 40.0)
    assert (back.vector == shown().vector).all()
    measured = alone("a", NOON, {"pm25": 9.0, "pm10": 12.0}).estimate
    known = Alone.model_validate_json(regions.alone(measured, station, 0, shown()).value or b"")
    assert known.sight is None, "its own sensors teach it"


def test_no_region_that_people_name_is_one_of_a_station_alone() -> None:
    assert region_of(Station(station="b", region="east")) == "east"
    assert region_of(Station(station="b", latitude=45.0)) == "@b", "half a place is none"
    with pytest.raises(ValidationError):
        Station(station="a", region="@b")


@pytest.mark.parametrize(
    ("vector", "code"),
    [(np.ones(CAMERA_SIZE + 1, "<f4"), "wrong_size"), (np.full(CAMERA_SIZE, 1e30, "<f4"), "out_of_range")],
)
def test_a_picture_of_impossible_numbers_is_refused(vector: np.ndarray, code: str) -> None:
    one = alone("a", NOON // HOUR_MS * HOUR_MS, {"pm25": 9.0})
    check_alone(one, HOUR_MS)
    sight = WindowSight(layout="whole", vector=vector.tobytes())
    with pytest.raises(Refused) as refused:
        check_alone(one.model_copy(update={"sight": sight}), HOUR_MS)
    assert refused.value.code == code


def test_former_regions_are_told_once_that_a_station_has_moved() -> None:
    regions = Regions(TopicNames(), Keys(1), 1, 0)
    east, west = Station(station="a", region="east"), Station(station="a", region="west")
    back = Station(station="a", region="west", valid_from=from_ms(NOON), earlier=(east,))

    def told(of: Regions, station: Station, hour: int) -> list[tuple[bytes | None, bytes | None]]:
        end = NOON // HOUR_MS * HOUR_MS + hour * HOUR_MS
        out = of.moved(alone("a", end, {}).estimate, station)
        assert all(one.value is None for one in out)
        return [(dict(one.headers)["x-region"], dict(one.headers)["x-behind"]) for one in out]

    behind = str(NOON // HOUR_MS * HOUR_MS + HOUR_MS).encode()
    assert told(regions, east, 1) == []
    assert told(regions, west, 2) == [(b"east", behind)]
    assert told(regions, east, 1) == [], "a late window of before is no move"
    assert told(regions, west, 3) == []
    successor = Regions(TopicNames(), Keys(1), 1, 0)
    assert told(successor, back, 2) == [(b"east", behind)], "its versions tell"
    assert told(successor, back, 3) == []
    # Who was not heard for long is forgotten here too, and begins anew as beside a successor.
    regions.forget(["a"])
    assert told(regions, back, 4) == [(b"east", str(NOON // HOUR_MS * HOUR_MS + 3 * HOUR_MS).encode())]


def test_fusion_keeps_no_region_of_a_station_that_was_not_heard_for_long() -> None:
    within, log = told(True), Log()
    later = NOON + FORGOTTEN_AFTER_MS + 24 * HOUR_MS
    speaks = [reading(log, later + hour * HOUR_MS, ("pm25", 9.0), station="b") for hour in (0, 2)]
    for record in speaks:
        record.timestamp = later + 3 * HOUR_MS
    within.handle(speaks, [punctuation_at(later + 2 * HOUR_MS, topics.FEATURES)])
    assert "a" not in within.census
    spoke = within.stage._regions._spoke  # type: ignore[union-attr]
    assert all(name in within.census for name in spoke), spoke
