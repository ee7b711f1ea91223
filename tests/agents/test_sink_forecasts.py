"""Forecasts through the sink stage into the store, as points, and out again by `query --forecast`."""

import asyncio
import csv
import io
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import typer
from aiokafka import ConsumerRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agents.sink import Sinks, SinkStage
from cli.errors import QueryError
from cli.query import query
from cli.shared.forecasts import forecast_tables
from cli.shared.forecasts import words as words_of
from forecast.outlook import Outlook
from schemas.base import to_ms
from schemas.dead_letter import DeadLetter
from schemas.forecast import Forecast, ForecastReason
from sinks.points import forecast_points
from sinks.store import Store
from streams.accept import Keys
from streams.stage import StageIo
from streams.stations import StationBook
from tests.agents.test_sink_alerts import Sink
from tests.forecast.test_outlook import air, models, play, typical
from tests.samples import T0, estimate, measured

TOPIC = "aq.forecasts.v1"
APP = typer.Typer()
APP.command()(query)


@pytest.fixture(scope="module")
def told() -> list[Forecast]:
    outlook = Outlook(models()[:3], "small", typical(), ("us-epa-2024",), {})
    return play(outlook, air(2, 4))


def records(values):
    return [
        ConsumerRecord(
            TOPIC, 0, offset, 0, 0, one.station.encode() if isinstance(one, Forecast) else b"s0",
            one.model_dump_json().encode() if isinstance(one, Forecast) else one, None, 0, 0, (),
        )
        for offset, one in enumerate(values)
    ]  # fmt: skip


def test_the_store_keeps_the_newest_of_each(tmp_path, told, monkeypatch):
    letters = []

    async def publish(out):
        letters.extend(out)

    async def run(stage, values):
        await stage.handle(TOPIC, records(values))
        return await stage.settle()

    again = told[-1].model_copy(update={"revision": 2, "model": "again"})
    with Store(tmp_path / "store.sqlite") as store, ThreadPoolExecutor(1) as executor:
        assert store.forecasts() == []
        stage = SinkStage(
            StageIo(0, publish), Sinks(store), StationBook("aq.stations.v1", Keys(1)), executor,
            threading.Event(),
        )  # fmt: skip
        settled = asyncio.run(run(stage, [*told, b"{", again, told[-1]]))
        assert settled[TOPIC] == (len(told) + 3, "")
        assert store.forecasts() == [told[-2], again]
        asyncio.run(run(stage, told))  # read again after a crash: what is newer stays
        assert store.forecasts("s1") == [again]
    assert [DeadLetter.from_headers(one.headers).code for one in letters] == ["not_json"]
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    asked = CliRunner().invoke(APP, ["--forecast", "--format", "json"])
    assert [one["revision"] for one in json.loads(asked.stdout)] == [1, 2]
    rows = list(
        csv.DictReader(io.StringIO(CliRunner().invoke(APP, ["--forecast", "--format", "csv"]).stdout))
    )
    assert len(rows) == 2 * (6 + 1) * 72
    first = next(
        one for one in rows if (one["station"], one["parameter"], one["hours_ahead"]) == ("s1", "o3", "3")
    )
    assert float(first["p50"]) == again.pollutants["o3"].quantiles[3][2]
    table = CliRunner().invoke(APP, ["s1", "--forecast"]).stdout
    assert "without the weather to come" in table
    assert "PM2.5" in table
    nobody = CliRunner().invoke(APP, ["nobody", "--forecast"])
    assert isinstance(nobody.exception, QueryError)


def test_the_category_of_a_table_is_that_of_the_median_and_what_nobody_measures_is_marked(told):
    """The likeliest category of a flat distribution lies at one of its ends and contradicts the index."""
    index = told[-1].indices[0]
    flat = tuple((share,) * 72 for share in (0.28, 0.2, 0.17, 0.15, 0.12, 0.08))
    assert len(index.categories) == len(flat)
    guessed = told[-1].pollutants | {
        "o3": told[-1].pollutants["o3"].model_copy(update={"imputed_share": 1.0})
    }
    one = told[-1].model_copy(
        update={"indices": (index.model_copy(update={"probabilities": flat}),), "pollutants": guessed}
    )
    (widest, *_) = forecast_tables(one)
    columns = {str(column.header): list(column.cells) for column in widest.columns}
    assert set(columns["category"]) == {f"{index.categories[2]} or worse 52 %"}
    good = tuple((share,) * 72 for share in (0.75, 0.25, 0.0, 0.0, 0.0, 0.0))
    clean = one.model_copy(update={"indices": (index.model_copy(update={"probabilities": good}),)})
    (table, *_) = forecast_tables(clean)
    assert {str(cell) for cell in list(table.columns)[2].cells} == {f"{index.categories[0]} 75 %"}
    assert all(str(cell).startswith("~") for cell in columns["O3"])
    assert not any(str(cell).startswith("~") for cell in columns["PM2.5"])
    assert "~ of what was not measured" in str(widest.caption)


@pytest.mark.parametrize(
    ("low", "median", "high", "cell"),
    [(63.6, 765.2, 3380.4, "765 [64, 3380]"), (0.0696, 15.39, 88.7, "15.4 [0.1, 88.7]")],
)
def test_a_cell_has_digits_of_one_kind_and_no_exponent(told, low, median, high, cell):
    levels = tuple((value,) * 72 for value in (low, low, low, median, high, high, high))
    pm25 = told[-1].pollutants["pm25"].model_copy(update={"quantiles": levels})
    one = told[-1].model_copy(update={"pollutants": {"pm25": pm25}})
    (column,) = [c for c in next(forecast_tables(one)).columns if c.header == "PM2.5"]
    assert set(column.cells) == {cell}


