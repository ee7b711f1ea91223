"""The live table: what is old is told as old, and no number is cut at any width."""

import io
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cli.shared.live import (
    Clocks,
    Drawing,
    Freshness,
    Pipeline,
    Told,
    Wait,
    is_stale,
    line,
    moment_of,
    picture,
)
from cli.shared.times import age_words
from cli.shared.wording import counted
from cli.up import answers, changes, expect_folder, takes
from infra.errors import StackError
from schemas.estimate import Inputs
from schemas.parameters import POLLUTANTS
from tests.engines import free_port
from tests.samples import T0, estimate, imputed, index, measured

NOW = datetime.fromtimestamp(T0, UTC) + timedelta(hours=12)


def at(age: timedelta) -> int:
    return int((NOW - age).timestamp())


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def screen(estimates, width, stale=(), hints=()):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    pipeline = Pipeline({})
    pipeline.read()
    console.print(
        picture(estimates, Freshness(), pipeline, Told(hints, ["a note"]), Clocks(NOW, stale), console)
    )
    return written(console)


def full(station: str, end: int):
    values = {name: imputed(1000.5 + n, 10.0, 20_000.0) for n, name in enumerate(POLLUTANTS)}
    return estimate(station, end, 1, values | {"pm25": measured(74.25)}, (index(155),))


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 200])
def test_no_number_and_no_name_is_cut(width):
    text = screen([full("harbour-north", at(timedelta(seconds=40)))], width)
    assert "harbour-north" in text
    assert "…" not in text
    row = next(each for each in text.splitlines() if "harbour-north" in each)
    assert {"155", "74.2", "11:59", "40"} <= set(row.split())
    for n, name in enumerate(POLLUTANTS[1:], start=1):
        assert (f"~{1000.5 + n:.1f}" in row) == (
            name.upper().replace("PM25", "PM2.5") not in text.partition("a wider terminal shows")[2]
        )
    assert all(len(each) <= width for each in text.splitlines())


def test_what_goes_first_is_the_intervals():
    assert "(10 to 20000)" in screen([full("a", at(timedelta(0)))], 200)
    narrow = screen([full("a", at(timedelta(0)))], 100)
    assert "(10 to" not in narrow
    assert "~1005.5" in narrow


def test_a_station_s_own_clock_stands_beside_utc_where_there_is_room():
    rows, zone = [full("milan", at(timedelta(0))), full("roof", at(timedelta(0)))], ZoneInfo("Asia/Kolkata")
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    pipeline = Pipeline({})
    pipeline.read()
    console.print(picture(rows, Freshness(), pipeline, Told(), Clocks(NOW, (), {"milan": zone}), console))
    milan, roof = (one for one in written(console).splitlines() if one[:5] in ("milan", "roof "))
    assert "12:00  17:30 IST" in milan
    assert "IST" not in roof
    assert "Local" not in screen(rows, 200)


def test_a_resized_terminal_is_drawn_on_anew():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=20, legacy_windows=False)
    with Drawing(console, "Kafka is at x") as drawing:
        drawing.draw("first picture")
        drawing.draw("second picture")
        assert "\x1b[2J" not in written(console), "nothing flickers while nothing changes"
        before = len(written(console))
        console.size = (50, 20)
        drawing.draw("third picture")
        cleared, _, after = written(console)[before:].rpartition("\x1b[2J")
        assert "third picture" not in cleared
        assert "Kafka is at x" in after
        assert "third picture" in after


def test_another_day_has_its_date_and_stale_says_its_age():
    text = screen(
        [full("old", at(timedelta(days=1460))), full("new", at(timedelta(seconds=50)))], 200, {"old"}
    )
    old = next(each for each in text.splitlines() if each.startswith("old"))
    assert "2022-01-02 12:00" in old
    assert "3 y old" in old
    new = next(each for each in text.splitlines() if each.startswith("new"))
    assert "11:59" in new.split()
    assert "old" not in new
    assert "grey: nothing new for long" in text
    assert "2022-01-02T12:00:00Z (3 y old) old: " in line(
        full("old", at(timedelta(days=1460))), Freshness(), NOW
    )


