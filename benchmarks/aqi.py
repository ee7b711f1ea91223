"""How fast concentrations become indices: table look-ups per second, and one window of 1,000 stations.

Baselines in the same run: the same look-ups one at a time through decimal arithmetic, and the same window
assessed station by station. Needs nothing but the package. One core; the best of several repeats, as other
work on the machine only ever adds time.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from aqi import quality, standards
from aqi.history import History
from aqi.index import assess, assess_many
from aqi.quality_defaults import defaults
from aqi.slots import Mean
from aqi.subindex import subindices
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--stations", "20", "--values", "200", "--repeats", "1")

MINUTE_MS = 60_000
T0 = 1_700_000_000_000 // HOUR_MS * HOUR_MS
TYPICAL = {"pm25": 45.0, "pm10": 90.0, "no2": 40.0, "so2": 10.0, "co": 900.0, "o3": 60.0}


def best_of(repeats: int, run: Callable[[], object]) -> float:
    """Seconds of the fastest of `repeats` runs, with the garbage of the one before collected."""
    fastest = float("inf")
    for _ in range(repeats):
        gc.collect()
        start = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def look_ups(count: int, repeats: int) -> tuple[float, float]:
    """Sub-indices per second, (vectorised, one by one), over every table of every standard."""
    random = np.random.default_rng(1)
    tables = [
        standards.load(name).measures[key]
        for name in standards.available()
        if name not in ("cn", "us-epa")
        for key in standards.load(name).measures
    ]
    arrays = [
        # Half as sensors print them (one decimal: on the edges of truncation), half with all digits.
        np.concatenate([values[::2].round(1), values[1::2]])
        for table in tables
        for values in [random.uniform(0, 1.5 * table.segments[-1][1] * 10.0**-table.digits, count)]
    ]

    def vectorised() -> None:
        for table, array in zip(tables, arrays, strict=True):
            table.indices(array)

    few = [(table.index, array[:50].tolist()) for table, array in zip(tables, arrays, strict=True)]

    def one_by_one() -> None:
        for index, values in few:
            for value in values:
                index(value)

    total = len(tables) * count
    return total / best_of(repeats, vectorised), 50 * len(tables) / best_of(repeats, one_by_one)


class City:
    """Stations and one reading per pollutant in the window to come.

    The costly mixture: a third are complete, a third rest on imputed hours, a third have just begun; those
    that are not valid have reasons to be written. And the window is the first of its hour.
    """

    def __init__(self, stations: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.limits = [defaults().limits[parameter] for parameter in POLLUTANTS]
        self.histories: list[History] = []
        self.states: list[list[quality.SensorState]] = []
        self.readings = (
            np.array(list(TYPICAL.values())) * random.lognormal(0, 0.05, (stations, len(POLLUTANTS)))
        ).tolist()
        self.at_ms = T0 + 26 * HOUR_MS + MINUTE_MS
        for station in range(stations):
            history = History.empty(48)
            levels = random.lognormal(0, 0.5, (26, len(POLLUTANTS)))
            for hour in range(21 if station % 3 == 0 else 0, 26):
                imputed_s = 3540 if station % 3 == 1 and hour > 12 else 0
                means: dict[str, Mean] = {
                    parameter: Mean(
                        float(TYPICAL[parameter] * levels[hour, column]), 3540 - imputed_s, imputed_s
                    )
                    for column, parameter in enumerate(POLLUTANTS)
                    if (station + hour) % 11  # some hours are missing
                }
                history = history.with_hour(T0 + (hour + 1) * HOUR_MS, means)
            self.histories.append(history)
            states = []
            for column, parameter in enumerate(POLLUTANTS):
                past = [
                    (self.at_ms - back * MINUTE_MS, float(TYPICAL[parameter] * random.lognormal(0, 0.05)))
                    for back in range(12, 0, -1)
                ]
                states.append(quality.judge(self.limits[column], quality.FRESH, past)[1])
            self.states.append(states)

    def check(self) -> None:
        """Quality control of the window: one reading per station and pollutant."""
        for states, values in zip(self.states, self.readings, strict=True):
            for limits, state, value in zip(self.limits, states, values, strict=True):
                quality.step(limits, state, self.at_ms, value)

    def with_window(self) -> list[History]:
        """The histories with the window in them."""
        return [
            history.with_window(
                self.at_ms,
                MINUTE_MS,
                {parameter: Mean(value, 60) for parameter, value in zip(POLLUTANTS, values, strict=True)},
            )
            for history, values in zip(self.histories, self.readings, strict=True)
        ]


def main(argv: list[str] | None = None) -> int:
    """Prints what was measured and ends in one JSON line: the window's milliseconds."""
    parser = argparse.ArgumentParser(prog="skyfuse bench aqi", description=__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--values", type=int, default=20_000, help="concentrations per table")
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args(argv)

    fast, slow = look_ups(chosen.values, chosen.repeats)
    print(f"sub-indices, arrays:        {fast:12,.0f} per second (at least 200,000 wanted)")
    print(f"sub-indices, one by one:    {slow:12,.0f} per second")

    city = City(chosen.stations, seed=2)
    check = best_of(chosen.repeats, city.check) * 1e3
    fold = best_of(chosen.repeats, city.with_window) * 1e3
    histories, ats = city.with_window(), [city.at_ms] * chosen.stations
    print(f"{chosen.stations} stations, one window:")
    print(f"  quality control, {len(POLLUTANTS)} readings each:  {check:8.1f} ms")
    print(f"  window into the histories:          {fold:8.1f} ms")
    index = {}
    for name in ("us-epa-2024", "in-naqi-2014", "cn-hj633-2026", "eaqi-2025", "uk-daqi"):
        standard = standards.load(name)

        def batch(standard: standards.Standard = standard) -> None:
            assess_many(standard, histories, ats)

        index[name] = best_of(chosen.repeats, batch) * 1e3
        print(f"  index {name:<16} {'(with NowCast)' if standard.nowcast else '':<14} {index[name]:8.1f} ms")
    us = standards.load("us-epa-2024")
    singly = best_of(2, lambda: [assess(us, history, city.at_ms) for history in histories]) * 1e3
    print(f"  index us-epa-2024, station by station: {singly:5.1f} ms")
    value = check + index["us-epa-2024"]
    print(f"  quality control + US index:         {value:8.1f} ms (at most 50 wanted)")
    assert not np.isnan(subindices(us, "pm25", "24h", [35.9])).any()
    print(
        json.dumps(
            {
                "name": "aqi",
                "value": round(value, 2),
                "unit": f"ms per window of {chosen.stations} stations",
                "baseline": round(check + singly, 2),
                "ratio": round((check + singly) / value, 2),
                "subindices_per_s": round(fast),
                "subindices_per_s_one_by_one": round(slow),
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
