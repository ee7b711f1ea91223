"""`skyfuse fleet`: which stations are heard, as often as they should, by clocks that are right."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from cli.shared.connection import kafka_connection
from cli.shared.fitting import fitting, screen
from cli.shared.live import utc_now
from cli.shared.times import age_words
from cli.shared.wording import counted
from fleet.condition import STATES, Condition, FleetState, clock_is_off, condition, failing
from fleet.station import expected, received
from infra.connect import broker_at_hand
from schemas.base import format_time, to_ms
from schemas.health import StationHealth, Trouble
from settings.sections import Settings
from streams.stations import note_station
from streams.to_end import read_topic
from streams.topics import FLEET, STATIONS

_COLOURS: Final[Mapping[FleetState, str]] = {
    "online": "green", "late": "yellow", "silent": "red", "offline": "red", "unheard": "bright_black",
}  # fmt: skip
#: As a station is looked for: who needs somebody comes first.
_ORDER: Final[Sequence[FleetState]] = ("silent", "offline", "late", "online", "unheard")


class FleetRow(NamedTuple):
    """A station and how it fares; `health` None: it was never heard."""

    station: str
    health: StationHealth | None
    condition: Condition


def fleet(
    unwell: Annotated[
        bool, typer.Option("--unwell", help="Only those that somebody should look at.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one document.")] = False,
) -> None:
    """Show how the stations fare: heard or not, as often as they should, clocks, batteries.

    Exit code 0: all are well; 1: some are not.
    """
    now = utc_now()
    with broker_at_hand(Settings(), lambda text: typer.echo(f"skyfuse: {text}", err=True)) as settings:
        shown = stations(kafka_connection(settings), settings.kafka.prefix, to_ms(now))
    rows = [one for one in shown if not (unwell and one.condition.well)]
    if as_json:
        typer.echo(json.dumps([plain(one, to_ms(now)) for one in rows], indent=1))
    else:
        console = screen()
        if rows:
            console.print(fitting(console, tables(rows, now)))
        for line in summary(shown):
            console.print(line, style="dim", highlight=False)
    if any(not one.condition.well and one.health is not None for one in shown):
        raise typer.Exit(1)


def stations(connection: Mapping[str, Any], prefix: str, now: int) -> list[FleetRow]:
    """All that have a record or were heard, those first that need somebody. Raises TopicReadError."""
    known: dict[str, None] = {}
    for record in read_topic(connection, prefix + STATIONS.name):
        note_station(known, record.key, record.value, lambda _: None)
    heard: dict[bytes, bytes] = {}
    for record in read_topic(connection, prefix + FLEET.name):
        if record.value is None:
            heard.pop(record.key, None)
        else:
            heard[record.key] = record.value
    found: dict[str, FleetRow] = {}
    for value in heard.values():
        try:
            health = StationHealth.model_validate_json(value)
        except ValidationError:
            continue  # of a later version
        found[health.station] = FleetRow(health.station, health, condition(health, now))
    never = Condition("unheard", ())
    shown = [*found.values(), *(FleetRow(name, None, never) for name in known if name not in found)]
    return sorted(
        shown,
        key=lambda one: (
            one.condition.well or one.health is None,
            _ORDER.index(one.condition.state),
            not one.condition.troubles,
            one.station,
        ),
    )


def plain(one: FleetRow, now: int) -> dict[str, Any]:
    """A station for programs."""
    health = one.health
    base = {"station": one.station, "state": one.condition.state, "troubles": list(one.condition.troubles)}
    if health is None:
        return base
    kept = health.model_dump(
        mode="json",
        exclude={"station", "gaps_ms", "leads_ms", "open_ms", "stamp_gaps_ms", "hours", "offsets", "alerts"},
    )
    return base | kept | {
        "received_24h": received(dict(health.hours), now), "expected_24h": expected(health, now)
    }  # fmt: skip


def tables(rows: Sequence[FleetRow], now: datetime) -> Iterator[Table]:
    """The table, from the widest to the narrowest: what is left out is in `--json`."""
    for columns in (
        ("state", "heard", "every", "got", "clock", "battery", "firmware", "look"),
        ("state", "heard", "every", "got", "clock", "battery", "look"),
        ("state", "heard", "got", "clock", "battery", "look"),
        ("state", "heard", "got", "clock", "look"),
        ("state", "heard", "clock", "look"),
        ("state", "heard", "look"),
    ):
        yield _table(rows, columns, now)


_HEADS: Final = {
    "state": "State", "heard": "Heard", "every": "Every", "got": "Last 24 h", "clock": "Clock",
    "battery": "Battery", "firmware": "Firmware", "look": "Look at",
}  # fmt: skip


def _table(rows: Sequence[FleetRow], columns: Sequence[str], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Station", overflow="fold")
    for name in columns:
        right = name in ("heard", "every", "got", "clock", "battery")
        table.add_column(_HEADS[name], justify="right" if right else "left", no_wrap=name != "look")
    for one in rows:
        cells = _cells(one, now)
        table.add_row(Text(one.station), *(cells[name] for name in columns))
    return table


def _cells(one: FleetRow, now: datetime) -> dict[str, Text]:
    state, health = one.condition.state, one.health
    cells = dict.fromkeys(_HEADS, Text("-", "dim"))
    cells["state"] = Text(state, _COLOURS[state])
    cells["look"] = Text(", ".join(words(one, now)))
    if health is None or health.unheard:
        return cells
    cells["heard"] = Text(f"{age_words(now - health.heard_at)} ago")
    if health.period_s:
        cells["every"] = Text(age_words(timedelta(seconds=health.period_s)))
    due = expected(health, to_ms(now))
    got = received(dict(health.hours), to_ms(now))
    cells["got"] = Text(f"{got}" if due is None else f"{got}/{due}")
    if health.clock_offset_s is not None:
        cells["clock"] = Text(
            clock(health.clock_offset_s), "red" if "clock" in one.condition.troubles else ""
        )
    battery = battery_words(health)
    if battery:
        cells["battery"] = Text(battery, "red" if "battery" in one.condition.troubles else "")
    if health.firmware:
        cells["firmware"] = Text(health.firmware)
    return cells


def battery_words(health: StationHealth) -> str:
    """A battery's charge, in per cent where they are known."""
    if health.battery_percent is not None:
        return f"{health.battery_percent:.0f} %"
    return "" if health.battery_volts is None else f"{health.battery_volts:.2f} V"