def test_why_is_said_in_sentences(tmp_path, told, monkeypatch):
    words = "rising by 23 ug/m3: the wind to come +12 (falls to 0.9 m/s)"
    reason = ForecastReason(hours=12, last=40.0, mean=63.0, words=words)
    one = told[-1].model_copy(update={"reasons": {"pm25": reason}, "history_h": 5})
    with Store(tmp_path / "store.sqlite") as store:
        store.write_forecasts([one])
        store.write([estimate(one.station, T0 + 60, 1, {"pm25": measured(40.0)})])
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    said = CliRunner().invoke(APP, [one.station, "--why"]).stdout
    assert "The window rests on" in said
    assert f"PM2.5 in 12 h: a mean of 63.0 ug/m3 after 40.0, {words}." in said
    assert "Means are the model's" in said
    assert "It stands on 5 measured hours" in said
    young = one.model_copy(update={"history_h": 1})
    assert any(line.startswith("It stands on 1 measured hour of") for line in words_of(young))
    assert "it stands on 1 measured hour of" in str(next(forecast_tables(young)).caption)
    table = CliRunner().invoke(APP, ["--forecast"]).stdout
    assert f"the model's mean of PM2.5 in 12 h: {words}" in " ".join(table.split())
    for arguments, word in (
        (["--why", "--limit", "3"], "newest windows"),
        (["nobody", "--why"], "no window"),
    ):
        assert word in str(CliRunner().invoke(APP, arguments).exception)


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_what_influxdb_has_in_the_end_hangs_on_no_batch_and_no_crash(told, data):
    """However the log is cut into batches, and from wherever it is read again: as told one by one."""
    told = [*told, told[-1].model_copy(update={"revision": 2, "model": "again"})]
    logged = [*told, *told[data.draw(st.integers(0, len(told))) :]]

    def series(batches):
        found: dict[tuple[str, tuple[tuple[str, str], ...], int], dict[str, object]] = {}
        with TemporaryDirectory() as folder, Store(Path(folder) / "store.sqlite") as store:
            for batch in batches:
                for one in store.write_forecasts(batch):
                    for point in forecast_points(*one):
                        found.setdefault((point.measurement, point.tags, point.time), {}).update(point.fields)
            return found, store.forecasts()

    batches, begin = [], 0
    while begin < len(logged):
        end = data.draw(st.integers(begin + 1, len(logged)))
        batches.append(logged[begin:end])
        # A worker that dies before it has acknowledged leaves the batch to a successor, who cuts it anew.
        begin = end if len(batches) > 5 else data.draw(st.sampled_from([begin, end]))
    assert series(batches) == series([[one] for one in told])


def test_what_is_read_again_says_nothing_of_the_hours_after_a_newer_one(tmp_path, told):
    newest = {one.station: to_ms(one.issued_at) for one in told}
    with Store(tmp_path / "store.sqlite") as store:
        store.write_forecasts(told)
        again = store.write_forecasts(told[:2])
    assert {one.forecast.station: one.until for one in again} == newest
    for one in again:
        times = {1000 * point.time for point in forecast_points(*one) if point.measurement == "forecast"}
        assert max(times) == newest[one.forecast.station]


@pytest.mark.engine
def test_a_rest_leaves_no_gap_in_influxdb(tmp_path, told, influx, proxy):
    """All is read together: an hour has what was said just before it, and a forecast has its scores."""
    sink = Sink(proxy(influx.url, influx1=True).url, influx.database, tmp_path, [])
    try:
        asyncio.run(sink.stage.handle(TOPIC, records(told)))
    finally:
        sink.close()
    mine = [one for one in told if one.station == "s1"]
    of = "WHERE station = 's1' AND parameter = 'pm25'"
    issued = [to_ms(one.issued_at) for one in mine]
    rows = influx.rows(f"SELECT issued_at FROM forecast {of}")
    assert [row["issued_at"] for row in rows] == [*issued[:-1], *[issued[-1]] * 72]
    scored = influx.rows(f"SELECT mae FROM forecast_score {of} AND horizon = '1'")
    assert [row["time"] * 1000 for row in scored] == [
        to_ms(one.issued_at) for one in mine if "1" in one.scores.get("pm25", {})
    ]
    assert len(scored) > 1


def test_points_lie_at_the_ends_of_their_hours(told):
    one = told[-1]
    points = forecast_points(one)
    mine = [
        point for point in points
        if point.measurement == "forecast" and ("parameter", "pm25") in point.tags
    ]  # fmt: skip
    assert [point.time for point in mine] == [to_ms(one.issued_at) // 1000 + 3600 * n for n in range(1, 73)]
    assert mine[4].fields["p95"] == one.pollutants["pm25"].quantiles[6][4]
    assert mine[4].fields["hours_ahead"] == 5
    [index] = [point for point in points if point.measurement == "forecast_index"][:1]
    degrees = [float(part.rpartition(":")[2]) for part in str(index.fields["membership"]).split(",")]
    assert sum(degrees) == pytest.approx(1.0)
    assert len(degrees) in (1, 2)
    for point in points:
        assert point.line()
        assert all(re.fullmatch("[a-z0-9_]+", name) for name in point.fields), "InfluxDB refuses the others"
    assert {point.measurement for point in points} == {"forecast", "forecast_index", "forecast_score"}
