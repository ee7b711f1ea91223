"""`skyfuse fleet`: what is shown of stations, in which order, and which words say what to look at."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kafka import KafkaProducer
from rich.console import Console
from typer.testing import CliRunner

from cli.fleet import FleetRow, battery_words, clock, plain, stations, summary, tables, words
from cli.main import app
from cli.shared.connection import kafka_connection
from cli.shared.fitting import fitting
from fleet.condition import Condition, condition
from schemas.base import to_ms
from schemas.health import StationHealth
from schemas.station import Station
from settings.sections import Settings
from streams.admin import create_topics
from streams.topics import FLEET, STATIONS

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
NOW_MS = to_ms(NOW)


def health(station: str = "roof", heard: timedelta = timedelta(seconds=30), **more: Any) -> StationHealth:
    """Of a station that speaks every minute."""
    fields: dict[str, Any] = {
        "station": station, "heard_at": NOW - heard, "first_at": NOW - timedelta(days=3), "wait_s": 60.0,
        "period_s": 60.0,
        "hours": tuple((NOW_MS // 3_600_000 - back, 60) for back in range(1, 25)),
    }  # fmt: skip
    return StationHealth(**fields | more)


def row(one: StationHealth) -> FleetRow:
    return FleetRow(one.station, one, condition(one, NOW_MS))


NEVER = FleetRow("new", None, Condition("unheard", ()))


def test_clocks_and_batteries_in_words() -> None:
    assert [clock(offset) for offset in (0.4, -0.4, 3.0, -120.0)] == ["0 s", "0 s", "+3 s", "-2 min"]
    assert battery_words(health(battery_percent=41.6, battery_volts=3.9)) == "42 %"
    assert battery_words(health(battery_volts=3.912)) == "3.91 V"
    assert battery_words(health()) == ""


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (row(health()), []),
        (NEVER, ["it has a record, and nothing came yet"]),
        (row(health(offline_at=NOW - timedelta(seconds=5))), ["its broker says that it went away"]),
        (row(health(clock_offset_s=400.0)), ["its clock is ahead"]),
        (row(health(clock_offset_s=-4000.0)), ["its clock, or its way here"]),
        (row(health(battery_percent=7.0)), ["its battery"]),
        (row(health(origins=("10.0.0.1", "10.0.0.2"))), ["two addresses send it: 10.0.0.1, 10.0.0.2"]),
    ],
)
def test_words_say_what_to_look_at(one: FleetRow, said: list[str]) -> None:
    assert words(one, NOW) == said


def test_the_network_in_a_line() -> None:
    assert summary([]) == ["no station has a record, and none was heard"]
    shown = [row(health("a")), row(health("b", heard=timedelta(hours=3))), NEVER]
    first, second = summary(shown)
    assert first == "3 stations: 1 online, 1 silent, 1 unheard"
    assert second == "something was heard last at 2026-11-27T11:59:30Z"
    assert summary([NEVER]) == ["1 station: 1 unheard"]


def test_for_programs_there_is_what_is_known_and_not_what_it_is_made_of() -> None:
    one = plain(row(health(battery_percent=7.0, gaps_ms=(60_000,))), NOW_MS)
    assert (one["station"], one["state"], one["troubles"]) == ("roof", "online", ["battery"])
    # Of the hour that begins just now and the 23 before it.
    assert (one["received_24h"], one["expected_24h"]) == (1380, 1380)
    assert not {"gaps_ms", "hours", "offsets"} & one.keys()
    assert json.loads(json.dumps(one)) == one
    assert plain(NEVER, NOW_MS) == {"station": "new", "state": "unheard", "troubles": []}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_a_narrow_screen_leaves_columns_out_and_never_what_to_look_at(width: int) -> None:
    rows = [row(health("roof-of-the-town-hall", battery_percent=7.0, firmware="3.1.9")), NEVER]
    console = Console(width=width, record=True, file=None)
    with console.capture() as shown:
        console.print(fitting(console, tables(rows, NOW)))
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= width
    assert {"State", "Heard", "Look"} <= set(lines[0].split())
    assert ("Firmware" in lines[0]) == (width >= 160)
    assert "battery" in shown.get()


@pytest.mark.broker
def test_who_needs_somebody_comes_first_and_the_exit_code_says_so(
    kafka_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_settings(partitions=1)
    create_topics(settings)
    for name, value in {
        "SKYFUSE_KAFKA__BOOTSTRAP": settings.kafka.bootstrap or "", "SKYFUSE_CONFIG": "",
        "SKYFUSE_KAFKA__PREFIX": settings.kafka.prefix, "SKYFUSE_DATA_DIR": str(settings.data_dir),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("cli.fleet.utc_now", lambda: NOW)
    producer = KafkaProducer(**kafka_connection(settings))

    def send(topic: str, key: str, value: bytes | None) -> None:
        producer.send(settings.kafka.prefix + topic, key=key.encode(), value=value).get(30)

    fine, lost = health("fine"), health("lost", heard=timedelta(hours=5))
    send(FLEET.name, "fine", fine.model_dump_json().encode())
    send(STATIONS.name, "quiet", Station(station="quiet").model_dump_json().encode())
    send(FLEET.name, "gone", health("gone").model_dump_json().encode())
    send(FLEET.name, "gone", None)
    send(FLEET.name, "later", b'{"of": "a later version"}')
    well = CliRunner().invoke(app, ["fleet"])
    assert well.exit_code == 0, well.output
    assert "2 stations: 1 online, 1 unheard" in well.output
    send(FLEET.name, "lost", lost.model_dump_json().encode())
    producer.close()
    shown = stations(kafka_connection(settings), settings.kafka.prefix, NOW_MS)
    assert [one.station for one in shown] == ["lost", "fine", "quiet"]
    bad = CliRunner().invoke(app, ["fleet", "--unwell", "--json"])
    assert bad.exit_code == 1
    assert [one["station"] for one in json.loads(bad.stdout)] == ["lost", "quiet"]
