"""`skyfuse up`: the whole pipeline on this machine, until Ctrl-C."""

import os
import sys
import time
import webbrowser
from collections.abc import Callable, Collection
from contextlib import ExitStack
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer
import urllib3
from rich.console import Console

from cli.doctor import influx, store
from cli.shared.checks import as_up_runs_it
from cli.shared.fitting import screen
from cli.shared.live import Clocks, Drawing, Freshness, Pipeline, Told, Wait, is_stale, line, picture, utc_now
from cli.shared.options import ForOption
from cli.shared.running import Running, running
from cli.shared.times import age_words, zones_of
from cli.shared.wording import counted
from cli.simulate import EveryOption, device_ways
from infra.connect import environment
from infra.errors import StackError
from infra.room import Rooms
from infra.stack.ports import HOST, expect_free
from infra.stores import make_room_for_live
from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.reading import READING_EXAMPLE
from settings.sections import Settings
from sinks.store import Store
from sources.simulate.city import MOST_STATIONS, City
from sources.simulate.devices import devices_key
from sources.simulate.feed import FRAME_PERIOD_S
from sources.simulate.guide import guide
from sources.simulate.place import settle
from sources.simulate.vendors import DeviceWay, records_of, vendor_devices
from streams.errors import StoreError
from streams.topics import READINGS

#: Windows that tell how often a station speaks: six hours of minutes.
_REMEMBERED: Final = 360
#: Seconds that the page, and a gateway, are waited for: a broker of one's own may be away.
_READY_S: Final = 30.0


def up(
    seconds: ForOption = None,
    stations: Annotated[int, typer.Option(min=1, max=MOST_STATIONS, help="Simulated stations.")] = 6,
    history: Annotated[int, typer.Option(min=0, help="Minutes of simulated past to begin with.")] = 60,
    every: EveryOption = FRAME_PERIOD_S,
    simulate: Annotated[
        bool, typer.Option(help="Feed it with the simulated city; --no-simulate: only with what you send.")
    ] = True,
    ways: Annotated[
        str, typer.Option("--with", metavar="WAYS", help="Let devices send, too: http, mqtt, or http,mqtt.")
    ] = "",
) -> None:
    """Run everything on this machine and show it live."""
    asked = device_ways(ways)
    settings = as_up_runs_it(Settings())
    http = settings.gateway.http
    if "http" in asked:
        if http.port is None:
            raise typer.BadParameter("gateway.http.port is off: --with http needs one")
        expect_free(http.host, http.port, "gateway.http.port (SKYFUSE_GATEWAY__HTTP__PORT)")
    if simulate and settings.web.host == HOST and "anonymous" not in settings.web.model_fields_set:
        # Nobody is in made-up pictures, nobody's station is changed, and only this machine can ask.
        open_to_all = settings.web.model_copy(update={"anonymous": ("read", "frames", "write", "admin")})
        settings = settings.model_copy(update={"web": open_to_all})
    _run(settings, seconds, _Simulated(stations, history, every) if simulate else None, asked)


class _Simulated(NamedTuple):
    """The city that feeds it: stations, minutes of its past, seconds between two pictures of a camera."""

    stations: int
    history: int
    every: float


