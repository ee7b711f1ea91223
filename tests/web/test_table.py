"""A table to download: its portions are together what there is, told once."""

import asyncio
import csv
import io

from schemas.base import format_time, from_ms
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS
from sinks.store import Store
from tests.samples import T0, estimate, imputed, measured
from web.history import StoreHistory
from web.table import COLUMNS, Download, StationTable
from web.thinning import SeriesPoint

DAY_MS = 24 * HOUR_MS
START = 1000 * T0


def point(end: int, span_ms: int, value: float, corrected: bool = False) -> SeriesPoint:
    return SeriesPoint(end, value, 0.0, None, None, value, value, 1, span_ms, corrected)


class Past(StoreHistory):
    """A day, the hours of the next one and windows behind them; what it is asked for is kept."""

    def __init__(self, points: list[SeriesPoint]) -> None:
        self.points = points
        self.asked: list[tuple[int, int]] = []
        self.closed = 0

    def concentrations(self, station, parameter, since, until):
        self.asked.append((since, until))
        of = [one for one in self.points if (station, parameter) == ("a", "no2")]
        return [one for one in of if since <= one.at < until]

    def close(self):
        self.closed += 1


DAYS = [point(START + DAY_MS, DAY_MS, 1.0)]
HOURS = [point(START + DAY_MS + n * HOUR_MS, HOUR_MS, 2.0) for n in range(1, 25)]
WINDOWS = [point(START + 2 * DAY_MS + n * 60_000, 0, 3.0, n % 2 == 0) for n in range(1, 2000)]


def read(past: Past, days: int) -> list[dict[str, str]]:
    table, text = StationTable(past, "a", START, START + days * DAY_MS), ""
    while (portion := table.more()) is not None:
        assert portion
        text += portion
    table.close()
    assert past.closed == 1
    return list(csv.DictReader(io.StringIO(text)))


def test_all_there_is_is_told_once_and_in_portions() -> None:
    past = Past([*DAYS, *HOURS, *WINDOWS])
    rows = read(past, 31)
    assert [row["time"] for row in rows] == [
        format_time(from_ms(one.at)) for one in (*DAYS, *HOURS, *WINDOWS)
    ]
    assert [row["span_s"] for row in rows] == ["86400"] + ["3600"] * 24 + ["0"] * len(WINDOWS)
    assert [row["kind"] for row in rows[25:29]] == ["measured", "corrected", "measured", "corrected"]
    assert len(past.asked) == 31 * len(POLLUTANTS)
    assert max(until - since for since, until in past.asked) == DAY_MS


def test_what_was_told_as_windows_is_not_told_again_as_their_hour_or_day() -> None:
    """InfluxDB has the hours and days of windows that are there, too."""
    again = [point(START + 3 * DAY_MS, HOUR_MS, 9.0), point(START + 3 * DAY_MS, DAY_MS, 9.0)]
    rows = read(Past([*DAYS, *HOURS, point(START + 2 * DAY_MS, DAY_MS, 9.0), *WINDOWS, *again]), 4)
    assert "9.000" not in {row["value"] for row in rows[1:]}


def test_what_the_store_has_corrected_is_said_to_be(tmp_path) -> None:
    values = {
        "pm25": measured(9.0, kind="corrected", method="barkjohn"), "pm10": measured(8.0),
        "no2": imputed(7.0, 1.0, 9.0),
    }  # fmt: skip
    with Store(tmp_path / "store.db") as store:
        store.write([estimate("a", T0 + 60, pollutants=values)])
    table = StationTable(StoreHistory(tmp_path / "store.db").apart(), "a", START, START + DAY_MS)
    text = "".join(iter(table.more, None))
    table.close()
    rows = csv.DictReader(io.StringIO(text))
    assert {row["parameter"]: row["kind"] for row in rows} == {
        "pm25": "corrected", "pm10": "measured", "no2": "imputed",
    }  # fmt: skip


def test_an_empty_table_has_its_head() -> None:
    table = StationTable(Past([]), "a", START, START + DAY_MS)
    assert table.more() == ",".join(COLUMNS) + "\n"
    assert table.more() is None


def test_who_goes_away_in_the_midst_frees_the_place() -> None:
    past, ended = Past(WINDOWS), []

    async def go_away() -> None:
        table = StationTable(past, "a", START, START + 31 * DAY_MS)
        download = Download(table, table.more(), {}, lambda: ended.append(True))
        sent = asyncio.Event()

        async def send(message):
            if message["type"] == "http.response.body":
                sent.set()
                await asyncio.sleep(60)  # takes nothing more

        async def receive():
            await sent.wait()
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {"spec_version": "2.3"}}
        await download(scope, receive, send)

    asyncio.run(go_away())
    assert ended == [True]
