"""`skyfuse simulate`: the frames and readings of a made-up city."""

import threading
import time
from typing import Annotated, Final

import typer

from cli.shared.wording import counted
from infra.connect import with_broker
from infra.stack.processes import ended_by_signals
from settings.sections import Settings
from sources.simulate.city import MOST_STATIONS
from sources.simulate.feed import FRAME_PERIOD_S, feed
from sources.simulate.place import settle

#: Of the option `--every`.
EVERY: Final = "Seconds between two pictures of a camera, 1 or more; 0: no pictures."


def simulate(
    stations: Annotated[int, typer.Option(min=1, max=MOST_STATIONS, help="How many stations.")] = 6,
    seed: Annotated[int, typer.Option(help="Another city.")] = 7,
    history: Annotated[float, typer.Option(min=0, help="Minutes of the past to begin with.")] = 0.0,
    speed: Annotated[
        float | None,
        typer.Option(min=1, help="How fast the history goes by; as fast as it can if not given."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="End after so many seconds.")
    ] = None,
    every: Annotated[float, typer.Option(min=0, help=EVERY)] = FRAME_PERIOD_S,
) -> None:
    """Send a small made-up city's frames and readings, as its stations would."""
    stop = threading.Event()
    with ended_by_signals():
        try:
            settings = with_broker(Settings())
            summary = feed(
                settings, settle(settings.data_dir, int(time.time() * 1000), stations, seed),
                history_min=history, speed=speed, seconds=seconds, frame_period_s=every or None, stop=stop,
            )  # fmt: skip
        except KeyboardInterrupt:
            return
    typer.echo(
        f"sent {counted(summary.frames, 'frame')} and {counted(summary.readings, 'reading')}"
        f" of {counted(summary.stations, 'station')}"
    )
