"""A camera without a sensor beside it is taught by its region, and says so."""

import numpy as np
import pytest

from camera.sight import CAMERA_SIZE, Sight
from fusion.together.cameras import SightSums, untaught
from schemas.alone import Alone, WindowSight
from schemas.estimate import Estimate
from schemas.parameters import Pollutant
from schemas.times import HOUR_MS
from tests.fusion.together.towns import START, Content, Life, alone, ends, marks, rules

HOURS = 90
LAST = START + HOURS * HOUR_MS
NAMES = ("a", "b", "c")
#: From this hour on the neighbours say nothing.
SILENT = 85


def town(*, measured_until: int = 0, seed: int = 3) -> list[Content]:
    """Three that measure, 20 km from a camera; it measures itself up to an hour."""
    random = np.random.default_rng(seed)
    slopes = random.normal(0, 1, CAMERA_SIZE)
    shared = own = 0.0
    log: list[Content] = []
    for hour, end in enumerate(ends(HOURS), 1):
        shared = 0.6 * shared + random.normal(0, 0.25)
        own = 0.6 * own + random.normal(0, 0.15)
        near = [shared + random.normal(0, 0.1) for _ in NAMES]
        for number, name in enumerate(NAMES):
            if hour < SILENT:
                value = 20.0 * float(np.exp(near[number]))
                log.append(alone(name, end, {"pm25": value}, place=(45.0 + 0.02 * number, 9.0)))
        vector = (slopes * (shared + own) + random.normal(0, 0.2, CAMERA_SIZE)).astype("<f4")
        measured: dict[Pollutant, float] = {}
        if hour <= measured_until:
            measured["pm25"] = 20.0 * float(np.exp(shared + own))
        head: dict[Pollutant, tuple[float, float, float]] = {"pm25": (90.0, 5.0, 400.0)}
        one = alone("cam", end, measured, place=(45.18, 9.0), imputed={} if measured else head, method="head")
        sight = WindowSight(layout="front@e/whole", vector=vector.tobytes(), humidity=60.0)
        log.append(one.model_copy(update={"sight": sight}))
        log += marks(end)
    return log


@pytest.fixture(scope="module")
def lived() -> Life:
    log = town()
    life = Life(rules(), log).run(len(log))
    assert life.failed == 0
    return life


def of(life: Life, hour: int) -> Estimate:
    return life.estimates()["cam", START + hour * HOUR_MS]


def test_it_says_who_taught_it_and_in_how_many_hours(lived: Life) -> None:
    early, late = of(lived, 20).pollutants["pm25"], of(lived, 80).pollutants["pm25"]
    assert early.method == "network"
    assert early.taught_by == {}
    assert "camera" not in early.weights
    assert 0.0 < late.weights["camera"] < 1.0
    assert late.weights["neighbours"] > 0.0
    assert sum(late.weights.values()) == pytest.approx(1.0, abs=1e-5)
    assert late.taught_by == {"network": 79}, "of the hours before"
    assert late.lo is not None
    assert late.hi is not None
    assert late.lo < late.value < late.hi


def test_where_its_neighbours_fall_silent_it_speaks_for_itself(lived: Life) -> None:
    alone_then = of(lived, SILENT + 2).pollutants["pm25"]
    assert alone_then.method == "camera"
    assert alone_then.weights["camera"] > 0.5
    assert alone_then.value < 70.0, "the head's 90 is no more than a witness among them"
    assert set(alone_then.taught_by) == {"network"}


def test_what_its_own_sensor_measures_is_no_lesson_of_its_neighbours() -> None:
    log = town(measured_until=60)
    life = Life(rules(), log).run(len(log))
    taught = life.meeting._flows["town"].versions.latest().value.cameras["cam"]
    assert taught["pm25"].hours == SILENT - 1 - 60


def test_without_a_picture_nothing_is_kept() -> None:
    log = [one.model_copy(update={"sight": None}) if isinstance(one, Alone) else one for one in town()]
    life = Life(rules(), log).run(len(log))
    assert life.meeting._flows["town"].versions.latest().value.cameras == {}
    assert of(life, 80).pollutants["pm25"].taught_by == {}


@pytest.mark.parametrize(("deaths", "step"), [((37, 150, 330), 11), ((200, 205, 210, 340), 1000)])
def test_a_crash_changes_no_byte_of_what_a_camera_says(
    lived: Life, deaths: tuple[int, ...], step: int
) -> None:
    log = town()
    life = Life(rules(), log)
    for at in deaths:
        life.run(at, step)
        life.commit()
        life.run(min(at + 9, len(log)), step)
        life.die()
    life.run(len(log), step)
    assert life.newest() == lived.newest()
    assert life.meeting.dump("town", LAST) == lived.meeting.dump("town", LAST)


def test_a_camera_that_its_own_sensor_taught_is_left_to_it() -> None:
    measured = alone("x", START, {"pm25": 9.0}).estimate
    assert untaught(measured) == ("pm10",)
    own = alone("x", START, {}, imputed={"pm25": (9.0, 8.0, 10.0)}, method="camera").estimate
    assert untaught(own) == ("pm10",)
    past = alone("x", START, {}, imputed={"pm25": (9.0, 8.0, 10.0)}).estimate
    assert untaught(past) == ("pm25", "pm10")


def test_an_hour_is_the_mean_of_its_pictures_in_the_newest_layout() -> None:
    def sight(layout: str, value: float, humidity: float | None) -> Sight:
        return Sight(layout, np.full(CAMERA_SIZE, value, np.float32), humidity)

    sums = SightSums()
    for one in (
        sight("old", 9.0, 10.0),
        sight("new", 1.0, None),
        sight("new", 2.0, 50.0),
        sight("new", 3.0, 70.0),
    ):
        sums = sums.with_sight(one)
    mean = sums.mean()
    assert (mean.layout, mean.vector[0], mean.humidity) == ("new", 2.0, 60.0)
