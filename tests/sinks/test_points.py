"""Points: complete, typed, few series."""

from datetime import timedelta

import pytest
from hypothesis import given, settings

from schemas.base import from_ms
from schemas.estimate import FrameUse, Inputs, MissingPollutant, ModelOutput
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from sinks.errors import PointError
from sinks.points import Point, station_point, window_lines, withdrawn_lines
from tests.samples import T0, estimate, estimates, imputed, index, measured
from tests.sinks.lines import points, read


@settings(max_examples=30, deadline=None)
@given(estimates(), estimates())
def test_every_point_of_a_measurement_has_the_same_fields_of_the_same_types(one, other):
    shapes: dict[str, object] = {}
    for point in points(one) + points(other):
        shape = [(name, type(value)) for name, value in point.fields.items()]
        assert shapes.setdefault(point.measurement, shape) == shape


@settings(max_examples=30, deadline=None)
@given(estimates())
def test_what_may_change_in_a_revision_is_never_a_tag(one):
    tags = {(p.measurement, tuple(name for name, _ in p.tags)) for p in points(one)}
    assert tags == {
        ("aq", ("parameter", "station")),
        ("aqi", ("standard", "station")),
        ("station_state", ("station",)),
    }


def test_all_six_pollutants_are_written_so_that_one_that_drops_out_is_overwritten():
    fields = {dict(p.tags)["parameter"]: p.fields for p in points(estimate()) if p.measurement == "aq"}
    assert list(fields) == list(POLLUTANTS)
    assert fields["pm25"]["has_value"] is True
    assert fields["pm25"]["value"] == 12.0
    assert fields["o3"]["has_value"] is False
    assert fields["o3"]["value"] == -1.0
    assert fields["o3"]["kind"] == "missing"
    assert fields["o3"]["qc"] == 9


def test_time_is_the_end_of_the_window_in_seconds():
    assert {point.time for point in points(estimate(end=T0 + 120))} == {T0 + 120}


def test_a_window_that_ends_within_a_second_is_refused():
    one = estimate()
    window = one.window.model_copy(update={"end": one.window.end + timedelta(milliseconds=500)})
    with pytest.raises(PointError, match="whole second"):
        points(one.model_copy(update={"window": window}))


def test_lines():
    one = estimate(
        pollutants={"pm25": imputed(34, 20, 50.5)},
        indices=(index(None, reason='only "PM"\nmeasured \\ nothing else'),),
    )
    lines = window_lines(one)
    assert lines[0] == (
        'aq,parameter=pm25,station=s1 value=34.0,has_value=t,kind="imputed",qc=9i,qc_tests=0i,lo=20.0,'
        'hi=50.5,has_interval=t,method="camera",raw=-1.0,has_raw=f,n=0i,sensors="",'
        f'refused="",revision=1i,bundle="bundle-1" {T0 + 60}'
    )
    assert ',reason="only \\"PM\\" measured \\\\ nothing else",' in lines[6]
    assert "index=-1i," in lines[6]
    assert lines[6].startswith("aqi,standard=us-epa-2024,station=s1 ")


@settings(max_examples=30, deadline=None)
@given(estimates())
def test_a_line_is_one_line(one):
    assert all(line.splitlines() == [line] for line in window_lines(one))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_rather_than_left_out(value):
    with pytest.raises(PointError, match="not a number"):
        Point("aq", (), {"mean": value}, T0).line()


