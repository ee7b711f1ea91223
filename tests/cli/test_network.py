"""`skyfuse network show`: which state counts, what is shown of it, and in how many columns."""

import io
import json
from contextlib import nullcontext
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from agents.network import in_pieces, stored_regions
from cli.errors import RegionError
from cli.network import app, nothing_yet, plain_region, show_region, show_regions
from fusion.together.learning import LEARNED, Learned, LearnedState
from network import region as network
from network.listening import listening
from streams.checkpoint import AT
from tests.network.cities import city, end, members


def learned(hours: int, stations: int = 4) -> Learned:
    of = members(stations)
    region = network.fresh(of)
    for hour, row in enumerate(city(of, hours + 1)):
        if hour:
            row[0] = np.nan
            region = network.learned(region, end(hour), row)
    return Learned(region)


def records(region: str, at: int, of: Learned, slot: int) -> list[Any]:
    pieces = in_pieces(region, LEARNED.encode(LearnedState.of(of)))
    return [
        SimpleNamespace(key=f"{name}#{slot}".encode(), headers=[(AT, str(at).encode())], value=data)
        for name, data in pieces.items()
    ]


def test_of_what_is_stored_the_newest_counts_that_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.network._PIECE", 4_000)
    old, new = learned(5), learned(6)
    first, second = records("", end(5), old, 0), records("", end(6), new, 1)
    assert len(first) > 2
    assert {name: at for name, (at, _) in stored_regions(first + second).items()} == {"": end(6)}
    half = stored_regions(first + second[:-1])
    assert half[""][0] == end(5)
    assert half[""][1].air.whole is not None
    broken = SimpleNamespace(key=first[0].key, headers=first[0].headers, value=b"nonsense")
    strange = SimpleNamespace(key=b"what#0", headers=[], value=b"")
    assert stored_regions([broken, strange, *first[1:]]) == {}
    two = stored_regions([*first, *records("a|b#c", end(6), new, 0)])
    assert list(two) == ["", "a|b#c"]


def shown(columns: int, region: str | None, stations: int = 4) -> str:
    output = io.StringIO()
    console = Console(file=output, width=columns)
    regions = {"": (end(30), learned(30, stations)), "hills": (end(20), learned(20))}
    if region is None:
        show_regions(regions, console)
    else:
        show_region(region, regions, console)
    return output.getvalue()


@pytest.mark.parametrize("region", [None, "", "hills"])
def test_eighty_columns_hold_it(region: str | None) -> None:
    text = shown(80, region, stations=9)
    assert max(len(line) for line in text.splitlines()) <= 80
    if region is None:
        assert "(no name)" in text
        assert "hills" in text
        return
    rows = [line for line in text.splitlines() if "PM2.5" in line]
    assert len(rows) == (9 if region == "" else 4)
    assert "never" in rows[0]
    assert all("%" in row for row in rows)
    assert "s001" in text


def test_a_station_alone_is_a_region_that_is_called_by_it() -> None:
    output = io.StringIO()
    regions = {"@roof": (end(30), learned(30, 1))}
    show_regions(regions, Console(file=output, width=80))
    assert "@roof (a station alone)" in output.getvalue()
    show_region("@roof", regions, Console(file=output, width=80))
    assert "region @roof (a station alone): 1 station, 3 sensors" in output.getvalue()


def test_a_wide_screen_names_more() -> None:
    assert shown(200, "", 9).count("s00") > shown(80, "", 9).count("s00")


def test_for_programs_all_shares_are_there() -> None:
    of = learned(30)
    told = plain_region("hills", end(30), of, listening(of.air))
    json.dumps(told, allow_nan=False)
    assert told["region"] == "hills"
    assert len(told["sensors"]) == len(of.air.members)
    first = told["sensors"][0]
    assert (first["station"], first["pollutant"], first["hours"], first["heard"]) == (
        "s000",
        "pm25",
        0,
        False,
    )
    for one in told["sensors"]:
        assert sum(one["neighbours"].values()) + one["own"] + one["past"] == pytest.approx(1.0, abs=1e-3)


def test_a_region_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(RegionError, match=r"'valley'.*'hills'"):
        shown(80, "valley")


@pytest.mark.parametrize(
    ("now", "again"),
    [("10:02", "10:20"), ("10:19", "10:20"), ("10:20", "11:20"), ("10:59", "11:20"), ("23:30", "00:20")],
)
def test_where_nothing_was_learned_it_is_said_when_to_ask_again(now: str, again: str) -> None:
    said = nothing_yet(timedelta(minutes=10), datetime.fromisoformat(f"2026-01-01T{now}:00+00:00"))
    assert f"try again a little after {again}Z" in said
    assert "20 min past it" in said


def test_the_command_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.network.broker_at_hand", lambda settings, _say: nullcontext(settings))
    monkeypatch.setattr("cli.network.kafka_connection", lambda _: {})
    monkeypatch.setattr("cli.network.read_topic", lambda *_: [])
    asked = CliRunner().invoke(app, ["show"])
    assert (asked.exit_code, "try again" in asked.stdout) == (0, True)
    named = CliRunner().invoke(app, ["show", "valley"])
    assert isinstance(named.exception, RegionError)
    assert "network.enabled" in str(named.exception)
    assert json.loads(CliRunner().invoke(app, ["show", "--json"]).stdout) == []