def _run(
    settings: Settings, seconds: float | None, simulated: _Simulated | None, ways: tuple[DeviceWay, ...] = ()
) -> None:
    """Run until Ctrl-C or for `seconds`, showing what the network shows."""
    console = screen()
    notes: list[str] = []
    started = time.monotonic()
    replayed = make_room_for_live(settings)
    if replayed is not None:
        notes.append(
            f"a replay's estimates are no live ones; they stay in {replayed} (skyfuse query --store)"
        )
    with running(
        settings, lambda text: console.print(f"skyfuse: {text}", style="dim"), notes.append, ways=ways
    ) as stack:
        settings = stack.settings
        city = None
        if simulated is not None:
            city = settle(settings.data_dir, to_ms(utc_now()), simulated.stations)
            if "http" in ways:  # before the gateway looks, which would say that there is none
                devices_key(settings, vendor_devices(city, ("http",)))
        stack.start_workers()
        reached = influx(settings)
        if reached.state != "ok":
            notes.append(
                f"InfluxDB at {reached.found}: {reached.mend}. Estimates go into the local store and wait:"
                " nothing is lost"
            )
        kept = store(settings)
        if kept.mend:
            notes.append(f"the local store, {kept.found}: {kept.mend}")
        console.print(address_of(settings), highlight=False)
        if simulated is None or city is None:
            console.print(
                f"skyfuse: {first_message(settings)}", highlight=False, soft_wrap=True, markup=False
            )
        else:
            console.print(f"skyfuse: simulating {counted(simulated.stations, 'station')}", style="dim")
            if ways:
                names = ", ".join(sorted(one.station for one in records_of(city, ways)))
                console.print(
                    f"skyfuse: beside them devices of makers speak to the gateway: {names}", style="dim"
                )
            stack.supervisor.add(
                "simulate",
                [
                    sys.executable, "-m", "cli.main", "simulate",
                    "--stations", str(simulated.stations), "--history", str(simulated.history),
                    "--every", str(simulated.every), *(["--with", ",".join(ways)] if ways else []),
                ],
                environment(settings),
            )  # fmt: skip
        try:
            patience = _READY_S if seconds is None else min(_READY_S, seconds)
            named = answers(page_of(settings), time.monotonic() + patience)
            if named:
                console.print(f"skyfuse: the page is at {page_of(settings)}", highlight=False)
            if ways:
                if not takes(stack.pipeline, ways, time.monotonic() + patience):
                    notes.append(f"the gateway takes nothing yet: see {settings.data_dir / 'log'}")
                for text in ways_in(settings, ways):
                    console.print(f"skyfuse: {text}", highlight=False, soft_wrap=True, markup=False)
            _watch(console, stack, city, notes, started, seconds, named)
        except (KeyboardInterrupt, SystemExit):
            console.print("skyfuse: ending", style="dim")
        stack.pipeline.read()
        summary = stack.pipeline.line()
    console.print(f"skyfuse: ran {time.monotonic() - started:.0f} s: {summary}")
    console.print(f"skyfuse: the data stays in {settings.data_dir}; see ./skyfuse query", style="dim")


def page_of(settings: Settings) -> str:
    """Where the page is."""
    return f"http://{settings.web.host}:{settings.web.port}"


def _show_page(settings: Settings) -> None:
    """Open the page where there is a desktop."""
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page_of(settings))


def address_of(settings: Settings) -> str:
    """Where producers and consumers of one's own find the broker."""
    return f"skyfuse: Kafka is at {settings.kafka.bootstrap}"


def answers(page: str, deadline: float) -> bool:
    """Whether a page answers, whatever it says; waited for until `deadline` (monotonic)."""

    def answered() -> bool:
        try:
            urllib3.request("HEAD", page, retries=False, timeout=2.0)
        except urllib3.exceptions.HTTPError:
            return False
        return True

    return _came_true(answered, deadline)


def takes(pipeline: Pipeline, ways: Collection[str], deadline: float) -> bool:
    """Whether the gateway takes what comes by all of `ways`; waited for until `deadline` (monotonic).

    What devices publish before it has subscribed, an MQTT broker acknowledges and gives to nobody.
    """

    def taking() -> bool:
        pipeline.read()
        return pipeline.takes.issuperset(ways)

    return _came_true(taking, deadline)


def _came_true(condition: Callable[[], bool], deadline: float) -> bool:
    """Whether it held by `deadline` (monotonic); it is looked at once at least."""
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
    return True


def ways_in(settings: Settings, ways: Collection[str]) -> list[str]:
    """Where devices send to."""
    gateway = settings.gateway
    told = []
    if "http" in ways:
        scheme = "http" if gateway.http.tls_cert is None else "https"
        told.append(
            f"devices send to {scheme}://{gateway.http.host}:{gateway.http.port} with a key:"
            " skyfuse gateway keys add NAME --station ID"
        )
    if "mqtt" in ways:
        told.append(f"devices publish to {gateway.mqtt.url}, such as to skyfuse/STATION/readings")
    return told


def first_message(settings: Settings) -> str:
    """How to send a first reading of one's own."""
    return (
        f"nothing is simulated: send JSON to the topic {settings.kafka.names.of(READINGS)}, the station's"
        f" id as key: {READING_EXAMPLE} (README.md, Your first message)"
    )


def expect_folder(folder: Path, before: os.stat_result) -> None:
    """Raise StackError where the data folder is no more the one of `before`: someone removed it meanwhile."""
    try:
        now = folder.stat()
        if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino):
            return
    except FileNotFoundError:
        pass
    raise StackError(
        f"{folder} was removed while skyfuse ran, and all in it: what comes now would be kept nowhere."
        " Start `skyfuse up` again"
    )


