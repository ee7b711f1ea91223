"""What the network costs: time and memory for regions of 10, 100 and 1,000 stations.

Made stations of one pollutant on a grid, all heard but every twentieth. Time is that of one hour: what all
stations learn, and one estimate of everything; memory is the state as it is stored. In a region that is one
cell (up to 300 variables) it grows with the square of the variables; beyond, linearly with the stations,
which is what the line compares: the cost of a station among 1,000 and among the fewest that have cells of
their own.
"""

import argparse
import json
import statistics
import time
from typing import Final

import numpy as np

from network import region as network
from network.members import Members, Position, Variable
from network.stored import REGION
from schemas.times import HOUR_MS

#: Arguments with which it takes seconds.
SMALL: Final = ("--stations", "10", "30", "--hours", "3")

#: Degrees between stations: some 3 km.
_STEP = 0.03


def cost(stations: int, hours: int) -> dict[str, float]:
    """Milliseconds an hour (learning, estimating; median) and bytes of state."""
    side = int(np.ceil(np.sqrt(stations)))
    places = tuple(
        Position(45.0 + _STEP * (number // side), 9.0 + _STEP * (number % side)) for number in range(stations)
    )
    members = Members(tuple(Variable(f"s{number:04d}", "pm25") for number in range(stations)), places)
    random = np.random.default_rng(1)
    region = network.fresh(members)
    level = 3.0
    learning, estimating = [], []
    for hour in range(1, hours + 1):
        level += 0.1 * random.normal() - 0.05 * (level - 3.0)
        values = np.exp(level + 0.2 * random.normal(size=stations))
        values[hour % 20 :: 20] = np.nan
        start = time.perf_counter()
        network.estimate(region, hour * HOUR_MS, values)
        middle = time.perf_counter()
        region = network.learned(region, hour * HOUR_MS, values)
        estimating.append(middle - start)
        learning.append(time.perf_counter() - middle)
    return {
        "stations": stations,
        "learn_ms": 1000.0 * statistics.median(learning),
        "estimate_ms": 1000.0 * statistics.median(estimating),
        "bytes": float(len(REGION.encode(region))),
    }


def main(argv: list[str] | None = None) -> int:
    """Print the costs of three regions; end with one JSON line."""
    parser = argparse.ArgumentParser(prog="skyfuse bench network", description=__doc__)
    parser.add_argument("--stations", type=int, nargs="+", default=[10, 100, 400, 1000])
    parser.add_argument("--hours", type=int, default=12, help="hours that each region is played")
    options = parser.parse_args(argv)
    found = []
    for stations in options.stations:
        one = cost(stations, options.hours)
        found.append(one)
        print(
            f"{stations:5d} stations: learning {one['learn_ms']:.1f} ms an hour, all estimates"
            f" {one['estimate_ms']:.1f} ms, state {one['bytes'] / 1e6:.2f} MB"
            f" ({one['learn_ms'] / stations:.2f} ms and {one['bytes'] / stations / 1000:.1f} kB a station)"
        )
    first, last = (
        next((one for one in found if one["stations"] > network.WHOLE), found[-1]), found[-1],
    )  # fmt: skip
    value, baseline = last["learn_ms"] / last["stations"], first["learn_ms"] / first["stations"]
    line = {
        "name": "network", "value": round(value, 4), "unit": "ms/station/hour",
        "baseline": round(baseline, 4), "ratio": round(value / baseline, 4), "regions": found,
    }  # fmt: skip
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
