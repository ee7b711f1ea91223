"""What a station's own sensors say of the weather, as estimates tell it for forecasts."""

import pytest

from schemas.parameters import OwnWeather
from tests.fusion.test_sensors import windows
from tests.fusion.town import value

PM = value("pm25", 12.0)


def sky(*values: dict[str, object]) -> dict[OwnWeather, float]:
    """Of the last of a few windows in which a station says `values`."""
    return dict(windows(lambda _: [PM, *values])[-1].inputs.weather)


def test_of_several_sensors_the_one_in_the_middle_counts() -> None:
    told = sky(
        value("temperature", 8.0, "Cel", sensor="a"), value("temperature", 9.0, "Cel", sensor="b"),
        value("temperature", 60.0, "Cel", sensor="in-the-sun"), value("pressure", 1012.5, "hPa"),
    )  # fmt: skip
    assert told == {"temperature": 9.0, "pressure": 1012.5}


@pytest.mark.parametrize(
    ("directions", "mean"), [((350.0, 30.0), 10.0), ((90.0, 90.0), 90.0), ((0.0, 180.0), None)]
)
def test_directions_have_a_mean_on_the_circle_or_none(directions: tuple[float, float], mean: float) -> None:
    told = sky(
        value("windspeed", 3.0, "m/s"),
        *(value("winddirection", one, "deg", sensor=f"v{n}") for n, one in enumerate(directions)),
    )
    assert told["windspeed"] == 3.0
    assert told.get("winddirection") == (None if mean is None else pytest.approx(mean))


def test_what_another_window_heard_does_not_count_again() -> None:
    estimates = windows(lambda minute: [PM, *([value("temperature", 8.0, "Cel")] if minute % 5 == 0 else [])])
    told = [bool(one.inputs.weather) for one in estimates]
    assert told == [number % 5 == 0 for number in range(len(told))]


def test_a_station_that_says_nothing_of_it_has_none() -> None:
    assert sky() == {}
