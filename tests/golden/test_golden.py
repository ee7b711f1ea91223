"""Records of every version that ever stored state are read for ever, to the last bit."""

import base64
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alerting.rules import parse
from alerting.stored import read as read_alerts
from alerting.watch import Watch
from aqi.quality import FRESH
from fusion.assessor import Assessor
from fusion.stored import OF_SENSORS, SensorsState, StationState, read
from fusion.together.learning import LEARNED
from model.bundle.bundle import Bundle
from model.bundle.runtime import Head
from schemas.state import VERSION, pack
from streams.checkpoint import AT, Checkpoints
from streams.join import Close, Expire
from tests.golden import world

HERE = Path(__file__).parent
READERS = {"stations": read, "alerts": read_alerts, "regions": lambda _, data: LEARNED.decode(data)}
FILES = sorted(path.stem for kind in READERS for path in HERE.glob(f"{kind}-*.jsonl"))


class Record:
    """A record as the topic has it."""

    def __init__(self, line: dict[str, Any]) -> None:
        self.key = line["key"].encode()
        self.value = base64.b64decode(line["value"])
        self.headers = [(AT, str(line["at"]).encode())]
        self.name = line["key"].rpartition("#")[0]


def records(file: str) -> list[Record]:
    return [Record(json.loads(line)) for line in (HERE / f"{file}.jsonl").read_text().splitlines()]


def loaded(file: str) -> dict[str, tuple[int, Any]]:
    """As a worker loads them."""
    kind = file.rpartition("-")[0]
    return Checkpoints("topic", 0).load(records(file), 2**62, READERS[kind])


def same(one: Any, other: Any) -> bool:
    """Whether plain numbers are the same to the last bit, NaN included."""
    if isinstance(one, float) or isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    return type(one) is type(other) and bool(one == other)


def flat(value: Any) -> Iterator[Any]:
    """The plain values in anything, in order."""
    if isinstance(value, np.ndarray):
        yield from value.ravel().tolist()
    elif isinstance(value, dict):
        for key in sorted(value):
            yield key
            yield from flat(value[key])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from flat(one)
    else:
        yield value


def test_every_version_has_its_golden_records() -> None:
    """A new version: `python -m tests.golden.make`, and check in what it writes."""
    assert {f"{kind}-{VERSION}" for kind in READERS} <= set(FILES)
    assert {"stations-5", "alerts-1"} <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_it_is_read_and_says_what_the_present_version_says(file: str) -> None:
    """The world is the same in every file of a kind: written anew, so are the bytes."""
    kind = file.rpartition("-")[0]
    newest = max((one for one in FILES if one.startswith(kind)), key=lambda one: int(one.rpartition("-")[2]))

    def written(name: str) -> dict[str, tuple[int, bytes]]:
        return {key: (at, pack(state)) for key, (at, state) in loaded(name).items()}

    assert written(file) == written(newest)
    assert len(written(file)) >= 3


def test_version_5_of_a_station_field_by_field() -> None:
    seen = set()
    for record in records("stations-5"):
        if record.name.endswith(OF_SENSORS):
            continue
        plain, state = json.loads(record.value), read(record.name, record.value)
        assert isinstance(state, StationState)
        assert plain["v"] == 5
        listed = [[*key, sensor[:12]] for key, sensor in state.sensors]
        assert {sensor[12:] for _, sensor in state.sensors} == {FRESH[12:]}, "added since"
        assert all(map(same, flat(listed), flat(plain["sensors"])))
        assert [len(list(flat(one))) for one in listed] == [len(list(flat(one))) for one in plain["sensors"]]
        assert {name: [list(pair) for pair in gate.seen] for name, gate in state.cameras.items()} == {
            name: gate["seen"] for name, gate in plain["cameras"].items()
        }
        assert state.hour == plain["hour"]
        air, hour = plain["air"], state.gathered
        assert {name: list(pair) for name, pair in state.last.items()} == air["last"]
        assert hour is not None
        found = {name: getattr(hour, name) for name in air["gathered"]}
        assert list(map(repr, flat(found))) == list(map(repr, flat(air["gathered"])))
        history = state.history
        assert (history.horizon_hours, history.reference_celsius, history.through_ms) == (
            air["history"]["horizon_hours"], air["history"]["reference_celsius"],
            air["history"]["through_ms"],
        )  # fmt: skip
        for slots, old in (
            (history.hours, air["history"]["hours"]),
            (history.quarters, air["history"]["quarters"]),
        ):
            assert (slots.end_ms, list(slots.parameters)) == (old["end_ms"], old["parameters"])
            for name, kind in {
                "mean": "<f8", "measured_s": "<i4", "imputed_s": "<i4", "below": "<f4", "above": "<f4",
                "persistence": "<f4",
            }.items():  # fmt: skip
                array = getattr(slots, name)
                assert (array is None) == (name not in old)
                if array is not None:
                    assert array.shape == (old["rows"], len(old["parameters"]))
                    assert array.astype(kind).tobytes() == base64.b64decode(old[name])
                    seen.add(name)
        seen |= {name for name, value in found.items() if value}
        seen |= {"cameras"} if state.cameras else set()
        seen |= {"flat"} if any(sensor.lows for _, sensor in state.sensors) else set()
    # The golden world has something in every part: an empty one would prove nothing.
    assert seen >= {
        "mean", "measured_s", "imputed_s", "below", "above", "persistence", "camera", "whole", "humidity",
        "measured", "told", "rows", "cameras", "flat", "layout", "frames",
    }  # fmt: skip


