"""The page's server with many stations and many listeners, beside a bare FastAPI application.

The server runs in a process of its own, without a broker: it is told estimates at the pace of a network whose
windows are a minute, as it hears them from the topic. The baseline is a FastAPI application under the same
uvicorn that answers with bytes which were ready before the clock started: what HTTP and the framework cost.

Value: p99, ms, of `latest` over one connection that stays open, packed, while listeners hear every event.
Beside it: the same of the baseline; how much the server's memory grows with so many listeners and in the
minute after, and how many events reached them; first paint of the page in Chromium, where there is one.
"""

import argparse
import asyncio
import gzip
import http.client
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks._kafka import verdict
from infra.stack.ports import free_port
from schemas.base import from_ms
from schemas.estimate import Estimate, IndexBlock, Inputs, PollutantEstimate, Window
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from settings.sections import KafkaSettings, Settings, WebSettings
from web.live import TopicPlace
from web.parts import Parts
from web.serve import application, parts_of, served_by

SMALL: Final = ("--stations", "40", "--listeners", "20", "--seconds", "3", "--requests", "60")


def window(station: str, end_s: int, dice: random.Random) -> Estimate:
    """A window with all six pollutants."""
    value = dice.uniform(5, 90)
    return Estimate(
        station=station,
        window=Window(start=from_ms((end_s - 60) * 1000), end=from_ms(end_s * 1000)),
        revision=12,
        sides="both",
        pollutants={
            name: PollutantEstimate(value=value, kind="measured", qc=1, n=6, sensors=("a",))
            for name in POLLUTANTS
        },
        indices=(
            IndexBlock(
                standard="us-epa-2024", index=int(value * 2), category="Moderate", level=1, status="valid",
                dominant=("pm25",), imputed_share=0.0,
            ),
        ),
        inputs=Inputs(readings=36),
        bundle="bench",
    )  # fmt: skip


def serve(port: int, count: int, folder: Path) -> None:
    """The server, told `count` stations' windows each minute, evenly."""
    settings = Settings(
        data_dir=folder,
        kafka=KafkaSettings(bootstrap="127.0.0.1:1"),
        web=WebSettings(port=port, rate_per_address=1e6, streams=100_000, pictures=False),
    )
    parts = parts_of(settings)
    names = [f"s{n:04d}" for n in range(count)]
    for n, name in enumerate(names):
        parts.live.station(name, Station(station=name, latitude=10 + n % 30 / 100, longitude=n // 30 / 100))
    asyncio.run(_serve(parts, port, names))


async def _serve(parts: Parts, port: int, names: Sequence[str]) -> None:
    dice = random.Random(7)
    begin = int(time.time()) // 60 * 60
    tell(parts, [window(name, begin, dice) for name in names])
    config = served_by(application(parts), "127.0.0.1", port)
    config.lifespan = "off"  # no broker is followed
    parts.follower.read.set()
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    turn = 0
    while not serving.done():
        await asyncio.sleep(0.25)
        due = int(len(names) * 0.25 / 60) + 1
        some = [names[(turn + n) % len(names)] for n in range(due)]
        turn += due
        tell(parts, [window(name, begin + 60 * (1 + turn // len(names)), dice) for name in some])
        parts.follower.stir()


def tell(parts: Parts, estimates: Sequence[Estimate]) -> None:
    """As the follower does."""
    for estimate in estimates:
        partition = hash(estimate.station) % 4
        place = TopicPlace("estimate", partition, parts.live.reached("estimate", partition))
        parts.live.estimate(estimate, place)


def bare(port: int, body: bytes) -> uvicorn.Server:
    """The baseline, running in a thread."""
    app = FastAPI(openapi_url=None)

    @app.get("/")
    async def ready(request: Request) -> Response:
        del request
        return Response(body, media_type="application/json", headers={"Content-Encoding": "gzip"})

    config = uvicorn.Config(app, port=port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return server


def latencies(port: int, path: str, count: int) -> tuple[list[float], bytes]:
    """Of so many requests over one connection, ms; and the last body."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    found, body = [], b""
    for _ in range(count):
        began = time.perf_counter()
        line.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = line.getresponse()
        body = answer.read()
        found.append(1000 * (time.perf_counter() - began))
        assert answer.status == 200, answer.status
        time.sleep(0.01)
    line.close()
    return found, body


class Listeners:
    """So many open streams, and how many events came to all of them."""

    def __init__(self, port: int, count: int) -> None:
        self.events = 0
        self._port = port
        self._count = count
        self._stop = threading.Event()
        self._open = threading.Semaphore(0)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Listeners":
        self._thread.start()
        for _ in range(self._count):
            assert self._open.acquire(timeout=60)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        listening = []
        for _ in range(self._count):
            listening.append(asyncio.create_task(self._listen()))
            await asyncio.sleep(0.002)
        await asyncio.to_thread(self._stop.wait)
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        self._open.release()
        while some := await reader.read(65536):
            self.events += some.count(b"event: estimate")


def first_paint(port: int) -> float | None:
    """First contentful paint of the page, ms, in Chromium; None where there is none."""
    browser = shutil.which("chromium")
    if browser is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = made.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector(".stations li", timeout=60_000)
        script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        found = float(page.evaluate(script))
        made.close()
    return found


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not answer")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    try:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        line.request("GET", "/api/v1/health")
        return line.getresponse().status == 200
    except OSError:
        return False


def main(arguments: Sequence[str]) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="skyfuse bench page", description=__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if asked.serve:
            serve(asked.serve, asked.stations, Path(folder))
            return 0
        _measure(asked)
    return 0


def _measure(asked: argparse.Namespace) -> None:
    port, other = free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "benchmarks.page",
        "--serve",
        str(port),
        "--stations",
        str(asked.stations),
    ]
    process = subprocess.Popen(command, env=os.environ | {"SKYFUSE_CONFIG": ""}, stderr=subprocess.DEVNULL)
    try:
        _until(lambda: _answers(port))
        alone, body = latencies(port, "/api/v1/latest", asked.requests)
        baseline = bare(other, body)
        ready, _ = latencies(other, "/", asked.requests)
        baseline.should_exit = True
        paint = first_paint(port)
        memory = psutil.Process(process.pid).memory_info
        before = memory().rss
        with Listeners(port, asked.listeners) as listeners:
            opened = memory().rss
            began, heard = time.monotonic(), listeners.events
            busy, _ = latencies(port, "/api/v1/latest", asked.requests)
            time.sleep(max(0.0, asked.seconds - (time.monotonic() - began)))
            lasted = time.monotonic() - began
            events, after = listeners.events - heard, memory().rss
        print(f"latest of {asked.stations} stations: {len(gzip.decompress(body))} bytes, packed {len(body)}")
    finally:
        process.terminate()
        process.wait()
    mib = 1024 * 1024
    verdict(
        "page", p99(busy), "ms", p99(ready), p99(busy) / p99(ready), p50=statistics.median(busy),
        alone_p99=p99(alone), baseline_p50=statistics.median(ready), first_paint_ms=paint,
        listeners_mib=(opened - before) / mib, minute_mib=(after - opened) / mib,
        events_per_s=events / lasted,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
