"""What is published of a window whose inputs are far from what anything was learned from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from camera.haze import HAZE_SIZE
from camera.sight import CAMERA_SIZE
from fusion.assessor import Assessor
from model.bundle.bundle import EMBEDDING_SIZE, Bundle
from model.bundle.runtime import Head
from schemas.base import from_ms
from schemas.estimate import Estimate
from schemas.features import Features, Quality
from schemas.parameters import POLLUTANTS
from schemas.reading import LIMITS, Quantity
from streams.join import Close, Expire, Item, WindowView

MINUTE = 60_000
HOUR = 60 * MINUTE
NOON = 1_750_248_000_000
HEAD = Head(Bundle.load())


def view(end: int, values: Mapping[str, float], unit: str = "ug/m3") -> WindowView:
    items = tuple(
        Item(
            "s", end - 30_000, end - 30_000, ("main", name, end), "",
            Quantity(name, value, unit, "main", "value"), 0,
        )
        for name, value in sorted(values.items())
    )  # fmt: skip
    return WindowView("s", end - MINUTE, end, max(1, len(items)), {"readings": items})


def with_picture(window: WindowView, size: float, haze: float, seed: int) -> WindowView:
    at, rng = window.end - 20_000, np.random.default_rng(seed)
    features = Features(
        station="s", camera="main", captured_at=from_ms(at), frame_id="f", sha256="0" * 64, bundle="any",
        encoder=HEAD.bundle.encoder, quality=Quality(usable=True), camera_layout="whole",
        embeddings={
            "frame": (rng.normal(size=EMBEDDING_SIZE) * size).astype("<f4").tobytes(),
            "camera": (rng.normal(size=CAMERA_SIZE) * min(size, 1e3)).astype("<f4").tobytes(),
        },
        haze=(rng.uniform(size=HAZE_SIZE) * haze).astype("<f4").tobytes(),
    )  # fmt: skip
    item = Item("s", at, at, ("main", at), features.sha256, features, 0)
    return replace(window, inputs={**window.inputs, "features": (item,)})


def told(windows: Sequence[WindowView]) -> Estimate:
    """The estimate of the last window, which has an input, after the others are final."""
    assessor = Assessor(HEAD, size_ms=MINUTE, lateness_ms=0, snapshots={})
    steps = [Expire(window) for window in windows[:-1]]
    [estimate] = assessor.run([*steps, Close(windows[-1])], windows[-1].start, lambda _: None).estimates
    return estimate


def test_a_fill_value_makes_nothing_up() -> None:
    """0xFFFF / 10, what an SDS011's driver gives for a bad frame."""
    estimate = told([view(NOON + MINUTE, {"pm10": 6553.5})])
    assert set(estimate.pollutants) <= {"pm10"}
    assert estimate.model is None


def check(estimate: Estimate) -> None:
    """Every published number could be true, alone and beside the others."""
    pollutants = estimate.pollutants
    for name, one in pollutants.items():
        if one.kind == "imputed":
            assert one.lo is not None
            assert one.hi is not None
            assert 0.0 <= one.lo <= one.value <= one.hi <= LIMITS[name][1]
            assert all(math.isfinite(weight) for weight in one.weights.values())
    fine, coarse = pollutants.get("pm25"), pollutants.get("pm10")
    if fine is not None and coarse is not None and "imputed" in (fine.kind, coarse.kind):
        assert fine.value <= max(0.0, coarse.value)
        ends = [(one.value, one.value) if one.lo is None else (one.lo, one.hi) for one in (fine, coarse)]
        assert all(below <= max(0.0, above) for below, above in zip(*ends, strict=True))
    model = estimate.model
    if model is not None:
        assert model.lo is not None
        assert model.hi is not None
        assert 0.0 <= model.lo <= model.aqi <= model.hi <= 500.0
        assert all(math.isfinite(share) for share in model.shares.values())
        assert set(model.sensors) <= {"pm25", "pm10"}
        assert all(0.0 <= value <= LIMITS[name][1] for name, value in model.sensors.items())
        assert model.sensors["pm25"] <= model.sensors["pm10"]
        if coarse is not None and coarse.kind != "imputed":
            assert model.sensors["pm25"] <= max(0.0, coarse.value)
        if fine is not None and fine.kind != "imputed":
            assert model.sensors["pm10"] >= fine.value
    for block in estimate.indices:
        if block.index is not None and block.lo is not None:
            assert block.hi is not None
            assert block.lo <= block.index <= block.hi


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("pm10", 6500.0, "ug/m3"),
        ("pm10", 2900.0, "ug/m3"),
        ("pm10", 1999.9, "ug/m3"),
        ("pm25", 4999.0, "ug/m3"),
        ("pm25", 1675.0, "ug/m3"),  # a wildfire
        ("pm25", 0.4, "ug/m3"),
        ("no2", 1000.0, "ppb"),
        ("so2", 1000.0, "ppb"),
        ("co", 50.0, "ppm"),
        ("co", 700.0, "ug/m3"),
        ("o3", 500.0, "ppb"),
    ],
)
def test_what_nobody_near_knows_is_not_imputed(name: str, value: float, unit: str) -> None:
    """Far outside the training, or of a gas that the head learned without a unit."""
    estimate = told([view(NOON + MINUTE, {name: value}, unit)])
    assert {one: found.kind for one, found in estimate.pollutants.items()} == {name: "measured"}
    assert estimate.model is None
    assert estimate.sides == "sensors"


