"""`skyfuse simulate`: the frames and readings of a made-up city."""

import threading
import time
from contextlib import ExitStack
from typing import Annotated

import typer

from cli.shared.options import ForOption, parsed_seconds
from cli.shared.wording import counted
from infra.connect import with_broker
from infra.stack.processes import ended_by_signals
from settings.sections import Settings
from sources.simulate.city import MOST_STATIONS
from sources.simulate.devices import devices_on_air
from sources.simulate.feed import FRAME_PERIOD_S, feed
from sources.simulate.place import settle
from sources.simulate.vendors import DEVICE_WAYS, DeviceWay, records_of

#: Of the option `--every`.
EveryOption = Annotated[
    float,
    typer.Option(
        parser=parsed_seconds,
        metavar="SPAN",
        show_default=f"{FRAME_PERIOD_S:.0f}s",
        help="Between two pictures of a camera, 1s or more: 60s, 5m. 0: no pictures.",
    ),
]


def device_ways(text: str) -> tuple[DeviceWay, ...]:
    """The ways in an option such as `http,mqtt`. Raises typer.BadParameter."""
    asked = {way.strip() for way in text.split(",") if way.strip()}
    if unknown := asked.difference(DEVICE_WAYS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {' and '.join(DEVICE_WAYS)}")
    return tuple(way for way in DEVICE_WAYS if way in asked)


def simulate(
    stations: Annotated[int, typer.Option(min=1, max=MOST_STATIONS, help="How many stations.")] = 6,
    seed: Annotated[int, typer.Option(help="Another city.")] = 7,
    history: Annotated[float, typer.Option(min=0, help="Minutes of the past to begin with.")] = 0.0,
    speed: Annotated[
        float | None,
        typer.Option(min=1, help="How fast the history goes by; as fast as it can if not given."),
    ] = None,
    seconds: ForOption = None,
    every: EveryOption = FRAME_PERIOD_S,
    ways: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="WAYS",
            help="Beside it devices of makers, which speak to the gateway: http, mqtt, or http,mqtt.",
        ),
    ] = "",
) -> None:
    """Send a small made-up city's frames and readings, as its stations would."""
    stop = threading.Event()
    speaking = device_ways(ways)
    with ended_by_signals(), ExitStack() as closing:
        try:
            settings = with_broker(Settings())
            if "mqtt" in speaking and settings.gateway.mqtt.url is None:
                raise typer.BadParameter("--with mqtt needs a broker: gateway.mqtt.url names none")
            if "http" in speaking and settings.gateway.http.port is None:
                raise typer.BadParameter("--with http needs a gateway: gateway.http.port is off")
            city = settle(settings.data_dir, int(time.time() * 1000), stations, seed)
            if speaking:
                closing.enter_context(devices_on_air(settings, city, speaking))
            summary = feed(
                settings, city, history_min=history, speed=speed, seconds=seconds,
                frame_period_s=every or None, records=records_of(city, speaking), stop=stop,
            )  # fmt: skip
        except KeyboardInterrupt:
            return
    typer.echo(
        f"sent {counted(summary.frames, 'frame')} and {counted(summary.readings, 'reading')}"
        f" of {counted(summary.stations, 'station')}"
    )