def clock(offset_s: float) -> str:
    """How far a clock is off: `+2 min`, `-3 s`; `0 s` below half a second."""
    sign = "" if abs(offset_s) < 0.5 else "+" if offset_s > 0 else "-"
    return f"{sign}{age_words(timedelta(seconds=round(abs(offset_s))))}"


def words(one: FleetRow, now: datetime) -> list[str]:
    """What somebody should look at."""
    state, troubles = one.condition
    said = []
    if one.health is None:
        return ["it has a record, and nothing came yet"]
    if state == "unheard":
        said.append("nothing came yet")
    if state == "offline":
        said.append("its broker says that it went away")
    offset_s = one.health.clock_offset_s
    told: dict[Trouble, str] = {
        "battery": "its battery",
        "two_addresses": f"two addresses send it: {', '.join(one.health.origins)}",
    }
    if clock_is_off(offset_s, one.health.period_s):
        said.append("its clock is ahead" if (offset_s or 0) > 0 else "its clock, or its way here")
    said += [told[trouble] for trouble in troubles if trouble in told]
    # The others have words of their own.
    return said + [
        f"{source.source}: {source.state} for {age_words(now - source.since)}: {source.why}"
        for source in failing(one.health, to_ms(now))
    ]


def summary(shown: Sequence[FleetRow]) -> list[str]:
    """The network in a line or two."""
    if not shown:
        return ["no station has a record, and none was heard"]
    states = Counter(one.condition.state for one in shown)
    parts = [f"{states[state]} {state}" for state in STATES if states[state]]
    lines = [f"{counted(len(shown), 'station')}: {', '.join(parts)}"]
    oldest = [one.health.heard_at for one in shown if one.health is not None and not one.health.unheard]
    if oldest:
        lines.append(f"something was heard last at {format_time(max(oldest).replace(microsecond=0))}")
    return lines