def test_a_measured_pm10_caps_pm25_and_nothing_else_is_made_up() -> None:
    estimate = told([view(NOON + MINUTE, {"pm10": 20.0, "o3": 40.0})])
    assert {name: one.kind for name, one in estimate.pollutants.items()} == {
        "pm25": "imputed",
        "pm10": "measured",
        "o3": "measured",
    }
    fine = estimate.pollutants["pm25"]
    assert fine.value <= 20.0
    assert fine.hi == 20.0
    assert fine.method == "head"
    check(estimate)


def test_at_a_site_that_was_not_trained_on_the_head_says_it_is_less_sure() -> None:
    strange = view(NOON + MINUTE, {"pm25": 40.0})
    known = replace(strange, station=HEAD.bundle.manifest.training.sites[0])
    here, there = (told([window]).pollutants["pm10"] for window in (strange, known))
    assert here.value == there.value
    assert here.hi is not None
    assert there.hi is not None
    assert here.hi > 1.2 * there.hi


def test_a_value_that_the_sensor_lost_is_kept_by_what_the_station_learned() -> None:
    """A silent head does not silence the station's own past; and its gases are learned without the head."""
    hours = [view(NOON + hour * HOUR, {"pm25": 12.0, "pm10": 30.0, "no2": 25.0}) for hour in range(1, 30)]
    estimate = told([*hours, view(NOON + 30 * HOUR, {"pm10": 6553.5})])
    assert estimate.model is None
    assert estimate.pollutants["pm25"].method == "last"
    assert estimate.pollutants["pm25"].value == pytest.approx(12.0, rel=0.2)
    assert estimate.pollutants["no2"].value == pytest.approx(25.0, rel=0.2)
    assert estimate.pollutants["no2"].weights["global"] == 0.0
    check(estimate)


def test_in_its_first_hour_a_silent_sensor_is_held_not_guessed_by_the_head() -> None:
    """From a PM10 of 90 the head would say more than twice what the sensor had read."""
    minutes = [view(NOON + minute * MINUTE, {"pm25": 20.0, "pm10": 90.0}) for minute in range(1, 41)]
    estimate = told([*minutes, view(NOON + 41 * MINUTE, {"pm10": 90.0})])
    assert estimate.model is not None
    assert estimate.model.sensors["pm25"] > 40.0
    fine = estimate.pollutants["pm25"]
    assert fine.method == "last"
    assert fine.value == pytest.approx(20.0)
    assert fine.lo is not None
    assert fine.hi is not None
    assert 15.0 < fine.lo < 20.0 < fine.hi < 26.0


#: In reach of the limits, and usual.
READINGS = st.fixed_dictionaries(
    {},
    optional={
        name: st.floats(0, LIMITS[name][1]) | st.floats(0, 300) | st.sampled_from([0.0, LIMITS[name][1]])
        for name in POLLUTANTS
    },
)
PICTURES = st.none() | st.tuples(
    st.sampled_from([0.0, 0.1, 1.0, 100.0, 1e6, 1e30]),
    st.sampled_from([0.0, 1.0, 30.0, 1e5]),
    st.integers(0, 1 << 32),
)


Row = tuple[dict[str, float], tuple[float, float, int] | None, int]
ROWS = st.tuples(READINGS, PICTURES, st.integers(1, 20 * 60))


def sequence(rows: Sequence[Row]) -> list[WindowView]:
    end, windows = NOON, []
    for readings, picture, minutes in rows:
        end += minutes * MINUTE
        window = view(end, readings)
        if picture is not None:
            window = with_picture(window, *picture)
        if any(window.inputs.values()):
            windows.append(window)
    assume(windows)
    return windows


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6))
def test_no_readings_and_no_picture_make_an_estimate_say_what_cannot_be(rows: list[Row]) -> None:
    check(told(sequence(rows)))


@pytest.mark.slow
@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=400, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=12))
def test_nor_do_any_of_many(rows: list[Row]) -> None:
    check(told(sequence(rows)))
