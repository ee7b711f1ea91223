"""How many simulated stations a core keeps in real time: event seconds of all of them by a second of work.

Messages are made as `skyfuse simulate` makes them, readings and pictures in the order of event time, and
sent nowhere. Laying out the scenes (once, at the start) is timed apart. Baseline: every camera looks at a
scene of its own, of which the 32 last used are kept, as it was before scenes were shared. Another line says
it for stations that take no pictures.
"""

import argparse
import json
import time
from dataclasses import replace

from sources.simulate.city import City, build
from sources.simulate.messages import messages
from sources.simulate.noise import key
from sources.simulate.scene import scene

SMALL = ("--stations", "48", "--of", "30", "--seconds", "20", "--alone", "60")
#: By day, where pictures have most in them.
_START_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 12 * 3_600_000


def _kept(city: City, seconds: float, every: float | None) -> tuple[float, float, float]:
    """Stations in real time by a second of work, pictures and readings by a second of event time."""
    end_ms = _START_MS + round(seconds * 1000)
    frames = readings = 0
    began = time.process_time()
    for message in messages(city, _START_MS, None if every is None else round(every * 1000)):
        if message.time_ms >= end_ms:
            break
        if message.headers:
            frames += 1
        else:
            readings += 1
    worked = time.process_time() - began
    return len(city.stations) * seconds / worked, frames / seconds, readings / seconds


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench simulate", description=__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--every", type=float, default=300.0, help="seconds between two pictures of a camera")
    parser.add_argument("--seconds", type=float, default=60.0, help="of event time")
    parser.add_argument("--of", type=float, default=20.0, help="seconds of event time for the baseline")
    parser.add_argument("--alone", type=int, default=10_000, help="stations without pictures")
    arguments = parser.parse_args(argv)

    city = build(arguments.stations)
    apart = replace(
        city, stations=tuple(replace(one, scene=key(one.key, "scene"), turn=0) for one in city.stations)
    )
    before, frames, readings = _kept(apart, arguments.of, arguments.every)
    scenes = {one.scene for one in city.stations if one.has_camera}
    scene.cache_clear()
    began = time.process_time()
    for seed in scenes:
        scene(seed)
    laid_out = time.process_time() - began
    now, frames, readings = _kept(city, arguments.seconds, arguments.every)
    alone, _, spoken = _kept(build(arguments.alone), arguments.seconds, None)
    print(f"{len(scenes)} scenes laid out in {laid_out:.1f} s, once")
    print(
        f"{arguments.stations} stations, a picture every {arguments.every:g} s ({frames:.1f} pictures and"
        f" {readings:.0f} readings a second): {now:.0f} stations in real time; a scene for each camera:"
        f" {before:.0f}"
    )
    print(
        f"{arguments.alone} stations, no pictures ({spoken:.0f} readings a second): {alone:.0f} in real time"
    )
    print(
        json.dumps(
            {
                "name": "simulate", "value": round(now), "unit": "stations in real time by a core",
                "baseline": round(before), "ratio": round(now / before, 2),
                "without_pictures": round(alone),
            }
        )
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