def test_version_1_of_the_virtual_sensors_number_by_number() -> None:
    banded = 0
    for record in records("stations-5"):
        if not record.name.endswith(OF_SENSORS):
            continue
        plain, state = json.loads(record.value), read(record.name, record.value)
        assert isinstance(state, SensorsState)
        assert plain["v"] == 1
        assert list(state.virtual) == list(plain["virtual"])
        for name, text in plain["virtual"].items():
            data, sensor = base64.b64decode(text), state.virtual[name]
            version, length = struct.unpack_from("<BH", data)
            rest = json.loads(data[3 : 3 + length])
            assert version == 2
            assert (sensor.t_ms, sensor.layout, sensor.pairs, sensor.settled_ms) == (
                rest["t_ms"], rest["layout"], rest["pairs"], rest["settled_ms"],
            )  # fmt: skip
            assert (sensor.former_layout, sensor.strange) == (rest["former"], rest["strange"])
            trackers = sensor.conformal.trackers
            assert [[key, tracker.count] for key, tracker in trackers] == rest["conformal"]
            parts: list[Any] = [sensor.level, sensor.errors, *sensor.shadows]
            assert (sensor.errors.global_shown, sensor.errors.heads) == ("", ())  # came later
            numbers = [
                getattr(part, slot)
                for part in parts
                for slot in part.__slots__
                if slot not in ("global_shown", "heads")
            ]
            numbers += [value for _, tracker in trackers for value in (tracker.threshold, tracker.rolling)]
            singles = np.concatenate((sensor.settled, sensor.former, sensor.moments))
            body = np.array(numbers, "<f8").tobytes() + singles.astype("<f4").tobytes()
            assert data[3 + length : -4] == body
            assert any(map(math.isnan, numbers)) or sensor.pairs
        assert [camera for camera, _ in state.finders] == [camera for camera, _ in plain["finders"]]
        for (_, finder), (_, old) in zip(state.finders, plain["finders"], strict=True):
            band = finder.found
            found = None if band is None else [band.top, band.bottom, band.left, band.right]
            assert (finder.count, finder.level, finder.level_square, found) == (
                old["count"], old["level"], old["level_square"], old["found"],
            )  # fmt: skip
            for name in ("mean", "square", "product"):
                assert getattr(finder, name).tolist() == old[name]
            banded += band is not None
    assert banded


def test_version_1_of_alerts_field_by_field() -> None:
    unknown = 0
    for record in records("alerts-1"):
        plain, state = json.loads(record.value), read_alerts(record.name, record.value)

        def numbers(evidence: Any) -> Any:
            return evidence if isinstance(evidence, str) else tuple(float(one) for one in evidence)

        def entries(listed: Any) -> list[Any]:
            return [(*entry[:4], numbers(entry[4])) for entry in listed or ()]

        assert (state.station, state.folded, state.watermark, state.due) == (
            plain["station"], plain["folded"], plain["watermark"], plain["due"],
        )  # fmt: skip
        assert [tuple(window[:4]) for window in state.windows] == [
            (end, size, revision, {name: numbers(one) for name, one in evidence.items()})
            for end, size, revision, evidence in plain["windows"]
        ]
        assert list(state.rules) == list(plain["rules"])
        for name, rule in state.rules.items():
            old = plain["rules"][name]
            base = rule.base
            assert rule.digest == old["digest"]
            assert (list(base.above), list(base.below), base.last, base.size) == (
                old["base"]["above"], old["base"]["below"], old["base"]["last"], old["base"]["size"],
            )  # fmt: skip
            assert entries(base.episode and base.episode.entries) == entries(old["base"]["episode"])
            assert [(opened, told.sequence, entries(told.entries)) for opened, told in rule.told] == [
                (opened, number, entries(listed)) for opened, number, listed in old["told"]
            ]
        unknown += "inf" in record.value.decode()
    assert unknown


