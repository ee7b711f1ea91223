"""Six days of three stations, for stored state with something in every part of it. No file, no clock."""

import numpy as np

from camera.far_band import ROWS
from camera.haze import HAZE_SIZE
from camera.sight import CAMERA_SIZE
from schemas.base import from_ms
from schemas.estimate import Estimate, IndexBlock, Inputs, PollutantEstimate, Window
from schemas.features import Features, Quality
from schemas.reading import Quantity
from schemas.station import Camera, FarBand, Sensor, Station
from streams.join import Item, WindowView

MINUTE = 60_000
HOUR = 3_600_000
START = 1_750_204_800_000  # midnight, UTC
LATENESS = 2 * MINUTE
#: Hours of one window each, and the minutes after them.
HOURS = 126
MINUTES = 14

STATIONS = {
    "cam": Station(
        station="cam", latitude=48.1, longitude=11.6, standards=("us-epa-2024", "in-naqi-2014"),
        cameras=(Camera(camera="main", far_band=FarBand(top=0.3, bottom=0.5)),),
        sensors=(Sensor(sensor="pa", parameters=("pm25",), correction="linear:slope=0.8,offset=1.5"),),
    ),
    "find": Station(station="find", latitude=45.5, longitude=9.2, cameras=(Camera(camera="main"),)),
}  # fmt: skip


