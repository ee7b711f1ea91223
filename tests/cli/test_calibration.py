"""Corrections of sensors: what is suggested, in words and as a picture, and what is written when accepted."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from agents.network import in_pieces
from aqi.correction import correction, line_of
from cli.calibration import correction_after, sensor_of, suggested, told, watch_over, with_correction
from cli.errors import CalibrationError
from cli.main import app
from cli.shared.calibration_plot import svg
from fusion.together.learning import LEARNED, Learned, LearnedState
from fusion.together.roster import KnownStation
from network.calibration import DayPoint, Interval90, Suggestion
from network.drift import Departure, DriftWatch, watching
from network.drift_sums import Sum
from network.members import Variable
from schemas.station import Sensor, Station
from schemas.times import DAY_MS
from settings.sections import Settings
from sources.stations.edits import made
from sources.stations.registry import StationRegistry
from streams.admin import client_arguments, create_topics
from streams.checkpoint import AT
from streams.topics import NETWORK_STATE

DAY = 20_000
SLID = Departure("scale", DAY - 12, DAY - 6, 5.0, 0.25, 0.0, 0.0)
#: The slope that is suggested then: in the seven days until it was named the region learned a part of it.
SUGGESTED = 0.8 ** (2.0 ** (2 * 7 / 60))


def station(*sensors: Sensor, kind: str = "low-cost") -> Station:
    return Station(station="box", sensors=sensors, kind=kind)  # type: ignore[arg-type]


def corrected(record: Station, given: str) -> Station:
    """The record with the PM2.5 sensor's correction."""
    return made({**record.model_dump(mode="json"), "sensors": with_correction(record, "pm25", given)})


def found(slope: float = 0.8, offset: float = 0.0) -> Suggestion:
    points = tuple(DayPoint(DAY - 20 + day, 50.0 + day, 40.0 + day) for day in range(20))
    return Suggestion(
        "box", "pm25", SLID,
        Interval90(slope, slope - 0.02, slope + 0.02), Interval90(offset, offset, offset), 11, 264, 5, points,
    )  # fmt: skip


def watch() -> DriftWatch:
    """Twenty days of a sensor that reads a quarter too much beside five others."""
    variables = tuple(Variable(name, "pm25") for name in ("box", "b", "c", "d", "e", "f"))
    fresh = watching(DriftWatch(), variables)
    days = np.zeros(fresh.days.shape, dtype=np.float32)
    for day in range(20):
        for column in range(6):
            x = 30.0 + 10.0 * np.sin(np.arange(24) + day)
            y = (1.25 if column == 0 and day < 12 else 1.0) * x * (1.0 + 0.01 * np.cos(7.0 * day))
            w = 1.0 / (20.0 + x) ** 2
            days[day, Sum.HOURS, column] = 24
            days[day, Sum.W : Sum.WYY + 1, column] = [
                one.sum() for one in (w, w * x, w * y, w * x * x, w * x * y, w * y * y)
            ]
    return replace(fresh, day=DAY, days=days, departures={"box|pm25": SLID})


def test_what_is_suggested_is_told_with_what_it_rests_on() -> None:
    record = station(Sensor(sensor="main", parameters=("pm25", "pm10")))
    (one,) = suggested(record, watch(), "pm25")
    assert one.found is not None
    assert one.found.slope.value == pytest.approx(SUGGESTED, abs=0.01)
    assert one.found.slope.lo < SUGGESTED < one.found.slope.hi
    assert one.found.stations == 5
    lines = "\n".join(told("box", one))
    assert "reads 25% more than its neighbours let expect" in lines
    assert "by 11 days, 264 hours, 5 other stations" in lines
    assert f"skyfuse calibration accept box pm25 {one.correction}" in lines
    assert correction(one.correction).id == one.correction


def test_it_is_put_on_top_of_the_correction_in_force() -> None:
    record = station(Sensor(sensor="main", parameters=("pm25",), correction="linear:slope=0.5,offset=2.0"))
    after = line_of(correction_after(record, "pm25", found(0.8, 1.0)))
    assert after == pytest.approx((0.4, 0.8 * 2.0 + 1.0))
    curved = station(Sensor(sensor="main", parameters=("pm25",), correction="barkjohn-2021"))
    with pytest.raises(CalibrationError, match="no straight line"):
        correction_after(curved, "pm25", found())


def test_only_the_one_pollutant_is_corrected() -> None:
    record = station(
        Sensor(sensor="main", parameters=("pm25", "pm10"), model="sds011"),
        Sensor(sensor="gas", parameters=("no2",)),
    )
    after = corrected(record, "linear:slope=0.8,offset=0.0")
    assert sensor_of(after, "pm25").correction == "linear:slope=0.8,offset=0.0"
    assert sensor_of(after, "pm25").model == "sds011"
    assert sensor_of(after, "pm10").correction == "identity"
    assert sensor_of(after, "no2") == sensor_of(record, "no2")
    back = corrected(after, "identity")
    assert sensor_of(back, "pm25").correction == "identity"


