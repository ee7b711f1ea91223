"""What quality control finds and what it accuses wrongly, on the real hourly series of ../shared/data.

False alarms are counted on the untouched series (every reading taken as true, although some are not);
detection on copies with faults put in at known places, each kind in its own copy. The baseline is a range
check alone, which is what most platforms do. Deterministic: the places are drawn with a fixed seed.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from aqi import quality
from aqi.comparisons import Neighbour, channels, neighbours
from aqi.flags import FAIL, GROSS_RANGE, MISSING, NOT_EVALUATED, SUSPECT, TESTS, Verdict, tests_in
from aqi.limits import Limits
from aqi.quality import FRESH
from aqi.quality_defaults import defaults
from schemas.parameters import POLLUTANTS
from tests.aqi import series

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--series", "5", "--hours", "800", "--faults", "1")
#: What it needs beside a checkout, as markers of tests.
NEEDS: Final = ("realdata",)

HOUR_MS = 3_600_000
Series = npt.NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Fault:
    """A way a sensor goes wrong: how long, and what it then reads instead of `true` (hours in a row)."""

    name: str
    hours: int
    read: Callable[[Series, Limits, Random], Series]


def _size(limit: float | None) -> float:
    assert limit is not None, "the default limits have this test"
    return limit


def _noise(limits: Limits, random: Random, count: int) -> Series:
    return _size(limits.flat_tolerance) * random.uniform(-0.4, 0.4, count)


FAULTS = [
    Fault("error code -999 or 65535", 1, lambda x, _, r: np.full_like(x, r.choice([-999.0, 65535.0]))),
    Fault("spike, 2 x limit", 1, lambda x, lim, _: x + 2 * _size(lim.spike)),
    Fault("spike, 1.5 x fail limit", 1, lambda x, lim, _: x + 1.5 * _size(lim.spike_fail)),
    Fault("stuck for 18 h", 18, lambda x, _, __: np.full_like(x, x[0])),
    Fault("stuck for 60 h", 60, lambda x, _, __: np.full_like(x, x[0])),
    Fault("flat within tolerance, 18 h", 18, lambda x, lim, r: x[0] + _noise(lim, r, len(x))),
    Fault("dead at zero for 18 h", 18, lambda x, _, __: np.zeros_like(x)),
    Fault("level x 3 for 24 h", 24, lambda x, _, __: x * 3),
    Fault("drift, + 1 % per hour, 72 h", 72, lambda x, _, __: x * (1 + 0.01 * np.arange(len(x)))),
]  # fmt: skip


def judged(limits: Limits, values: Series) -> list[Verdict]:
    """Verdicts of an hourly series."""
    readings = [(hour * HOUR_MS, None if v != v else v) for hour, v in enumerate(values.tolist())]
    return quality.judge(limits, FRESH, readings)[0]


def places(values: Series, hours: int, random: Random, most: int) -> list[int]:
    """Starts of up to `most` stretches of `hours` hours, without gaps in or around them, far apart."""
    whole = ~np.isnan(values)
    margin = 4
    length = hours + 2 * margin
    if len(values) < length:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(whole, length).all(axis=1)
    chosen: list[int] = []
    for start in random.permutation(np.flatnonzero(windows)).tolist():
        if all(abs(start - other) > length + 24 for other in chosen):
            chosen.append(start)
        if len(chosen) == most:
            break
    return [start + margin for start in chosen]


def false_alarms(stations: Iterable[tuple[str, dict[str, Series]]]) -> dict[str, Counter[str]]:
    """Per pollutant: readings, suspect, fail, objections of each test, and failed readings by station."""
    counts: dict[str, Counter[str]] = {parameter: Counter() for parameter in POLLUTANTS}
    for name, pollutants in stations:
        for parameter, values in pollutants.items():
            count = counts[parameter]
            for verdict in judged(defaults().limits[parameter], values):
                if verdict.flag == MISSING:
                    continue
                count["readings"] += 1
                count["suspect"] += verdict.flag == SUSPECT
                if verdict.flag == FAIL:
                    count["fail"] += 1
                    count[f"failed at {name}"] += 1
                for test in tests_in(verdict.tests):
                    count[test] += 1
    return counts


@dataclass
class Found:
    """Of the faults put in: how many were objected to at all, by a range check alone, and readings failed."""

    faults: int = 0
    found: int = 0
    by_range: int = 0
    readings: int = 0
    failed: int = 0
    delay_h: int = 0


def detection(stations: Iterable[tuple[str, dict[str, Series]]], most: int) -> dict[str, Found]:
    """Per kind of fault what was found: a fault of which any reading is suspect or failed."""
    result = {fault.name: Found() for fault in FAULTS}
    random = np.random.default_rng(20)
    for _, pollutants in stations:
        for parameter, values in pollutants.items():
            limits = defaults().limits[parameter]
            for fault in FAULTS:
                starts = places(values, fault.hours, random, most)
                broken = values.copy()
                for start in starts:
                    span = slice(start, start + fault.hours)
                    broken[span] = fault.read(values[span], limits, random)
                verdicts = judged(limits, broken)
                found = result[fault.name]
                for start in starts:
                    inside = verdicts[start : start + fault.hours]
                    bad = [hour for hour, v in enumerate(inside) if v.flag in (SUSPECT, FAIL)]
                    found.faults += 1
                    found.found += bool(bad)
                    found.delay_h += bad[0] if bad else 0
                    found.by_range += any(v.tests & GROSS_RANGE for v in inside)
                    found.readings += fault.hours
                    found.failed += sum(v.flag == FAIL for v in inside)
    return result


def faulty_channels(stations: Iterable[tuple[str, dict[str, Series]]]) -> dict[str, float]:
    """A/B channels made from real PM2.5: a second channel with 10 % noise, and one that has failed."""
    random = np.random.default_rng(21)
    rule = defaults().channels
    totals: Counter[str] = Counter()
    for _, pollutants in stations:
        a = pollutants["pm25"][~np.isnan(pollutants["pm25"])]
        twins = {
            "agreeing (10 % noise)": a * random.normal(1, 0.1, len(a)),
            "one dead at zero": np.zeros_like(a),
            "one reading 3 x + 10": 3 * a + 10,
        }
        for name, b in twins.items():
            totals[name] += sum(
                channels(x, y, rule).flag == FAIL for x, y in zip(a.tolist(), b.tolist(), strict=True)
            )
        totals["n"] += len(a)
    return {name: count / totals["n"] for name, count in totals.items() if name != "n"}


def faulty_neighbours(stations: list[tuple[str, dict[str, Series]]]) -> tuple[float, float, int]:
    """(false alarms, detection of x 3 + 50, readings) of the neighbour rule over PM2.5 of one city."""
    rule = defaults().neighbours
    table = np.array([pollutants["pm25"] for _, pollutants in stations])
    alarms = found = count = 0
    for hour in range(0, table.shape[1], 7):
        column = table[:, hour].tolist()
        for own, value in enumerate(column):
            if value != value:
                continue
            around = [Neighbour(5.0, 0.0, other) for place, other in enumerate(column) if place != own]
            if neighbours(value, around, rule).flag == NOT_EVALUATED:
                continue
            count += 1
            alarms += neighbours(value, around, rule).flag == SUSPECT
            found += neighbours(3 * value + 50, around, rule).flag == SUSPECT
    return alarms / count, found / count, count


def main(argv: list[str] | None = None) -> int:
    """Prints both tables and ends in one JSON line: the share of faults found."""
    parser = argparse.ArgumentParser(prog="skyfuse bench aqi_quality", description=__doc__)
    parser.add_argument("--hours", type=int, default=10_920, help="of each series for the detection rates")
    parser.add_argument("--faults", type=int, default=25, help="of each kind per series, at most")
    parser.add_argument("--series", type=int, help="so many stations of each set; all otherwise")
    chosen = parser.parse_args(argv)
    if not series.files():
        print(f"no series at {series.ROOT}: this benchmark needs the real data", file=sys.stderr)
        return 2
    sets: dict[str, list[tuple[str, dict[str, Series]]]] = {}
    for path in series.files():
        name = path.name.split(".")[0].removeprefix("PRSA_Data_").split("_")[0]
        stations = sets.setdefault(path.parent.name, [])
        if chosen.series is None or len(stations) < chosen.series:
            stations.append((name, series.station(path)))

    for label, stations in sets.items():
        print(f"\n{label}: untouched series, % of readings objected to")
        print(f"{'':6}{'readings':>9}{'suspect':>9}{'fail':>8}   by test; failed readings by station")
        for parameter, count in false_alarms(stations).items():
            n = count["readings"]
            tests = ", ".join(f"{t} {100 * count[t] / n:.3f}" for t in TESTS if count[t])
            failed = ", ".join(f"{k[10:]} {v}" for k, v in sorted(count.items()) if k.startswith("failed at"))
            print(
                f"{parameter:6}{n:9}{100 * count['suspect'] / n:9.3f}{100 * count['fail'] / n:8.3f}   {tests}"
                + (f"; {failed}" if failed else "")
            )

    short = [
        (name, {parameter: values[: chosen.hours] for parameter, values in pollutants.items()})
        for stations in sets.values()
        for name, pollutants in stations
    ]
    print(
        f"\n{'faults put in':30}{'faults':>7}{'found %':>9}{'range only %':>14}{'failed %':>10}{'after h':>9}"
    )
    total = Found()
    for fault, found in detection(short, chosen.faults).items():
        print(
            f"{fault:30}{found.faults:7}{100 * found.found / found.faults:9.1f}"
            f"{100 * found.by_range / found.faults:14.1f}{100 * found.failed / found.readings:10.1f}"
            f"{found.delay_h / max(found.found, 1):9.1f}"
        )
        total.faults += found.faults
        total.found += found.found
        total.by_range += found.by_range

    print("\nA/B channels (PM2.5), % of readings failed")
    for twin, share in faulty_channels(short).items():
        print(f"  {twin:24}{100 * share:8.2f}")
    alarms, detected, compared = faulty_neighbours(sets["beijing"])
    print(
        f"\nneighbour rule, 8 stations of Beijing taken as within its radius (they are not: an upper bound), "
        f"{compared} readings:\n"
        f"  suspect {100 * alarms:.2f} % untouched, {100 * detected:.2f} % of readings x 3 + 50"
    )
    value, baseline = 100 * total.found / total.faults, 100 * total.by_range / total.faults
    print(
        json.dumps(
            {
                "name": "aqi-quality",
                "value": round(value, 1),
                "unit": "% of faults found",
                "baseline": round(baseline, 1),
                "ratio": round(value / baseline, 2),
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