def test_a_worker_goes_on_from_each_version_alike() -> None:
    head = Head(Bundle.load())
    ends = {}
    for file in FILES:
        if not file.startswith("stations"):
            continue
        assessor = Assessor(head, size_ms=world.MINUTE, lateness_ms=world.LATENESS, snapshots=loaded(file))
        told = []
        for view in world.later(head.bundle.encoder):
            for kind in (Close, Expire):
                told += assessor.run([kind(view)], view.end, world.STATIONS.get).estimates
        done = told[-1].window.end.timestamp() * 1000 + world.LATENESS
        ends[file] = (
            [one.model_dump_json() for one in told],
            {name: assessor.dump(name, at) for name, at in assessor.horizons(int(done)).items()},
        )
        # Heard for the last time days before: only what is stored knows of it.
        assert {one.pollutants["so2"].method for one in told if one.station == "gas"} == {"last"}
    assert len(set(map(repr, ends.values()))) == 1


def learned_by(assessor: Assessor, encoder: str) -> dict[str, Any]:
    """The states after the later windows, by name."""
    for view in world.later(encoder):
        assessor.run([Expire(view)], view.end, world.STATIONS.get)
    done = world.later(encoder)[-1].end + world.LATENESS
    return {name: read(name, assessor.dump(name, at)) for name, at in assessor.horizons(done).items()}


@pytest.mark.parametrize("lost", ["", OF_SENSORS])
def test_of_a_stations_two_records_each_is_worth_having(lost: str) -> None:
    """What the damaged one held is learned anew, the other one goes on."""
    head = Head(Bundle.load())
    kept = loaded("stations-6")
    whole = learned_by(
        Assessor(head, size_ms=world.MINUTE, lateness_ms=world.LATENESS, snapshots=kept), head.bundle.encoder
    )
    snapshots = {name: snapshot for name, snapshot in kept.items() if name != "cam" + lost}
    partly = learned_by(
        Assessor(head, size_ms=world.MINUTE, lateness_ms=world.LATENESS, snapshots=snapshots),
        head.bundle.encoder,
    )
    assert {name: pack(state) for name, state in partly.items() if not name.startswith("cam")} == {
        name: pack(state) for name, state in whole.items() if not name.startswith("cam")
    }
    pairs = whole["cam|sensors"].virtual["pm25"].pairs
    if lost:
        assert partly["cam"].last == whole["cam"].last
        assert pack(partly["cam"].history) != pack(whole["cam"].history)  # imputed by the head meanwhile
        assert (
            partly["cam"].history.hours.measured_s.tolist() == whole["cam"].history.hours.measured_s.tolist()
        )
        assert partly["cam|sensors"].virtual["pm25"].pairs < pairs
    else:
        assert partly["cam|sensors"].virtual["pm25"].pairs >= pairs - 1
        assert len(partly["cam"].history.hours.mean) < len(whole["cam"].history.hours.mean)


def test_virtual_sensors_that_are_ahead_of_their_station_take_no_hour_in_twice() -> None:
    """The newest record of the station was damaged: the one before gathers the hour they have taken in."""
    head = Head(Bundle.load())
    before: dict[str, tuple[int, Any]] = {}
    assessor = Assessor(head, size_ms=world.MINUTE, lateness_ms=world.LATENESS, snapshots={})
    end = 0
    for view in world.windows(head.bundle.encoder):
        if view.station != "cam":
            continue
        assessor.run([Expire(view)], view.end, world.STATIONS.get)
        at = {
            name: (at, read(name, assessor.dump(name, at)))
            for name, at in assessor.horizons(view.end + world.LATENESS).items()
        }
        end = view.end
        if before and at["cam|sensors"][0] == end and end > world.START + 100 * world.HOUR:
            break
        before = at
    ahead = {"cam": before["cam"], "cam|sensors": at["cam|sensors"]}
    assert ahead["cam"][0] < ahead["cam|sensors"][0]
    assert ahead["cam"][1].gathered is not None
    worker = Assessor(head, size_ms=world.MINUTE, lateness_ms=world.LATENESS, snapshots=ahead)
    later = [view for view in world.windows(head.bundle.encoder) if view.station == "cam" and view.end > end]
    for view in later[:3]:
        worker.run([Expire(view)], view.end, world.STATIONS.get)
    hours = {name: sensor.t_ms for name, sensor in worker._air["cam"].latest()[1].virtual.items()}
    assert set(hours.values()) == {later[1].end}


def test_alerts_go_on_from_each_version_alike() -> None:
    told = {}
    for file in FILES:
        if file.startswith("alerts"):
            states = {name: state for name, (_, state) in loaded(file).items()}
            watch = Watch(parse(world.RULES, "world"), world.HORIZON, states)
            told[file] = [one.model_dump_json() for one in watch.feed(world.later_estimates())]
    assert len(set(map(repr, told.values()))) == 1
    assert len(next(iter(told.values()))) > 5


@pytest.mark.parametrize("file", [name for name in FILES if name.startswith("stations")])
def test_what_a_station_measured_before_its_hours_is_still_known_as_its_own(file: str) -> None:
    """Sulphur dioxide, days ago: earlier versions tell of it by the last value alone."""
    _, state = loaded(file)["gas"]
    history = state.air().history
    assert "so2" in history.ever_measured
    assert not history.hours.measured("so2")