@pytest.mark.parametrize(
    ("record", "given", "words"),
    [
        (station(kind="reference"), "linear:slope=0.8,offset=0.0", "reference station"),
        (station(), "linear:slope=0.8,offset=0.0", "has no sensor of pm25"),
        (station(Sensor(sensor="a", parameters=("pm25",)), Sensor(sensor="b", parameters=("pm25",))),
         "linear:slope=0.8,offset=0.0", "measured by a, b"),
        (station(Sensor(sensor="a", parameters=("pm25",))), "linear:slope=-1,offset=0.0", "above zero"),
        (station(Sensor(sensor="a", parameters=("pm25",))), "barkjohn-2021", "no linear"),
    ],
)  # fmt: skip
def test_what_cannot_be_accepted_is_said(record: Station, given: str, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        with_correction(record, "pm25", given)


def test_of_a_station_alone_nobody_tells_how_far_it_is_off() -> None:
    alone = replace(watch(), variables=(Variable("box", "pm25"), *(Variable(n, "co") for n in "bcdef")))
    (said,) = suggested(station(Sensor(sensor="pm", parameters=("pm25",))), alone, None)
    assert said.found is None
    assert "no other station" in said.refusal


def test_a_station_that_was_moved_is_watched_by_the_region_that_heard_it_last() -> None:
    def region(heard: int, of: DriftWatch) -> tuple[int, Learned]:
        return 0, Learned(roster={"box": KnownStation(None, (), 25.0, ("pm25",), heard, 0, "")}, drift=of)

    old, new = watch(), watch()
    assert watch_over("box", {"": region(1, old), "hills": region(2, new)}) is new
    assert watch_over("box", {"": region(2, old), "hills": region(1, new)}) is old
    assert watch_over("other", {"": region(2, old)}) is None


def test_a_reference_is_not_corrected_by_others() -> None:
    with pytest.raises(CalibrationError, match="others are measured by it"):
        suggested(station(kind="reference"), watch(), None)


def test_a_record_without_the_sensor_has_a_suggestion_that_cannot_be_written() -> None:
    (one,) = suggested(station(), watch(), None)
    assert one.found is not None
    assert one.correction == ""
    assert "it cannot be accepted" in told("box", one)[-1]


def test_the_picture_is_well_formed(tmp_path: Path) -> None:
    text = svg(found())
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert len([one for one in root if one.get("fill") == "none"]) == 3
    assert "linear:slope=0.8,offset=0.0" in text
    (tmp_path / "one.svg").write_text(text)


def test_a_pollutant_that_does_not_exist_is_wrong_use() -> None:
    said = CliRunner().invoke(app, ["calibration", "suggest", "box", "--pollutant", "pm99"])
    assert said.exit_code == 2
    assert "pm99" in said.output


@pytest.mark.broker
def test_what_is_suggested_by_a_broker_s_state_is_accepted_into_the_record(
    kafka_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From what the network stage stored to a new version of the record, and what is suggested after it."""
    settings = kafka_settings(partitions=1)
    create_topics(settings)
    monkeypatch.setenv("SKYFUSE_KAFKA__BOOTSTRAP", str(settings.kafka.bootstrap))
    monkeypatch.setenv("SKYFUSE_KAFKA__PREFIX", settings.kafka.prefix)
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    connection = client_arguments(settings.kafka)
    registry = StationRegistry(connection, settings.kafka.prefix)
    registry.add(station(Sensor(sensor="main", parameters=("pm25", "pm10"))).model_dump(mode="json"))

    def ran(*arguments: str) -> str:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["calibration", *arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    refused = CliRunner().invoke(app, ["calibration", "suggest", "box"])
    assert "no region knows box" in str(refused.exception)
    roster = {"box": KnownStation((45.0, 9.0), (), 25.0, ("pm25",), DAY * DAY_MS, 0, "bundle")}
    state = LEARNED.encode(LearnedState.of(Learned(roster=roster, drift=watch())))
    producer = KafkaProducer(**connection)
    for name, data in in_pieces("town", state).items():
        at = str(DAY * DAY_MS).encode()
        producer.send(settings.kafka.names.of(NETWORK_STATE), data, f"{name}#0".encode(), [(AT, at)])
    producer.close()

    told = ran("suggest", "box", "--plot", str(tmp_path / "box.svg"))
    assert "reads 25% more than its neighbours let expect" in told
    assert ET.fromstring((tmp_path / "box.svg").read_text()).tag.endswith("svg")
    [wanted] = [
        line.partition("calibration ")[2].split() for line in told.splitlines() if "accept it" in line
    ]
    assert wanted[:3] == ["accept", "box", "pm25"]
    assert f"pm25 is corrected by {wanted[3]} from " in ran(*wanted)
    record = registry.record("box")
    line = line_of(sensor_of(record, "pm25").correction)
    assert line == pytest.approx((SUGGESTED, 0.0), abs=0.01)
    assert sensor_of(record, "pm10").correction == "identity"
    assert [sensor_of(one, "pm25").correction for one in record.earlier] == ["identity"]
    # The days are still those of before: what is suggested now comes on top of the correction in force.
    [again] = json.loads(ran("suggest", "box", "--json"))
    assert again["drift"]["kind"] == "scale"
    assert line_of(again["correction"]) == pytest.approx((SUGGESTED**2, 0.0), abs=0.02)
