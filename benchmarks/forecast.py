"""What the forecasts of a city cost: all stations of a partition, one hour of event time, one core.

Made stations with a week of history and gaps, half of them with the weather to come. The time is that of
`Outlook.forecast` with its forecasts as JSON, and of all checkpoints: what the stage does once
an hour. The baseline is the bare network in ONNX Runtime, a row a station, as the stage runs it. Time is
processor time of the process, whose libraries have one thread.
"""

import argparse
import json
import time
from typing import Final

import numpy as np

from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle
from forecast.features import LOOKBACK, PAST
from forecast.hours import StationHours
from forecast.models import ANCHORS
from forecast.outlook import Outlook
from forecast.panel import HORIZON
from forecast.running import RunningRecord, place_of_hour
from forecast.stored import OUTLOOKS, StationOutlook
from forecast.taught import LocalRecord
from forecast.weather import WeatherAtHand
from fusion.intake import DEFAULT_STANDARDS
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from schemas.times import HOUR_MS

#: Arguments with which it takes seconds.
SMALL: Final = ("--stations", "20")
#: Hours since 1970 of the first hour that is forecast from.
_HOUR: Final = 489_192
#: Degrees between stations: some 3 km.
_STEP: Final = 0.03


def city(stations: int) -> dict[str, StationOutlook]:
    """Stations as they are remembered an hour before."""
    random = np.random.default_rng(1)
    found = {}
    for number in range(stations):
        name = f"s{number:04d}"
        hours = StationHours(_HOUR - 1)
        hours.means = random.gamma(2.0, 20.0, hours.means.shape).astype(np.float32)
        hours.means[random.random(hours.means.shape) < 0.1] = np.nan
        weather = WeatherAtHand(_HOUR - LOOKBACK)
        weather.values = random.normal(5.0, 3.0, weather.values.shape).astype(np.float32)
        if number % 2:
            weather.values[LOOKBACK:] = np.nan
        found[name] = StationOutlook(name, _HOUR * HOUR_MS, hours, weather, RunningRecord(), local=taught())
    return found


def taught() -> LocalRecord:
    """That of a station that was foretold each hour: of every anchor one forecast comes true."""
    found = LocalRecord()
    for place, anchor in enumerate(ANCHORS):
        at = place_of_hour(place, _HOUR - anchor)
        found.made[at], found.kept[at] = _HOUR - anchor, 40.0
    return found


def record(name: str) -> Station:
    """On a grid, so that all are one region."""
    number = int(name[1:])
    return Station(station=name, latitude=45 + _STEP * (number // 40), longitude=9 + _STEP * (number % 40))


def bare(bundle: ForecastBundle, stations: int) -> float:
    """Seconds of the bundle's first network, a row at a time."""
    import onnxruntime as ort

    entry = bundle.manifest.networks[0]
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(bundle.graphs[entry.file], options, providers=["CPUExecutionProvider"])
    _, coming = session.get_inputs()
    feeds = {
        "past": np.zeros((1, entry.window, PAST), np.float32),
        "future": np.zeros((1, HORIZON, coming.shape[2]), np.float32),
    }
    session.run(["change"], feeds)
    start = time.process_time()
    for _ in range(stations):
        session.run(["change"], feeds)
    return time.process_time() - start


def main(argv: list[str] | None = None) -> int:
    """Print what an hour costs; end with one JSON line."""
    parser = argparse.ArgumentParser(prog="skyfuse bench forecast", description=__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    options = parser.parse_args(argv)
    bundle = ForecastBundle.load(DEFAULT_FORECAST_BUNDLE)
    models = bundle.models()

    def outlook_of(stations: int) -> Outlook:
        return Outlook(models, "bench", bundle.normalisation.typical, DEFAULT_STANDARDS, city(stations))

    # What a worker does once in its life is done before: the ways through the trees, for reasons.
    outlook_of(2).forecast(_HOUR, record)
    outlook = outlook_of(options.stations)
    start = time.process_time()
    made = outlook.forecast(_HOUR, record)
    forecast = time.process_time()
    published = sum(len(one.model_dump_json()) for one in made)
    told = time.process_time()
    kept = sum(len(OUTLOOKS.encode(one)) for one in outlook.stations.values())
    stored = time.process_time()
    baseline = bare(bundle, options.stations)
    value = stored - start
    print(
        f"{len(made)} stations, {len(POLLUTANTS)} pollutants, {HORIZON} hours: {value:.1f} s of one core an"
        f" hour: forecasts {forecast - start:.1f} s, their JSON {told - forecast:.1f} s"
        f" ({published / len(made) / 1000:.0f} kB a station), checkpoints {stored - told:.1f} s"
        f" ({kept / len(made) / 1000:.0f} kB a station); the bare network {baseline:.1f} s"
    )
    line = {
        "name": "forecast", "value": round(value, 4), "unit": "s/hour", "baseline": round(baseline, 4),
        "ratio": round(value / baseline, 4), "stations": options.stations,
    }  # fmt: skip
    print(json.dumps(line))
    return 0