def test_lines_say_what_the_estimate_says():
    """Read back by a reader of its own, from an estimate that has everything."""
    one = estimate(
        pollutants={
            "no2": imputed(
                4.5, 1.25, 9.0, raw=5.0, n=2, sensors=("a", "b"), qc_tests=3,
                refused={"c": "too", "d": 'a "x"'},
            )
        },
        missing={
            "co": MissingPollutant(raw=350.5, qc=4, qc_tests=1, n=3, sensors=("e",), refused={"e": "no"})
        },
        indices=(index(160, reason='a "word", \\ and = more', lo=150, hi=170, nowcast=155), index(None)),
        model=ModelOutput(aqi=88.5, lo=60.0, hi=120.0, sensors={}),
        inputs=Inputs(
            readings=7, humidity=45.5,
            frames=(
                FrameUse(camera="c", captured_at=from_ms(T0 * 1000), usable=False, reasons=("night",)),
                FrameUse(camera="c", captured_at=from_ms(T0 * 1000 + 1000), usable=True),
            ),
        ),
    )  # fmt: skip
    found = points(one)
    no2 = next(p.fields for p in found if dict(p.tags).get("parameter") == "no2")
    told = {"value": 4.5, "has_value": True, "kind": "imputed", "lo": 1.25, "hi": 9.0, "has_interval": True}
    told |= {
        "method": "camera",
        "raw": 5.0,
        "has_raw": True,
        "n": 2,
        "sensors": "a,b",
        "qc_tests": 3,
        "qc": 9,
        "refused": 'c too; d a "x"',
    }
    co = next(p.fields for p in found if dict(p.tags).get("parameter") == "co")
    assert (co["has_value"], co["kind"], co["value"], co["has_interval"]) == (False, "missing", -1.0, False)
    assert (co["raw"], co["has_raw"], co["qc"], co["qc_tests"]) == (350.5, True, 4, 1)
    assert (co["n"], co["sensors"], co["refused"]) == (3, "e", "e no")
    assert no2 == told | {"revision": 1, "bundle": "bundle-1"}
    first, second = (p.fields for p in found if p.measurement == "aqi")
    assert (first["index"], first["lo"], first["hi"], first["nowcast"]) == (160, 150, 170, 155)
    assert first["reason"] == 'a "word", \\ and = more'
    assert (first["band"], first["level"], first["leading"]) == ("us-epa-2024/unhealthy", 3, True)
    assert (second["index"], second["band"], second["category"], second["leading"]) == (-1, "", "", False)
    state = found[-1].fields
    told = {"sides": "both", "readings": 7, "frames": 2, "frames_used": 1, "frame_reasons": "night"}
    told |= {"humidity": 45.5, "has_humidity": True, "model_aqi": 88.5, "has_model": True}
    told |= {"model_lo": 60.0, "model_hi": 120.0, "has_model_interval": True, "window_s": 60}
    told |= {"measured": 0, "corrected": 0, "imputed": 1, "missing": 5}
    assert state == told | {"revision": 1, "bundle": "bundle-1"}


@settings(max_examples=30, deadline=None)
@given(estimates())
def test_a_withdrawn_standard_has_every_field_of_an_index_and_none_of_its_numbers(one):
    like = next(p for p in points(one) if p.measurement == "aqi")
    (gone,) = map(read, withdrawn_lines(one, ["cn-hj633-2026"]))
    assert dict(gone.tags) == {"standard": "cn-hj633-2026", "station": one.station}
    assert gone.time == like.time
    assert [(n, type(v)) for n, v in gone.fields.items()] == [(n, type(v)) for n, v in like.fields.items()]
    numbers = {v for n, v in gone.fields.items() if type(v) is int and n != "revision"}
    assert numbers == {-1}
    assert (gone.fields["status"], gone.fields["leading"]) == ("withdrawn", False)


def test_an_empty_tag_is_left_out_and_special_characters_are_escaped():
    assert Point("m", (("city", ""), ("station", "s")), {"x": 1}, 5).line() == "m,station=s x=1i 5"
    assert Point("m", (("city", "a b,c=d\\"),), {"x": True}, 5).line() == "m,city=a\\ b\\,c\\=d/ x=t 5"


def test_a_thousand_stations_stay_under_ten_thousand_series():
    series = {
        (point.measurement, point.tags)
        for number in range(1000)
        for revision in (1, 2)
        for one in [
            estimate(
                f"station-{number}",
                revision=revision,
                bundle=f"bundle-{revision}",
                pollutants={
                    p: measured(5.0, kind="corrected" if revision == 2 else "measured") for p in POLLUTANTS
                },
            )
        ]
        for point in [*points(one), station_point(Station(station=one.station, city="Milan"), T0)]
    }
    assert len(series) == 9_000
