"""When a virtual sensor takes in what was gathered, and what it never does."""

import numpy as np
import pytest

from aqi.history import History
from aqi.slots import Mean
from camera import virtual_sensor
from camera.sight import Sight
from fusion.assessor import Assessor
from fusion.conclusion import means
from fusion.learning import Air, HeadSaid, learned, virtual_estimate
from model.bundle.bundle import Bundle
from model.bundle.persistence import PERSISTENCE
from model.bundle.runtime import Head
from schemas.estimate import PollutantEstimate
from schemas.reading import Quantity
from streams.join import Close, Expire, Item, WindowView
from tests.camera.cameras import HOUR, MadeStation

MINUTE = 60_000


@pytest.mark.parametrize("minute", [1, 30, 60])
def test_a_station_heard_once_an_hour_is_as_old_as_that(minute: int) -> None:
    """A window an hour, at its start, middle or end: the estimates are those of updates at the windows' ends,
    an hour apart, and none waits an hour for the window before it.
    """
    station, air, state = MadeStation(3), Air(History.empty()), None
    for number in range(24 * 20):
        hour, value, vector, day = station.step()
        end = hour - HOUR + minute * MINUTE
        sight = Sight("main/whole", vector) if day else None
        silent = number > 24 * 10 and number % 48 < 20
        said = virtual_estimate(air, "pm25", end, sight, HeadSaid(12.0, "pm10"))
        if state is None:
            assert said is None
        elif silent:
            assert said == virtual_sensor.predict(state, end, sight, None, 12.0, "pm10")
        air = learned(
            air, end, sight, None, {} if silent else {"pm25": value}, {"pm25": HeadSaid(12.0, "pm10")}
        )
        state = virtual_sensor.update(state, end, sight, None if silent else value, 12.0, shown="pm10")


def test_nothing_is_learned_from_a_stuck_sensor() -> None:
    assessor = Assessor(Head(Bundle.load()), size_ms=MINUTE, lateness_ms=2 * MINUTE, snapshots={})
    dice = np.random.default_rng(0)
    start = 1_750_248_000_000
    for hour in range(30):
        end = start + hour * HOUR + MINUTE
        value = 33.0 if hour >= 20 else float(dice.uniform(10, 60))
        quantity = Quantity("pm25", value, "ug/m3", "a", "value")
        item = Item("s", end - 30_000, end, ("a", "pm25", end), "", quantity, 0)
        view = WindowView("s", end - MINUTE, end, 1, {"readings": (item,)})
        (estimate,) = assessor.run([Close(view)], end, lambda _: None).estimates
        assert estimate.pollutants["pm25"].kind == "measured"
        doubted = estimate.pollutants["pm25"].qc == 3
        assert doubted == (hour >= 24)  # four hours of the same
        assessor.run([Expire(view)], end, lambda _: None)
    _, air = assessor._air["s"].latest()
    assert air.last["pm25"] == (33.0, start + 23 * HOUR + MINUTE)


def test_the_history_learns_how_long_an_error_lasts() -> None:
    """What a camera looks at every day errs for hours, the level alone for days, the global head for good."""
    station, state = MadeStation(5), None
    lasting: dict[str, Mean] = {}
    for number in range(24 * 12):
        hour, value, vector, day = station.step()
        sight = Sight("main/whole", vector) if day and number < 24 * 11 else None
        if number >= 24 * 10:
            said = virtual_sensor.predict(state, hour, sight, None, None) if state else None
            assert said is not None
            estimate = PollutantEstimate(
                value=said.value, kind="imputed", qc=9, method=said.method, lo=said.lo, hi=said.hi
            )
            lasting[said.method] = means({"pm25": estimate}, MINUTE)["pm25"]
        measured = value if number < 24 * 10 else None
        state = virtual_sensor.update(state, hour, sight, measured, None)
    assert {name: mean.persistence for name, mean in lasting.items()} == {
        name: PERSISTENCE[name] for name in ("camera", "last")
    }
    head = PollutantEstimate(value=20.0, kind="imputed", qc=9, method="head", lo=5.0, hi=60.0)
    assert means({"pm25": head}, MINUTE)["pm25"] == (20.0, 0, 60, 15.0, 40.0, 1.0)
    assert PERSISTENCE["camera"] < PERSISTENCE["last"] < PERSISTENCE["head"]
