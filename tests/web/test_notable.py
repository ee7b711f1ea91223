"""What the page says to look at."""

from collections.abc import Collection
from typing import Any

import pytest

from alerting.explained import PendingAlert
from fusion.together.departures import drift_of
from network.drift import Departure
from schemas.alert import Alert, Severity
from schemas.base import format_time, from_ms
from schemas.estimate import Estimate
from schemas.station import Camera, Sensor, Station
from tests.samples import T0, estimate, imputed, measured
from web.brief import brief
from web.documents import Notable
from web.notable import most_telling, notable

CAMERA = Station(station="hill", cameras=(Camera(camera="main"),))
SENSORS = Station(station="park", sensors=(Sensor(sensor="pm", parameters=("pm25", "pm10")),))


def look(*estimates: Estimate, stale: Collection[str] = ()) -> list[Notable]:
    latest = {one.station: one for one in estimates}
    stations = {one.station: one for one in (CAMERA, SENSORS)}
    return notable(latest, stations, {}, (), lambda name: name in stale, lambda *_: 1000 * (T0 - 7200))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"method": "camera"}, "all it tells comes from its pictures"),
        ({"method": "head", "weights": {"global": 1.0}}, "all it tells comes from its pictures"),
        ({"method": "network", "weights": {"neighbours": 1.0}}, "its values come from its neighbours alone"),
        (
            {"method": "network", "weights": {"neighbours": 1.0, "camera": 0.0}},
            "its values come from its neighbours alone",
        ),
        (
            {"method": "network", "weights": {"neighbours": 0.6, "camera": 0.4}},
            "what it tells comes from its pictures and from its neighbours",
        ),
    ],
)
def test_whence_a_camera_s_values_come(fields: dict[str, Any], told: str) -> None:
    [found] = look(estimate("hill", pollutants={"pm25": imputed(9.0, 2.0, 20.0, **fields)}, sides="image"))
    assert (found.what, found.text) == ("camera_only", f"hill has a camera alone: {told}")


def test_a_silent_sensor_s_values_are_said_to_come_from_who_carries_most() -> None:
    past = imputed(9.0, 2.0, 20.0, method="network", weights={"neighbours": 0.05, "past": 0.95})
    others = imputed(9.0, 2.0, 20.0, method="network", weights={"neighbours": 1.0})
    [found] = look(estimate("park", pollutants={"pm25": past, "pm10": others}))
    assert found.text == (
        "park: the sensor pm is silent: PM2.5 from its own past, by 95%; PM10 from its neighbours"
    )
    [found] = look(estimate("park", pollutants={"pm25": past, "pm10": past}))
    assert found.text == "park: the sensor pm is silent: PM2.5, PM10 from its own past, by 95%"


def test_where_nothing_is_fresh_that_is_said_first() -> None:
    calm = [estimate("park", T0 + 120), estimate("town", T0 + 60)]
    assert look(*calm) == []
    [found] = look(*calm, stale=("park", "town"))
    assert (found.what, found.station, found.at) == ("stale", "park", from_ms(1000 * (T0 + 120)))
    assert found.text.startswith("no station has anything new")
    assert format_time(from_ms(1000 * (T0 + 120))) in found.text
    [found] = look(*calm, stale=("town",))
    assert (found.what, found.station) == ("stale", "town")
    assert look() == []


def test_a_sensor_left_out_of_two_pollutants_has_two_reasons() -> None:
    one = imputed(9.0, 2.0, 20.0, refused={"pm": "stuck"})
    two = imputed(9.0, 2.0, 20.0, refused={"pm": "too much"})
    made = brief(estimate("park", pollutants={"pm25": one, "pm10": two}))
    assert made.refused == {"pm25/pm": "stuck", "pm10/pm": "too much"}


def test_a_sensor_that_drifts_is_something_to_look_at() -> None:
    gone = drift_of(Departure("slide", 20_000, 20_018, 4.2, -0.18, -0.01, 0.0), "pm25")
    [found] = look(estimate("park", drift={"pm25": gone}))
    assert (found.what, found.detail, found.at) == ("drift", "pm25", gone.since)
    assert found.text == f"park: {gone.reason}"


def alert(station: str, severity: Severity, minute: int) -> Alert:
    at = from_ms(1000 * (T0 + 60 * minute))
    return Alert(
        id=f"{station}/us-aqi/{format_time(at)}", sequence=0, event="open", station=station, rule="us-aqi",
        severity=severity, at=at, since=at, reason="much",
    )  # fmt: skip


def crowd(*alerts: Alert) -> list[Notable]:
    """One of each kind, three of some, and an alert that will only inform."""
    carried = imputed(9.0, 2.0, 20.0, refused={"pm": "stuck"})
    lying = [estimate(f"liar{n}", pollutants={"pm25": carried}) for n in range(5)]
    hill = estimate("hill", pollutants={"pm25": imputed(9.0, 2.0, 20.0, method="camera")}, sides="image")
    latest = {one.station: one for one in [*lying, hill]}
    soon = PendingAlert("mostly-imputed", "info", 1000 * (T0 + 60))
    opened = {one.id: one for one in alerts}
    return notable(latest, {"hill": CAMERA}, opened, [("hill", soon)], lambda _: False, lambda *_: 0)


def test_every_open_alert_is_told_before_all_else_and_what_only_informs_after_the_other_kinds() -> None:
    found = most_telling(
        crowd(alert("old", "minor", 1), alert("new", "minor", 50), alert("worst", "severe", 0))
    )
    assert [(one.what, one.station) for one in found.notable[:3]] == [
        ("alert", "worst"), ("alert", "new"), ("alert", "old"),
    ]  # fmt: skip
    assert [one.what for one in found.notable[3:6]] == ["lying", "camera_only", "pending"]
    assert [one.what for one in found.notable[6:]] == ["lying", "lying"]


def test_what_is_not_told_is_counted() -> None:
    found = most_telling(crowd(*(alert(f"s{n}", "minor", n) for n in range(7))))
    assert found.more == {"alert": 4, "lying": 2}


def test_while_the_past_is_worked_off_no_station_is_called_stale() -> None:
    latest = {"park": estimate("park"), "town": estimate("town")}
    for stale in ({"park", "town"}, {"town"}):
        found = notable(latest, {}, {}, (), stale.__contains__, lambda *_: 0, coming=True)
        assert found == []
    assert most_telling([], coming=True).coming


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"method": "network", "weights": {"neighbours": 1.0, "camera": 0.01}}, ("neighbours",)),
        ({"method": "network", "weights": {"neighbours": 0.7, "camera": 0.3}}, ("camera", "neighbours")),
        ({"method": "network", "weights": {"past": 1.0}}, ("past",)),
        ({"method": "head"}, ("camera",)),
    ],
)
def test_a_camera_that_carries_nothing_is_not_named_as_the_source(fields: Any, told: Any) -> None:
    made = brief(estimate("hill", pollutants={"pm25": imputed(9.0, 2.0, 20.0, **fields)}, sides="image"))
    assert made.sources == told
    both = {"pm25": imputed(9.0, 2.0, 20.0, **fields), "no2": measured(9.0)}
    assert brief(estimate("hill", pollutants=both)).sources == ("sensors", *told)
