"""What camera and past settle between two sensors, and which means are those of a whole hour."""

from dataclasses import replace

import numpy as np
import pytest

from aqi.flags import GOOD, NOT_EVALUATED, SUSPECT
from aqi.history import History
from aqi.quality_defaults import defaults
from camera.virtual_sensor import Prediction
from fusion.conclusion import Conclusion, Counts, assembled, learn, nothing_known, settled
from fusion.intake import Intake, Prepared, take_in
from fusion.sensors.measured import Disputed, Measured
from schemas.base import from_ms
from schemas.estimate import FrameUse, PollutantEstimate
from schemas.parameters import Pollutant
from streams.join import WindowView

HOUR, MINUTE = 3_600_000, 60_000
NOON = 1_750_248_000_000


def measured(value: float, sensor: str) -> Measured:
    return Measured(value, value, 1, 128, 1, (sensor,), "mean")


PAIR = Disputed(("a", "b"), (measured(20.0, "a"), measured(90.0, "b")))


def own(value: float, overall: float = 0.0) -> Prediction:
    weights = {"camera": 1.0 - overall, "last": 0.0, "global": overall}
    return Prediction(value, 0.5 * value, 2 * value, "camera", weights, None)


@pytest.mark.parametrize(("known", "kept"), [(22.0, 0), (80.0, 1), (45.0, None), (900.0, None)])
def test_of_two_that_disagree_the_one_that_camera_and_past_support(known: float, kept: int | None) -> None:
    refused = {"a and b": "disagree"}
    found = settled(PAIR, own(known), refused)
    if kept is None:
        assert (found, refused) == (None, {"a and b": "disagree"})
    else:
        assert found is PAIR.values[kept]
        assert list(refused) == [PAIR.names[1 - kept]]
        assert f"disagrees with {PAIR.names[kept]} (20 and 90 ug/m3)" in refused[PAIR.names[1 - kept]]


def test_the_head_alone_settles_nothing() -> None:
    """It has seen neither this station's air nor its camera."""
    assert settled(PAIR, own(22.0, overall=0.51), {"a and b": "disagree"}) is None
    assert settled(PAIR, own(22.0, overall=0.5), {"a and b": "disagree"}) is not None
    assert settled(PAIR, None, {}) is None
    assert settled(None, own(22.0), {}) is None


def window(value: float, flag: int = GOOD, *, standing: int = 0) -> Prepared:
    """A window with one reading of PM2.5."""
    empty = WindowView("s", NOON, NOON + MINUTE, 1, {})
    prepared, _ = take_in(empty, None, Intake(), defaults(), "")
    found = Measured(value, value, flag, 0, 1, ("main",), "mean")
    return replace(prepared, measured={"pm25": found}, readings=1, standing=standing)


@pytest.mark.parametrize(
    ("pictures", "sensors", "sides"),
    [(True, True, "both"), (True, False, "image"), (False, True, "sensors"), (False, False, "none")],
)
def test_an_estimate_says_which_sides_had_anything(pictures: bool, sensors: bool, sides: str) -> None:
    seen = window(20.0)
    if pictures:
        seen = replace(seen, embedding=np.zeros(128, np.float32))
    if not sensors:
        seen = replace(seen, measured={})
    [estimate] = assembled([Conclusion(seen, None, {}, History.empty(48))], "any")
    assert estimate.sides == sides


def test_what_quality_control_doubts_teaches_nothing() -> None:
    before = nothing_known(None)
    for flag in (GOOD, NOT_EVALUATED, SUSPECT):
        after = learn(before, window(20.0, flag), None, {})
        assert after.last == ({} if flag == SUSPECT else {"pm25": (20.0, NOON + MINUTE)})


def test_noise_about_clean_air_is_learned_as_clean_air() -> None:
    assert learn(nothing_known(None), window(-1.5), None, {}).last == {"pm25": (0.0, NOON + MINUTE)}


def test_of_a_reading_that_only_stands_was_learned_when_it_was_heard() -> None:
    before = nothing_known(None)
    assert learn(before, window(20.0, standing=1), None, {}) is before
    looking = FrameUse(camera="main", captured_at=from_ms(NOON), usable=True)
    after = learn(before, replace(window(20.0, standing=1), frames=(looking,)), None, {})
    assert after is not before
    assert after.last == {}


def stands_since(since: int | None) -> dict[Pollutant, PollutantEstimate]:
    at = None if since is None else from_ms(since)
    return {"pm25": PollutantEstimate(value=20.0, kind="measured", qc=1, qc_tests=0, method="mean", since=at)}


@pytest.mark.parametrize(
    ("since", "counted"),
    [
        (NOON - HOUR, True),
        (NOON - 15 * MINUTE, True),
        (NOON - MINUTE, False),
        (NOON - 30_000, False),
        (None, False),
    ],
)
def test_a_mean_over_more_than_its_window_counts_for_all_of_its_period(
    since: int | None, counted: bool
) -> None:
    counts = Counts.of(stands_since(since), NOON, MINUTE)
    assert counts.periods == ({"pm25": (since, 20.0)} if counted else {})
    assert list(counts.added) == ["pm25"]