def windows(encoder: str, minutes: int = MINUTES) -> list[WindowView]:
    """In order of time: a window an hour, then one a minute."""
    dice = np.random.default_rng(22)
    ends = [START + hour * HOUR + 5 * MINUTE for hour in range(HOURS)]
    ends += [ends[-1] + HOUR + minute * MINUTE for minute in range(minutes)]
    slopes, offset = dice.normal(0, 1, CAMERA_SIZE), dice.normal(0, 3, CAMERA_SIZE)
    level, made = 3.0, []
    for number, end in enumerate(ends):
        level += 0.03 * (3.0 - level) + dice.normal(0, 0.2)
        pm25 = float(np.expm1(max(level, 0.2)))
        vector = offset + slopes * (level + dice.normal(0, 0.2)) + dice.normal(0, 1, CAMERA_SIZE)
        rows = dice.normal(0, 0.05, ROWS) + 3.0
        rows -= 0.3 * level * np.exp(-(((np.arange(ROWS) - 13) / 2.0) ** 2))
        silent = number > 60 and number % 20 < 6
        frames = {"camera": vector, "camera_whole": vector + dice.normal(0, 0.5, CAMERA_SIZE)}
        readings = [("o3", 50.0 + number % 9, "main", "value")]
        if not silent:
            readings += [("pm25", pm25, "pa", "value_a"), ("pm25", pm25 * 1.02, "pa", "value_b")]
        if number % 7:
            readings.append(("relativehumidity", 40.0 + number % 50, "main", "value"))
        made.append(_view("cam", end, readings, [("main", number // 2, frames, "far", encoder)]))
        camera = "main" if number < HOURS - 2 else "second"
        frames = {"camera": vector, "rows": rows}
        made.append(
            _view(
                "find", end, [("pm25", round(pm25, 3), "a", "value")],
                [(camera, number, frames, "whole", encoder)],
            )
        )  # fmt: skip
        # A stuck sensor, a spike, an impossible value, a pollutant that is heard no more.
        readings = [("pm10", 44.0 if number > 100 else 1.6 * pm25, "a", "value")]
        readings += [("pm10", 900.0 if number == 110 else 1.5 * pm25, "b", "value")]
        if number < 20:
            readings.append(("so2", 9.0 if number % 4 else 19_000.0, "a", "value"))
        if number % 50:
            made.append(_view("gas", end, readings, []))
    return made


def later(encoder: str) -> list[WindowView]:
    """The windows that follow those, into the hour after next."""
    return windows(encoder, MINUTES + 50)[len(windows(encoder)) :]


def _view(
    station: str,
    end: int,
    readings: list[tuple[str, float, str, str]],
    frames: list[tuple[str, int, dict[str, np.ndarray], str, str]],
) -> WindowView:
    at = end - 30_000
    measured = [
        Item(
            station, at, at, (sensor, parameter, channel, at), "",
            Quantity(parameter, value, "%" if parameter == "relativehumidity" else "ug/m3", sensor, channel),
            0,
        )
        for parameter, value, sensor, channel in readings
    ]  # fmt: skip
    pictures = []
    for camera, scene, parts, layout, encoder in frames:
        random = np.random.default_rng([scene, len(camera)])
        features = Features(
            station=station, camera=camera, captured_at=from_ms(at), frame_id=f"{camera}/{at}",
            sha256="0" * 64, bundle="b", encoder=encoder, quality=Quality(usable=True), camera_layout=layout,
            embeddings={
                "frame": random.normal(size=128).astype("<f4").tobytes(),
                **{name: part.astype("<f4").tobytes() for name, part in parts.items()},
            },
            haze=random.uniform(size=HAZE_SIZE).astype("<f4").tobytes(), digest=f"{scene:016x}",
        )  # fmt: skip
        pictures.append(Item(station, at, at, (camera, at), features.sha256, features, 0))
    measured.sort(key=lambda item: item.identity)
    inputs = {"readings": tuple(measured)} | ({"features": tuple(pictures)} if pictures else {})
    return WindowView(station, end - MINUTE, end, len(measured) + len(pictures), inputs)


#: Alert rules with every kind of evidence.
RULES = """
[[rule]]
id = "pm"
what = "concentration"
parameter = "pm25"
rests_on = "lower_bound"
open_after = "2m"
clear_after = "2m"
steps = [
    { severity = "minor", enter = 100, leave = 90 },
    { severity = "severe", enter = 200, leave = 190 },
]

[[rule]]
id = "us"
what = "index"
standard = "us-epa-2024"
rests_on = "lower_bound"
steps = [{ severity = "minor", enter = 101, leave = 96 }]

[[rule]]
id = "quiet"
what = "silence"
clear_after = "2m"
steps = [{ severity = "minor", enter = 3 }, { severity = "moderate", enter = 8 }]
"""
#: How far back windows may be revised in `estimates`, ms.
HORIZON = 6 * MINUTE


def estimates(minutes: int = 40) -> list[Estimate]:
    """Of three stations: alerts that open, rise, clear and are mended, unknown bounds, a silence."""
    dice = np.random.default_rng(23)
    made = []
    for minute in range(minutes):
        for station in ("a", "b", "c"):
            if station == "c" and minute > 30:
                continue
            value = round(float(120 + 100 * (minute // 9 % 2) + dice.normal(0, 15)), 3)
            if station == "b" and minute > 20:
                value = 20.0
            imputed = station == "b" and minute % 5 == 0
            made.append(_estimate(station, minute, 1, value, imputed))
            if minute % 6 == 5:
                made.append(_estimate(station, minute - 2, 2, value - 40, False))
    return made


def later_estimates() -> list[Estimate]:
    """The estimates that follow those."""
    return estimates(70)[len(estimates()) :]


def _estimate(station: str, minute: int, revision: int, value: float, imputed: bool) -> Estimate:
    end = START + (minute + 1) * MINUTE
    pm25 = (
        PollutantEstimate(value=value, kind="imputed", qc=9, method="head")
        if imputed
        else PollutantEstimate(value=value, kind="measured", qc=1, method="mean", n=6, sensors=("main",))
    )
    block = IndexBlock(
        standard="us-epa-2024", index=int(value), category="x", level=2, dominant=("pm25",),
        status="indicative", imputed_share=1.0 if imputed else 0.0, lo=None, hi=None,
    )  # fmt: skip
    return Estimate(
        station=station, window=Window(start=from_ms(end - MINUTE), end=from_ms(end)), revision=revision,
        sides="sensors", pollutants={"pm25": pm25}, indices=(block,), inputs=Inputs(readings=6), bundle="b",
    )  # fmt: skip
