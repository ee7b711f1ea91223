"""What the page says to look at."""

from collections.abc import Collection
from typing import Any

import pytest

from fusion.together.departures import drift_of
from network.drift import Departure
from schemas.base import format_time, from_ms
from schemas.estimate import Estimate
from schemas.station import Camera, Sensor, Station
from tests.samples import T0, estimate, imputed
from web.brief import brief
from web.documents import Notable
from web.notable import notable

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
