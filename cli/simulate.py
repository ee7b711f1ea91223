"""`skyfuse simulate`: the frames and readings of a made-up city."""

import threading
import time
from typing import Annotated

import typer

from cli.shared.wording import counted
from infra.connect import with_broker
from infra.stack.processes import ended_by_signals
from settings.sections import Settings
from sources.simulate.feed import feed
from sources.simulate.place import settle


def simulate(
    stations: Annotated[int, typer.Option(min=1, max=500, help="How many stations.")] = 6,
    seed: Annotated[int, typer.Option(help="Another city.")] = 7,
    history: Annotated[float, typer.Option(min=0, help="Minutes of the past to begin with.")] = 0.0,
    speed: Annotated[
        float | None,
        typer.Option(min=1, help="How fast the history goes by; as fast as it can if not given."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="End after so many seconds.")
    ] = None,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two frames of a camera.")] = 60.0,
) -> None:
    """Send a small made-up city's frames and readings, as its stations would."""
    stop = threading.Event()
    with ended_by_signals():
        try:
            settings = with_broker(Settings())
            summary = feed(
                settings, settle(settings.data_dir, int(time.time() * 1000), stations, seed),
                history_min=history, speed=speed, seconds=seconds, frame_period_s=every, stop=stop,
            )  # fmt: skip
        except KeyboardInterrupt:
            return
    typer.echo(
        f"sent {counted(summary.frames, 'frame')} and {counted(summary.readings, 'reading')}"
        f" of {counted(summary.stations, 'station')}"
    )