def test_neighbours_that_carry_a_value_are_named():
    """Of a station that sent a picture alone, and of one that said nothing at all."""
    own = imputed(40.0, 10.0, 90.0)
    told = own.model_copy(update={"method": "network", "weights": {"neighbours": 0.7, "past": 0.3}})
    hill = estimate("hill", at(timedelta(seconds=50)), 1, {"pm25": told}, sides="image")
    gone = estimate(
        "gone", at(timedelta(seconds=50)), 1, {"pm25": told}, sides="none", inputs=Inputs(readings=0)
    )
    alone = estimate("roof", at(timedelta(seconds=50)), 1, {"pm25": own}, sides="image")
    rows = {row.split()[0]: row for row in screen([hill, gone, alone], 200).splitlines() if row.split()}
    assert "camera + neighbours" in rows["hill"]
    assert "neighbours" in rows["gone"]
    assert "camera" not in rows["gone"]
    assert "neighbours" not in rows["roof"]
    assert "from=image+neighbours" in line(hill, Freshness(), NOW)
    assert "from=image" in line(alone, Freshness(), NOW)
    assert "neighbours" not in line(alone, Freshness(), NOW)


def test_just_after_midnight_a_narrow_table_shows_the_time_of_yesterday_s_window():
    now = datetime(2026, 11, 27, 0, 0, 30, tzinfo=UTC)
    assert moment_of(now - timedelta(seconds=31), now, room=False) == "23:59"
    assert moment_of(now - timedelta(seconds=31), now) == "2026-11-26 23:59"
    assert moment_of(now - timedelta(days=2), now, room=False) == "2026-11-25"


def test_grey_says_why():
    freshness, old = Freshness(), full("a", at(timedelta(hours=1)))

    def why():
        console = Console(file=io.StringIO(), width=200, force_terminal=False)
        pipeline = Pipeline({})
        pipeline.read()
        console.print(picture([old], freshness, pipeline, Told(), Clocks(NOW, {"a"}), console))
        return written(console)

    freshness.note([old], NOW)
    assert "grey: of before this start; nothing new has come yet" in why()
    freshness.note([full("a", at(timedelta(minutes=40)))], NOW)
    assert "grey: history is being caught up with, 40 min behind" in why()
    freshness.note([full("a", at(timedelta(minutes=40)))], NOW + timedelta(minutes=2))
    assert freshness.why_stale(NOW + timedelta(minutes=2)) == "nothing new for long"
    freshness.note([full("b", at(timedelta(0)))], NOW)
    assert "grey: nothing new for long" in why()
    fresh = Freshness()
    fresh.note([], NOW)  # a new data folder
    fresh.note([old], NOW)
    assert "caught up with" in fresh.why_stale(NOW)


def ends(gap: timedelta, count: int = 30, outage: timedelta = timedelta(0)) -> list[datetime]:
    newest = NOW
    return [newest - gap * n - (outage if n > 10 else timedelta(0)) for n in range(count)]


MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.parametrize(
    ("gap", "age", "stale"),
    [
        (MINUTE, 14 * MINUTE, False), (MINUTE, 16 * MINUTE, True),
        (HOUR, 20 * MINUTE, False), (HOUR, 179 * MINUTE, False), (HOUR, 181 * MINUTE, True),
        (15 * MINUTE, 44 * MINUTE, False), (15 * MINUTE, 46 * MINUTE, True),
        (24 * HOUR, 30 * HOUR, False), (24 * HOUR, 73 * HOUR, True),
    ],
)  # fmt: skip
def test_stale_is_measured_by_the_stations_own_gaps(gap, age, stale):
    assert is_stale(age, ends(gap)) == stale
    assert is_stale(age, ends(gap, outage=5 * HOUR)) == stale, "one outage is no habit"


def test_a_station_that_spoke_once():
    assert is_stale(16 * MINUTE, [])
    assert is_stale(16 * MINUTE, [NOW])
    assert not is_stale(14 * MINUTE, [])


