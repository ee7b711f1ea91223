"""The InfluxDB sink against a bare loop that makes the same lines and POSTs them to the same server.

The server is Debian's VictoriaMetrics (it speaks /api/v2/write) on this machine. The bare loop shares the
core (points, line protocol, gzip) and has nothing else: no influxdb-client, no revisions, no retry, no search
for bad lines. Printed beside it, not in the ratio: a loop whose lines were ready before the clock started,
which is what the server and gzip alone allow. Value: points per second.
"""

import argparse
import gzip
import http.client
import itertools
import json
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from schemas.base import from_ms
from schemas.estimate import Estimate, IndexBlock, Inputs, ModelOutput, PollutantEstimate, Window
from schemas.parameters import PARAMETERS
from streams.sinks.influx import BATCH_LINES, InfluxSink
from streams.sinks.patience import Patience
from streams.sinks.points import window_points

_START_MS: Final = 1_767_225_600_000


def estimates(stations: int, windows: int, seed: int = 1) -> list[Estimate]:
    """Made-up estimates with all six pollutants, two standards and a model output, window by window."""
    draw = random.Random(seed)
    made = []
    for window, station in itertools.product(range(windows), range(stations)):
        start = _START_MS + 60_000 * window
        pollutants = {
            parameter: PollutantEstimate(
                value=round(draw.uniform(1, 300), 2), kind="imputed", qc=9, lo=round(draw.uniform(0, 1), 2),
                hi=round(draw.uniform(300, 400), 2), method="camera",
            )
            if draw.random() < 0.4
            else PollutantEstimate(value=round(draw.uniform(1, 300), 2), kind="measured", qc=1, n=6, raw=1.0)
            for parameter in PARAMETERS
        }  # fmt: skip
        indices = tuple(
            IndexBlock(
                standard=standard, index=draw.randint(0, 300), category="moderate", level=1,
                dominant=("pm25",),
                status="indicative", reason="7 of 24 hours of pm25", imputed_share=0.4, nowcast=80,
                subindices={parameter: draw.randint(0, 300) for parameter in PARAMETERS},
            )
            for standard in ("us-epa-2024", "in-naqi-2014")
        )  # fmt: skip
        made.append(
            Estimate(
                station=f"station-{station:04}",
                window=Window(start=from_ms(start), end=from_ms(start + 60_000)),
                revision=draw.randint(1, 30),
                sides="both",
                pollutants=pollutants,
                model=ModelOutput(aqi=draw.uniform(0, 300), lo=1.0, hi=300.0, sensors={}),
                indices=indices,
                inputs=Inputs(readings=12),
                bundle="bundle-1",
            )
        )
    return made


@contextmanager
def victoria_metrics() -> Iterator[str]:
    """Debian's VictoriaMetrics on a free port, with an empty folder."""
    binary = shutil.which("victoria-metrics")
    if binary is None:
        raise SystemExit("victoria-metrics is not installed: apt-get install victoria-metrics")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [
                binary, f"-storageDataPath={folder}", f"-httpListenAddr=127.0.0.1:{port}",
                "-retentionPeriod=100y",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process,
    ):  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
                    connection.request("GET", "/health")
                    if connection.getresponse().status == 200:
                        break
                except OSError:
                    time.sleep(0.05)
            yield url
        finally:
            process.kill()


def bare(url: str, batches: Iterable[bytes]) -> None:
    """POST every batch."""
    host = urlsplit(url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=30)
    for batch in batches:
        connection.request(
            "POST",
            "/api/v2/write?org=o&bucket=aq&precision=s",
            gzip.compress(batch, compresslevel=9),
            {"Content-Encoding": "gzip", "Content-Type": "text/plain"},
        )
        answer = connection.getresponse()
        answer.read()
        if answer.status >= 300:
            raise SystemExit(f"the server answers {answer.status}")
    connection.close()


def batched(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of at most `size` lines."""
    lines = iter(lines)
    while batch := list(itertools.islice(lines, size)):
        yield batch


def best(run: Callable[[], None], rounds: int) -> float:
    """Seconds of the fastest of some rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the last line is its JSON."""
    parser = argparse.ArgumentParser(prog="bench sink", description=__doc__)
    parser.add_argument("--stations", type=int, default=500)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(argv)
    made = estimates(chosen.stations, chosen.windows)
    polls = [made[start : start + 500] for start in range(0, len(made), 500)]
    lines = [point.line() for estimate in made for point in window_points(estimate)]
    batches = [
        "\n".join(lines[start : start + BATCH_LINES]).encode() for start in range(0, len(lines), BATCH_LINES)
    ]
    print(f"{len(made)} estimates, {len(lines)} points, {sum(map(len, batches)) / 1e6:.1f} MB of lines")
    with victoria_metrics() as url:
        sink = InfluxSink(url, org="o", bucket="aq", token="", patience=Patience.until(threading.Event()))

        def ours() -> None:
            for poll in polls:
                if sink.write(poll):
                    raise SystemExit("the server refused lines")

        def same_core() -> None:
            made_lines = (point.line() for poll in polls for one in poll for point in window_points(one))
            bare(url, ("\n".join(batch).encode() for batch in batched(made_lines, BATCH_LINES)))

        bare(url, batches[:1])
        ready = best(lambda: bare(url, batches), chosen.rounds)
        print(f"POST loop, lines ready made  {len(lines) / ready:10,.0f} points/s")
        base = best(same_core, chosen.rounds)
        print(f"bare POST loop               {len(lines) / base:10,.0f} points/s")
        mine = best(ours, chosen.rounds)
        print(
            f"sink                         {len(lines) / mine:10,.0f} points/s"
            f"  ({len(made) / mine:,.0f} estimates/s)"
        )
        sink.close()
    print(
        json.dumps(
            {
                "name": "sink", "value": round(len(lines) / mine), "unit": "points/s",
                "baseline": round(len(lines) / base), "ratio": round(base / mine, 3),
            }
        )
    )  # fmt: skip
    return 0
