"""Which of a station's cameras its virtual sensors look through."""

from dataclasses import replace

import pytest

from aqi.quality_defaults import defaults
from fusion.intake import Intake, take_in
from schemas.features import Features
from schemas.station import Camera, Station
from streams.join import Item, WindowView
from tests.fusion.test_imputation import HEAD, MINUTE, NOON, view, with_picture


def seen_by(cameras: str, broken: str = "") -> WindowView:
    """A window with a frame of each camera; what `broken` ones show cannot be used."""
    window = with_picture(view(NOON + MINUTE, {"pm25": 20.0}), 1.0, 1.0, seed=4)
    [item] = window.inputs["features"]
    frames = []
    for name in sorted(cameras):
        features: Features = item.payload
        quality = features.quality.model_copy(update={"usable": name not in broken})
        mine = features.model_copy(update={"camera": name, "quality": quality})
        frames.append(Item("s", item.time, item.seen, (name, item.time), "", mine, 0))
    return replace(window, inputs={**window.inputs, "features": tuple(frames)})


@pytest.mark.parametrize(
    ("order", "broken", "first"),
    [("zab", "", "z"), ("baz", "", "b"), ("zab", "z", "a"), ("", "", "a"), ("y", "", "a")],
)
def test_the_first_camera_of_the_record_that_shows_anything_is_looked_through(
    order: str, broken: str, first: str
) -> None:
    station = Station(station="s", cameras=tuple(Camera(camera=name) for name in order))
    prepared, _ = take_in(seen_by("abz", broken), station, Intake(), defaults(), HEAD.bundle.encoder)
    assert prepared.sight is not None
    assert prepared.sight.layout.startswith(f"{first}@")