@settings(max_examples=50)
@given(st.integers(0, 40 * 365 * 86_400))
def test_a_length_is_told_in_its_leading_unit(seconds):
    number, unit = age_words(timedelta(seconds=seconds)).split()
    size = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "y": 365.25 * 86_400}[unit]
    assert 0 <= seconds / size - int(number) < 1


def test_a_line_says_what_to_look_at():
    text = screen([full("a", at(timedelta(0)))], 160, hints=["look at: a's sensor pm is silent"])
    lines = [line.strip() for line in text.splitlines()]
    assert lines.index("look at: a's sensor pm is silent") > next(
        number for number, line in enumerate(lines) if line.startswith("a ")
    )


def served(lines: str, asked=lambda _: None) -> str:
    """What the table says of a worker whose metrics are these."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(lines.encode())

        def log_message(self, *args: object) -> None:
            del args

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            pipeline = Pipeline({"sink": f"http://127.0.0.1:{server.server_port}/metrics"})
            pipeline.read()
            asked(pipeline)
        finally:
            server.shutdown()
            thread.join()
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(picture([], Freshness(), pipeline, Told(), Clocks(NOW), console))
    return written(console)


def test_the_table_says_which_sink_waits_and_since_when():
    since = datetime.now(UTC) - timedelta(minutes=4, seconds=10)
    metric = "aq_sink_waits_since_seconds"
    head = f"# HELP {metric} x\n# TYPE {metric} gauge\n"
    text = served(f'{head}{metric}{{sink="influx",why="cannot be reached"}} {since.timestamp()}\n')
    assert "InfluxDB cannot be reached: the influx sink waits since" in text
    assert f"{since:%H:%M} (4 min" in text
    assert "nothing is lost" in text
    assert "waits" not in served(head)


def test_up_names_the_ways_in_when_the_gateway_takes_them():
    found: list[bool] = []

    def asked(pipeline: Pipeline) -> None:
        found.extend(takes(pipeline, ways, 0.0) for ways in (("http",), ("http", "mqtt"), ()))

    metric = "aq_gateway_takes"
    head = f"# HELP {metric} x\n# TYPE {metric} gauge\n"
    served(f'{head}{metric}{{way="http"}} 1.0\n{metric}{{way="mqtt"}} 0.0\n', asked)
    assert found == [True, False, True]


def test_up_tells_once_that_a_sink_waits_and_that_it_goes_on():
    begun = NOW - timedelta(minutes=3)
    away = Wait("influx", "cannot be reached", begun.timestamp())
    refused = Wait("influx", "answers 401", begun.timestamp())
    (told,) = changes((), (away,), NOW)
    assert "InfluxDB cannot be reached" in told
    assert "nothing is lost" in told
    assert changes((away,), (away,), NOW) == []
    (told,) = changes((away,), (refused,), NOW)
    assert "InfluxDB answers 401" in told
    (told,) = changes((refused,), (), NOW)
    assert told.startswith("InfluxDB is back after 3 min")
    (full,) = changes((), (Wait("store", "cannot be written", begun.timestamp()),), NOW)
    assert "the local store cannot be written: the store sink waits" in full


def test_a_data_folder_that_was_removed_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    before = folder.stat()
    expect_folder(folder, before)
    moved = folder.rename(tmp_path / "kept")
    with pytest.raises(StackError, match="was removed while skyfuse ran"):
        expect_folder(folder, before)
    folder.mkdir()  # by whatever writes there next
    with pytest.raises(StackError, match="was removed while skyfuse ran"):
        expect_folder(folder, before)
    expect_folder(moved, before)


def test_one_of_a_thing_is_said_in_the_singular() -> None:
    assert [counted(number, "window") for number in (0, 1, 2)] == ["0 windows", "1 window", "2 windows"]


def test_the_page_is_named_when_it_answers() -> None:
    """Whatever it says: it may take a key, or go by another name."""
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    assert not answers(page, 0.0)
    found: list[bool] = []
    waiting = Thread(target=lambda: found.append(answers(page, time.monotonic() + 60)))
    waiting.start()

    class Locked(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(421)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", port), Locked) as server:
        server.handle_request()
        waiting.join(60)
    assert found == [True]
