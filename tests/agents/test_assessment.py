"""Estimates of many windows at once; the interval of an index, from imputed values to an alert."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alerting.rules import parse
from alerting.watch import Watch
from aqi.history import History
from camera.haze import HAZE_SIZE
from camera.sight import CAMERA_SIZE
from fusion.assessor import Assessor
from fusion.conclusion import Conclusion, assembled, conclude, means
from fusion.inference import infer
from fusion.intake import Prepared
from fusion.learning import Air
from model.bundle.bundle import DEFAULT_BUNDLE, EMBEDDING_SIZE, Bundle
from model.bundle.runtime import Head
from schemas.base import from_ms
from schemas.estimate import Estimate, FrameUse
from schemas.features import Features, Quality
from schemas.parameters import Pollutant
from schemas.reading import Quantity
from schemas.station import Station
from streams.join import Close, Expire, Item, Step, WindowView

MINUTE = 60_000
HOUR = 60 * MINUTE
NOON = 1_750_248_000_000
RULE = """
[[rule]]
id = "us-aqi"
what = "index"
standard = "us-epa-2024"
rests_on = "lower_bound"
min_status = "insufficient"
open_after = "2m"
clear_after = "2m"
steps = [{ severity = "minor", enter = 101, leave = 96 }]
"""


@pytest.fixture(scope="module")
def head() -> Head:
    return Head(Bundle.load())


def view(station: str, end: int, values: dict[str, float]) -> WindowView:
    items = tuple(
        Item(
            station, end - 30_000, end - 30_000, ("main", name, end), "",
            Quantity(name, value, "ug/m3", "main", "value"), 0,
        )
        for name, value in sorted(values.items())
    )  # fmt: skip
    return WindowView(station, end - MINUTE, end, max(1, len(items)), {"readings": items})


def with_frame(window: WindowView, encoder: str) -> WindowView:
    """The window with a picture too, as a vision worker with that encoder sends it."""
    at, rng = window.end - 20_000, np.random.default_rng(7)
    features = Features(
        station=window.station, camera="main", captured_at=from_ms(at), frame_id="f", sha256="0" * 64,
        bundle="any", encoder=encoder, quality=Quality(usable=True), camera_layout="whole",
        embeddings={
            "frame": rng.normal(size=EMBEDDING_SIZE).astype("<f4").tobytes(),
            "camera": rng.normal(size=CAMERA_SIZE).astype("<f4").tobytes(),
        },
        haze=rng.uniform(size=HAZE_SIZE).astype("<f4").tobytes(),
    )  # fmt: skip
    item = Item(window.station, at, at, ("main", at), features.sha256, features, 0)
    return replace(window, inputs={**window.inputs, "features": (item,)})


def fleet(count: int) -> dict[str, Station]:
    choices: Sequence[tuple[str, ...]] = (
        ("us-epa-2024",),
        ("in-naqi-2014", "us-epa-2024"),
        ("uk-daqi", "cn"),
    )
    return {
        f"s{number}": Station(station=f"s{number}", standards=choices[number % len(choices)])
        for number in range(count)
    }


def test_windows_that_close_together_come_out_as_one_by_one(head: Head) -> None:
    """Whatever is batched, an estimate's bytes are those of its window alone."""
    dice = np.random.default_rng(5)
    stations = fleet(9)
    steps = []
    for minute in range(1, 5):
        for name in stations:
            names = dice.choice(["pm25", "pm10", "no2", "so2", "co", "o3"], 3, replace=False)
            values = {str(one): float(dice.uniform(1, 200)) for one in names}
            steps.append((Close if minute > 2 else Expire)(view(name, NOON + minute * MINUTE, values)))

    def run(batches: list[list[Any]]) -> list[str]:
        assessor = Assessor(head, size_ms=MINUTE, lateness_ms=2 * MINUTE, snapshots={})
        return [
            estimate.model_dump_json()
            for batch in batches
            for estimate in assessor.run(batch, NOON + 2 * MINUTE, stations.get).estimates
        ]

    together = run([steps])
    assert together == run([[step] for step in steps])
    assert len(together) == 18
    found = [Estimate.model_validate_json(text) for text in together]
    assert {len(one.indices) for one in found} == {1, 2}
    for one in found:  # three of six pollutants are imputed in each window
        for block in one.indices:
            if block.index is not None and block.imputed_share:
                assert block.lo is not None
                assert block.hi is not None
                assert block.lo <= block.index <= block.hi


