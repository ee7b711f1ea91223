"""Points: complete, typed, few series."""

from datetime import timedelta

import pytest
from hypothesis import given, settings

from schemas.parameters import PARAMETERS
from schemas.station import Station
from streams.sinks.errors import PointError
from streams.sinks.points import Point, station_point, window_points
from tests.outputs.samples import T0, estimate, estimates, imputed, index, measured


@settings(max_examples=30, deadline=None)
@given(estimates(), estimates())
def test_every_point_of_a_measurement_has_the_same_fields_of_the_same_types(one, other):
    shapes = {}
    for point in window_points(one) + window_points(other):
        shape = [(name, type(value)) for name, value in point.fields.items()]
        assert shapes.setdefault(point.measurement, shape) == shape


@settings(max_examples=30, deadline=None)
@given(estimates())
def test_what_may_change_in_a_revision_is_never_a_tag(one):
    tags = {(p.measurement, tuple(name for name, _ in p.tags)) for p in window_points(one)}
    assert tags == {
        ("aq", ("parameter", "station")),
        ("aqi", ("standard", "station")),
        ("station_state", ("station",)),
    }


def test_all_six_pollutants_are_written_so_that_one_that_drops_out_is_overwritten():
    points = {dict(p.tags)["parameter"]: p for p in window_points(estimate()) if p.measurement == "aq"}
    assert list(points) == list(PARAMETERS)
    assert points["pm25"].fields["has_value"] is True
    assert points["pm25"].fields["value"] == 12.0
    assert points["o3"].fields["has_value"] is False
    assert points["o3"].fields["value"] == -1.0
    assert points["o3"].fields["kind"] == "missing"
    assert points["o3"].fields["qc"] == 9


def test_time_is_the_end_of_the_window_in_seconds():
    assert {point.time for point in window_points(estimate(end=T0 + 120))} == {T0 + 120}


def test_a_window_that_ends_within_a_second_is_refused():
    one = estimate()
    window = one.window.model_copy(update={"end": one.window.end + timedelta(milliseconds=500)})
    with pytest.raises(PointError, match="whole second"):
        window_points(one.model_copy(update={"window": window}))


def test_lines():
    one = estimate(
        pollutants={"pm25": imputed(34, 20, 50.5)},
        indices=(index(None, reason='only "PM"\nmeasured \\ nothing else'),),
    )
    lines = [point.line() for point in window_points(one)]
    assert lines[0] == (
        'aq,parameter=pm25,station=s1 value=34.0,has_value=t,kind="imputed",qc=9i,qc_tests=0i,lo=20.0,'
        'hi=50.5,has_interval=t,method="camera",raw=-1.0,has_raw=f,n=0i,sensors="",revision=1i,bundle="bundle-1"'
        f" {T0 + 60}"
    )
    assert ',reason="only \\"PM\\" measured \\\\ nothing else",' in lines[6]
    assert "index=-1i," in lines[6]
    assert lines[6].startswith("aqi,standard=us-epa-2024,station=s1 ")


@settings(max_examples=30, deadline=None)
@given(estimates())
def test_a_line_is_one_line(one):
    assert all("\n" not in point.line() and "\r" not in point.line() for point in window_points(one))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_rather_than_left_out(value):
    with pytest.raises(PointError, match="value is"):
        [point.line() for point in window_points(estimate(pollutants={"pm25": measured(value)}))]


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
                    p: measured(5.0, kind="corrected" if revision == 2 else "measured") for p in PARAMETERS
                },
            )
        ]
        for point in [*window_points(one), station_point(Station(station=one.station, city="Milan"), T0)]
    }
    assert len(series) == 9_000