def _watch(
    console: Console,
    stack: Running,
    city: City | None,
    notes: list[str],
    started: float,
    seconds: float | None,
    named: bool,
) -> None:
    """`named`: whether the page has answered, and so was named."""
    freshness = Freshness()
    told: list[str] = []
    printed: set[_EstimateVersion] = set()
    # What the store has from before is no news of this start.
    before = {_EstimateVersion.of(estimate) for estimate in _latest(stack.settings, utc_now()).estimates}
    first = True
    waiting: Collection[Wait] = ()
    rooms = Rooms([stack.settings.data_dir, stack.settings.store_path.parent])
    folder = stack.settings.data_dir.stat()
    with ExitStack() as closing:
        live = None
        if console.is_terminal:
            head = f"{address_of(stack.settings)}\nskyfuse: the page is at {page_of(stack.settings)}"
            live = closing.enter_context(Drawing(console, head))
        while seconds is None or time.monotonic() - started < seconds:
            expect_folder(stack.settings.data_dir, folder)
            now = utc_now()
            estimates, stale, zones = _latest(stack.settings, now)
            freshness.note(estimates, now)
            stack.pipeline.read()
            notes += changes(waiting, stack.pipeline.waits, now)
            waiting = stack.pipeline.waits
            notes += rooms.news()
            stack.keep_broker(notes.append)
            if not named and answers(page_of(stack.settings), 0.0):
                named = True
                notes.append(f"the page is at {page_of(stack.settings)}")
            if first and any(_EstimateVersion.of(estimate) not in before for estimate in estimates):
                first = False
                if live is not None:
                    _show_page(stack.settings)
                notes.append(f"first estimates {time.monotonic() - started:.0f} s after the start")
            ends = {estimate.station: to_ms(estimate.window.end) for estimate in estimates}
            hints = guide(city, to_ms(now), ends) if city is not None and estimates else []
            if live is not None:
                shown = notes[-4:]
                live.draw(
                    picture(
                        estimates,
                        freshness,
                        stack.pipeline,
                        Told(hints, shown),
                        Clocks(now, stale, zones),
                        console,
                    )
                )
            else:
                for text in notes + (hints if hints != told else []):
                    console.print(f"skyfuse: {text}", highlight=False)
                notes.clear()
                told = hints
                for estimate in estimates:
                    key = _EstimateVersion.of(estimate)
                    if key not in printed:
                        printed.add(key)
                        console.print(
                            line(estimate, freshness, now), highlight=False, soft_wrap=True, markup=False
                        )
            time.sleep(1.0)


class _Latest(NamedTuple):
    """Each station's newest window, the stations of which it is no news any more, zones other than UTC."""

    estimates: list[Estimate]
    stale: set[str]
    zones: dict[str, tzinfo]


def changes(before: Collection[Wait], after: Collection[Wait], now: datetime) -> list[str]:
    """What is to be told of sinks: that one waits, for what else it waits, that one goes on."""
    told = {(wait.sink, wait.why) for wait in before}
    return [wait.words(now) for wait in after if (wait.sink, wait.why) not in told] + [
        f"{wait.engine} is back after {age_words(now - datetime.fromtimestamp(wait.since, UTC))}: the"
        f" {wait.sink} sink goes on where it was"
        for wait in before
        if all(wait.sink != other.sink for other in after)
    ]


class _EstimateVersion(NamedTuple):
    """Which estimate it is."""

    station: str
    end: datetime
    revision: int

    @classmethod
    def of(cls, estimate: Estimate) -> "_EstimateVersion":
        return cls(estimate.station, estimate.window.end, estimate.revision)


def _latest(settings: Settings, now: datetime) -> _Latest:
    if not settings.store_path.exists():
        return _Latest([], set(), {})
    try:
        with Store(settings.store_path, read_only=True) as store:
            latest = store.latest()
            stale = {
                one.station
                for one in latest
                if is_stale(age := now - one.window.end, ())
                and is_stale(age, store.ends(one.station, _REMEMBERED))
            }
            return _Latest(latest, stale, zones_of(store.stations()))
    except StoreError:
        return _Latest([], set(), {})  # the sink worker is just creating it