def test_what_another_encoder_made_of_a_frame_is_left_out_and_said(head: Head) -> None:
    # At a site of the bundle's training: elsewhere no picture is shown beside sensors.
    bare = view("biratnagar", NOON + MINUTE, {"pm25": 20.0, "no2": 15.0})

    def told(window: WindowView) -> Estimate:
        assessor = Assessor(head, size_ms=MINUTE, lateness_ms=0, snapshots={})
        [estimate] = assessor.run([Close(window)], NOON, lambda _: None).estimates
        return estimate

    blind, own, other = (
        told(window)
        for window in (bare, with_frame(bare, head.bundle.encoder), with_frame(bare, "0123456789abcdef"))
    )
    assert (own.inputs.frames[0].usable, own.inputs.frames[0].reasons) == (True, ())
    assert (other.inputs.frames[0].usable, other.inputs.frames[0].reasons) == (False, ("other_encoder",))
    assert other.pollutants == blind.pollutants != own.pollutants


def test_a_pollutant_that_the_bundle_never_learned_is_not_imputed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["training"] |= {"learned": ["pm25", "pm10", "no2"], "withheld": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assessor = Assessor(Head(Bundle.load(folder)), size_ms=MINUTE, lateness_ms=2 * MINUTE, snapshots={})
    values = {"pm25": 20.0, "so2": 5.0}
    final = Expire(view("s", NOON + MINUTE, values))  # begins an hour: what is learned skips it too
    published = Close(view("s", NOON + 2 * MINUTE, values))
    [estimate] = assessor.run([final, published], NOON + MINUTE, lambda _: None).estimates
    kinds = {name: one.kind for name, one in estimate.pollutants.items()}
    assert kinds == {"pm25": "measured", "pm10": "imputed", "no2": "imputed", "so2": "measured"}
    assert estimate.model is not None
    assert set(estimate.model.sensors) == {"pm25", "pm10", "no2"}


@pytest.mark.parametrize(("station", "looks"), [("s", False), ("biratnagar", True)])
def test_a_picture_is_shown_beside_sensors_only_where_the_bundle_was_trained(
    head: Head, station: str, looks: bool
) -> None:
    """At a site that it never saw, it makes the estimate worse than the sensors alone (docs/model.md)."""
    assert ("biratnagar" in head.bundle.manifest.training.sites) is True

    def told(values: dict[str, float], picture: bool) -> Estimate:
        window = view(station, NOON + MINUTE, values)
        window = with_frame(window, head.bundle.encoder) if picture else window
        assessor = Assessor(head, size_ms=MINUTE, lateness_ms=0, snapshots={})
        [estimate] = assessor.run([Close(window)], NOON, lambda _: None).estimates
        return estimate

    blind, seeing = told({"pm10": 60.0}, False), told({"pm10": 60.0}, True)
    assert blind.model is not None
    assert seeing.model is not None
    assert seeing.sides == "both"
    assert (seeing.model != blind.model) is looks
    assert (seeing.pollutants != blind.pollutants) is looks
    assert ("image" in seeing.model.shares) is looks
    only = told({}, True)
    assert only.model is not None, "where there is nothing else it is what there is"


def from_a_camera(head: Head, end: int, history: History, pm25: float) -> tuple[Estimate, History]:
    """An estimate of a station whose PM2.5 is imputed, between 0.8 and 1.5 times `pm25`, and nothing else."""
    window = Prepared(
        view=view("s0", end, {}), station=Station(station="s0", kind="camera-only"), measured={}, failed={},
        disputed={}, refused={},
        frames=(FrameUse(camera="roof", captured_at=from_ms(end - 1000), usable=True),),
        readings=0, humidity=None, weather={}, embedding=np.zeros(128, np.float32),
        haze=np.full(20, np.nan, np.float32), vector=np.full(6, np.nan, np.float32), hour=12.0, sight=None,
        rows=None, begins_hour=False,
    )  # fmt: skip
    (inferred,) = infer(head, [window], False)
    imputed = conclude(window, inferred, Air(history))["pm25"].model_copy(
        update={"value": pm25, "lo": 0.8 * pm25, "hi": 1.5 * pm25}
    )
    history = history.with_window(end, MINUTE, means({"pm25": imputed}, MINUTE))
    (estimate,) = assembled([Conclusion(window, inferred, {"pm25": imputed}, history)], "test")
    return estimate, history


def test_a_station_with_nothing_but_a_camera_opens_an_index_alert(head: Head) -> None:
    """It opens once the lower end of the index has reached the threshold for long enough, and says so."""
    rules = parse(RULE, "rules.toml")
    watch = Watch(rules, 2 * MINUTE, None)
    history, told, seen = History.empty(48), [], []
    for minute, pm25 in enumerate([30.0, 40.0, 60.0, 80.0, 80.0, 80.0, 80.0], 1):
        estimate, history = from_a_camera(head, NOON + minute * MINUTE, history, pm25)
        (block,) = estimate.indices
        assert block.index is not None
        assert block.lo is not None
        assert block.hi is not None
        assert block.lo < block.index < block.hi
        assert block.imputed_share == 1
        seen.append((block.lo, block.index, block.hi))
        told += watch.feed([estimate])
    assert [event.event for event in told] == ["open"]
    opened = told[0]
    reached = [low >= 101 for low, _, _ in seen]
    assert reached.index(True) > [value >= 101 for _, value, _ in seen].index(True), (
        "the value was there before"
    )
    assert opened.at.timestamp() * 1000 == NOON + (reached.index(True) + 3) * MINUTE
    low, value, high = seen[reached.index(True) + 2]
    assert (opened.values["low"], opened.values["value"], opened.values["high"]) == (low, value, high)
    assert f"({low} to {high}, imputed)" in opened.reason


@pytest.mark.parametrize(("gas", "value"), [("co", 400.0), ("no2", 0.75), ("so2", 20.0), ("o3", 60.0)])
@pytest.mark.parametrize("picture", [False, True])
def test_a_station_with_a_gas_alone_has_no_index_of_what_the_network_makes_of_it(
    head: Head, gas: Pollutant, value: float, picture: bool
) -> None:
    """Two days of windows of an hour; of the particles that the network makes of it the index is above 90."""
    assessor = Assessor(head, size_ms=HOUR, lateness_ms=HOUR, snapshots={})
    station = Station(station="s", standards=("us-epa-2024", "in-naqi-2014"))
    seen: set[int | None] = set()
    for hour in range(1, 49):
        # (Exactly the same value for a day is a stuck sensor.)
        window = view("s", NOON + hour * HOUR, {gas: value + 1e-3 * (hour % 5)})
        window = replace(window, start=window.end - HOUR)
        if picture:
            window = with_frame(window, head.bundle.encoder)
        steps: list[Step] = [Close(window), Expire(window)]
        [estimate] = assessor.run(steps, window.end, lambda _: station).estimates
        for block in estimate.indices:
            assert block.dominant == (gas,)
            assert block.index == block.subindices[gas]
            assert (block.lo, block.hi, block.imputed_share) == (None, None, 0.0)
            assert {"pm25", "pm10"} & block.subindices.keys() <= set(estimate.pollutants)
            if block.subindices.keys() - {gas}:
                assert "(never measured here)" in block.reason
        seen.add(estimate.indices[0].index)
        assert (estimate.indices[0].nowcast is None) == (gas != "o3")
        assert bool(estimate.indices[0].nowcast_reason) == (gas != "o3")
    assert len(seen) == 1  # constant air
