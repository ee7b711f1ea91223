"""What the virtual sensor costs, and what it is worth.

Cost, on a made station: milliseconds per hourly update, per prediction, and bytes of state; the
baseline of the same run fits the same ridge regression afresh on all pairs kept so far. Worth, where
the real camera's data are at hand (`--data`): the online evaluation on milan-webcam, beside the last
value, the mean of the hour and the global head.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from camera.readout import RIDGE
from camera.sight import CAMERA_SIZE, Sight
from camera.virtual_sensor import VirtualSensor, predict, update
from model.bundle.bundle import Bundle
from model.evaluation.histories import read_milan
from model.evaluation.online import evaluate_online
from schemas.state import pack

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--pairs", "60", "--data", "none")

HOUR_MS = 3_600_000


def _milliseconds(runs: int, once: Callable[[int], object]) -> float:
    """Median time of a call."""
    times = []
    for index in range(runs):
        start = time.perf_counter()
        once(index)
        times.append(time.perf_counter() - start)
    return 1000.0 * statistics.median(times)


def cost(pairs: int) -> dict[str, float]:
    """Times (ms) and size (bytes) after so many pairs."""
    random = np.random.default_rng(1)
    level = 3.0 + 0.5 * np.sin(np.arange(pairs) / 9.0) + random.normal(0, 0.2, pairs)
    vectors = (level[:, None] + random.normal(0, 1, (pairs, CAMERA_SIZE))).astype(np.float32)
    values = np.expm1(level)
    state: VirtualSensor | None = None
    for index in range(pairs):
        state = update(state, index * HOUR_MS, Sight("whole", vectors[index]), float(values[index]))
    assert state is not None
    kept, end = state, pairs * HOUR_MS
    newest = [kept]
    sights = [Sight("whole", vector) for vector in vectors]

    def refit(_: int) -> object:
        inputs = vectors.astype(np.float64)
        standard = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
        gram = standard.T @ standard + RIDGE * np.eye(CAMERA_SIZE)
        return np.linalg.solve(gram, standard.T @ (level - level.mean()))

    def hour(index: int) -> None:
        # One after the other: the readout that follows from an hour is solved when the next one asks for it.
        [before], at = newest, end + index * HOUR_MS
        newest[:] = [update(before, at, sights[index % pairs], float(values[index % pairs])) or before]

    return {
        "update": _milliseconds(400, hour),
        "predict": _milliseconds(400, lambda i: predict(kept, end, sights[i % pairs])),
        "refit": _milliseconds(60, refit),
        "bytes": float(len(pack(kept))),
    }


def main(argv: list[str] | None = None) -> int:
    """Print times, and the evaluation where the data are; end with one JSON line."""
    parser = argparse.ArgumentParser(prog="skyfuse bench virtual_sensor", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000, help="pairs learned from (hours of daylight)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/milan-webcam"))
    options = parser.parse_args(argv)
    found = cost(options.pairs)
    print(f"after {options.pairs} pairs:")
    print(f"  update        {found['update']:.3f} ms an hour, station and pollutant (limit 1 ms)")
    print(f"  predict       {found['predict']:.3f} ms")
    print(f"  refit on all  {found['refit']:.3f} ms (baseline; it keeps {4 * CAMERA_SIZE} bytes a pair)")
    print(f"  state         {found['bytes']:.0f} bytes (limit 11,000)")
    worth: dict[str, float] = {}
    if options.data.is_dir():
        report = evaluate_online(read_milan(options.data), Bundle.load())
        print("\n" + report.to_markdown())
        for outcome in report.outcomes:
            worth[outcome.name] = round(outcome.skills["virtual sensor"].rmse, 3)
    else:
        print(f"{options.data} is not there: nothing is said about a real camera.")
    line = {
        "name": "virtual_sensor",
        "value": round(found["update"], 4),
        "unit": "ms/update",
        "baseline": round(found["refit"], 4),
        "ratio": round(found["update"] / found["refit"], 4) if math.isfinite(found["refit"]) else None,
        "state_bytes": int(found["bytes"]),
        "rmse_ugm3": worth,
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
