"""How large the local store gets, and how long its users wait, with retention and without.

Windows of some stations (minutes, or longer ones: --window-minutes), as the sink writes them (polls of 2,000
estimates, each followed by what the sink tidies up), day after day in event time, as fast as they can be
written. The estimates are costly ones: all six pollutants, two standards, a model output. Beside it a reader
asks again and again for the newest window of each station and for one station's last hour.

Baseline: the same store without retention, of which two days are written (--baseline-days), since it grows by
the same amount each day. Sizes grow with the number of stations; what 1,000 take is worked out from these.
Value: bytes of the file at its largest.
"""

import argparse
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.sink import estimates
from schemas.base import from_ms
from schemas.estimate import Estimate, Window
from settings.sections import RetentionSettings
from sinks.retention import Retention
from sinks.store import Store

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--stations", "2", "--days", "1", "--baseline-days", "1")

_START_MS: Final = 1_767_225_600_000
_DAY_MS: Final = 86_400_000
_POLL: Final = 2_000


def polls(stations: int, days: int, minutes: int) -> Iterator[list[Estimate]]:
    """Polls of a city's windows of `minutes`; values repeat after a while, which no one here looks at."""
    repeat, size = max(4, 3000 // stations), 60_000 * minutes
    some = estimates(stations, repeat)
    made = (
        one.model_copy(update={"window": Window(start=from_ms(start), end=from_ms(start + size))})
        for number in range(days * 1440 // minutes)
        for start in (_START_MS + size * number,)
        for one in some[number % repeat * stations : (number % repeat + 1) * stations]
    )
    while poll := list(itertools.islice(made, _POLL)):
        yield poll


class Reader:
    """Asks a store for what `up` and `query` ask for, until it is stopped; the times in seconds."""

    def __init__(self, path: Path, station: str) -> None:
        self.times: list[float] = []
        self._path, self._station = path, station
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _ask(self) -> None:
        while True:
            began = time.perf_counter()
            with Store(self._path, read_only=True) as store:
                store.latest()
                store.read(self._station, limit=60)
            self.times.append(time.perf_counter() - began)
            if self._done.wait(0.2):
                return


class Found(NamedTuple):
    """What became of one store: its size in bytes after each day, and waits in s."""

    sizes: list[int]
    windows: int
    windows_per_s: float
    longest_write_s: float
    longest_tidy_s: float
    reader_p50_s: float
    reader_longest_s: float


def run(folder: Path, stations: int, days: int, minutes: int, retention: Retention | None) -> Found:
    """Fill one store with windows of `minutes`."""
    path = folder / "store.sqlite"
    worst_write = worst_tidy = 0.0
    written = 0
    sizes: list[int] = []
    clock = (_START_MS + (days + 1) * _DAY_MS) / 1000
    began = time.perf_counter()
    with (
        Store(path, retention=retention, clock=lambda: clock) as store,
        Reader(path, f"station-{stations // 2:04}") as reader,
    ):
        for poll in polls(stations, days, minutes):
            at = time.perf_counter()
            store.write(poll)
            done = time.perf_counter()
            store.tidy(2 * len(poll))
            worst_write = max(worst_write, done - at)
            worst_tidy = max(worst_tidy, time.perf_counter() - done)
            written += len(poll)
            if written // (stations * 1440 // minutes) > len(sizes):
                sizes.append(path.stat().st_size)
                kept = "with" if retention else "without"
                print(f"day {len(sizes):3} {kept} retention: {sizes[-1] / 1e6:9.1f} MB", flush=True)
        seconds = time.perf_counter() - began
    sizes[-1] = path.stat().st_size  # with all that was in the journal
    times = sorted(reader.times)
    return Found(
        sizes, written, written / seconds, worst_write, worst_tidy, times[len(times) // 2], times[-1]
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Prints the size day by day and ends in one JSON line."""
    parser = argparse.ArgumentParser(prog="bench store", description=__doc__)
    parser.add_argument("--stations", type=int, default=50)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--window-minutes", type=int, default=1, help="must divide a day")
    parser.add_argument("--baseline-days", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the stores are made; a temporary folder otherwise")
    arguments = parser.parse_args(argv)
    stations, days, minutes = arguments.stations, arguments.days, arguments.window_minutes
    if 1440 % minutes:
        parser.error("--window-minutes must divide a day")
    kept = RetentionSettings()
    whole = kept.windows.days
    retention = Retention(windows=whole * _DAY_MS, hours=kept.hours.days * _DAY_MS)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        bare, found = Path(folder) / "without", Path(folder) / "with"
        bare.mkdir()
        found.mkdir()
        grows = run(bare, stations, arguments.baseline_days, minutes, None)
        stays = run(found, stations, days, minutes, retention)
    for name in ("windows_per_s", "longest_write_s", "longest_tidy_s", "reader_p50_s", "reader_longest_s"):
        print(f"{name:18} {getattr(stays, name):10.4f}   without retention {getattr(grows, name):10.4f}")
    window = grows.sizes[-1] / grows.windows
    print(f"a window takes {window:.0f} bytes")
    if days > whole + 3:
        # Once windows leave at the rate at which they come, the file grows by hours and days.
        growth = (stays.sizes[-1] - stays.sizes[whole + 1]) / ((days - whole - 2) * stations)
        print(f"a station's hours and day take {growth:.0f} bytes a day")
    largest, baseline = max(stays.sizes), window * stays.windows
    print(
        f"1,000 stations x {days} days: {largest / stations * 1000 / 1e9:.1f} GB; without retention"
        f" {baseline / stations * 1000 / 1e9:.1f} GB"
    )
    print(
        json.dumps(
            {
                "name": "store",
                "value": largest,
                "unit": f"bytes of {stations} stations after {days} days",
                "baseline": round(baseline),
                "ratio": round(baseline / largest, 2),
                **stays._asdict(),
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
