"""Forecasts of a period out of the store, beside what came."""

import csv
import io
import json
from pathlib import Path
from zlib import compress

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from cli.errors import QueryError
from cli.query import query
from forecast.outlook import Outlook
from schemas.base import format_time, from_ms, to_ms
from schemas.forecast import FORECAST_LEVELS, Forecast
from schemas.parameters import POLLUTANTS
from schemas.times import DAY_MS, HOUR_MS
from sinks.foretold import KEPT_HOURS, foretold
from sinks.retention import Retention
from sinks.store import Store
from tests.forecast.test_outlook import BEGINS, air, models, play, typical, window

APP = typer.Typer()
APP.command()(query)
_HOURS = 9


@pytest.fixture(scope="module")
def told() -> list[Forecast]:
    outlook = Outlook(models()[:3], "small", typical(), ("us-epa-2024",), {})
    return play(outlook, air(2, _HOURS))


def filled(path: Path, told: list[Forecast]) -> None:
    values = air(2, _HOURS)
    with Store(path, clock=lambda: 1e10) as store:
        store.write(
            [window(f"s{row}", hour, values[row, hour]) for row in range(2) for hour in range(_HOURS)]
        )
        store.write_forecasts(told[:6])
        store.write_forecasts(told[4:])


def asked(path: Path, *arguments: str) -> bytes:
    found = CliRunner().invoke(APP, ["--forecast", "--store", str(path), *arguments])
    if found.exception is not None:
        raise found.exception
    return found.stdout_bytes


def test_a_period_has_what_was_said_and_what_came(tmp_path: Path, told: list[Forecast]) -> None:
    path, values = tmp_path / "store.sqlite", air(2, _HOURS)
    filled(path, told)
    since, until = ((BEGINS + hour) * HOUR_MS for hour in (3, 6))
    period = ("--since", format_time(from_ms(since)), "--until", format_time(from_ms(until)))
    rows = list(csv.DictReader(io.StringIO(asked(path, *period, "--format", "csv").decode())))
    mine = [one for one in told if since <= to_ms(one.issued_at) < until]
    assert len(mine) == 6
    indices = sum(len(one.indices) for one in mine)
    assert len(rows) == len(KEPT_HOURS) * (len(POLLUTANTS) * len(mine) + indices)
    by_key = {(row["station"], row["issued_at"], row["hours_ahead"], row["parameter"]): row for row in rows}
    scored = 0
    for one in mine:
        for ahead in KEPT_HOURS:
            hour = to_ms(one.issued_at) // HOUR_MS - BEGINS + ahead - 1
            key = (one.station, format_time(one.issued_at), str(ahead))
            said, row = one.pollutants["pm25"], by_key[*key, "pm25"]
            quantiles = [level[ahead - 1] for level in said.quantiles]
            assert [float(row[f"p{round(100 * level):02d}"]) for level in FORECAST_LEVELS] == quantiles
            assert (float(row["mean"]), float(row["imputed_share"])) == (
                said.mean[ahead - 1], said.imputed_share
            )  # fmt: skip
            assert row["end"] == format_time(from_ms((BEGINS + hour + 1) * HOUR_MS))
            came = values[int(one.station[1:]), hour, 0] if hour < _HOURS else np.nan
            assert (row["measured"] != "") == bool(np.isfinite(came))
            if row["measured"]:
                scored += 1
                assert float(row["measured"]) == pytest.approx(came, abs=1e-3)
                # Twice the mean pinball: a line for each side of the outcome.
                losses = [
                    level * (came - q) if came > q else (1 - level) * (q - came)
                    for level, q in zip(FORECAST_LEVELS, quantiles, strict=True)
                ]
                assert float(row["crps"]) == pytest.approx(2 * sum(losses) / 7, abs=1e-3)
            index, row = one.indices[0], by_key[*key, ""]
            assert (row["standard"], int(row["index"])) == ("us-epa-2024", index.index[ahead - 1])
            chances = dict(part.split(":") for part in row["probabilities"].split(","))
            assert sum(map(float, chances.values())) == pytest.approx(1, abs=1e-3)
            assert {
                name: float(degree) for name, degree in (p.split(":") for p in row["membership"].split(","))
            } == (pytest.approx(index.degrees(ahead - 1), rel=1e-3))
            assert row["measured"] == row["parameter"] == ""
    assert scored > 10


def test_the_formats_say_the_same(tmp_path: Path, told: list[Forecast]) -> None:
    path = tmp_path / "store.sqlite"
    filled(path, told)
    period = ("s1", "--since", format_time(from_ms(BEGINS * HOUR_MS)))
    table = list(csv.DictReader(io.StringIO(asked(path, *period, "--format", "csv").decode())))
    plain = json.loads(asked(path, *period, "--format", "json"))
    asked(path, *period, "--format", "parquet", "--output", str(tmp_path / "f.parquet"))
    packed = pq.read_table(tmp_path / "f.parquet").to_pylist()
    assert {row["station"] for row in table} == {"s1"}
    assert len(table) == len(plain) == len(packed) > 100
    for row, one, other in zip(table, plain, packed, strict=True):
        assert {name: str(value) for name, value in one.items()} == {n: v for n, v in row.items() if v != ""}
        assert {n: v for n, v in other.items() if v not in (None, "") and n not in _TIMES} == {
            n: v for n, v in one.items() if n not in _TIMES
        }
    newest = list(csv.DictReader(io.StringIO(asked(path, "s1", "--format", "csv").decode())))
    assert len(newest) == 72 * 7
    with pytest.raises(QueryError, match="add --format csv"):
        asked(path, *period)


def at(hour: int) -> str:
    return format_time(from_ms((BEGINS + hour) * HOUR_MS))


def test_what_cannot_be_asked_of_forecasts_is_said_by_its_name(tmp_path: Path, told: list[Forecast]) -> None:
    path = tmp_path / "store.sqlite"
    filled(path, told)
    for arguments, word in (
        (("--since", "banana"), "banana"),
        (("--since", "2026-08-21T10:00:00"), "append Z"),
        (("--limit", "3"), "--limit is of estimates"),
        (("--since", at(6), "--until", at(3), "--format", "csv"), "is not before --until"),
        (("--since", at(6), "--until", at(6), "--format", "csv"), "is not before --until"),
        (("s1", "--why"), "without --forecast"),
    ):
        with pytest.raises(QueryError, match=word):
            asked(path, *arguments)


@pytest.mark.parametrize("format", ["csv", "json"])
def test_a_period_without_forecasts_is_told_when_there_are_some(
    tmp_path: Path, told: list[Forecast], format: str
) -> None:
    path = tmp_path / "store.sqlite"
    filled(path, told)
    for period in (("--since", at(1000)), ("--until", at(1))):
        found = CliRunner().invoke(APP, ["--forecast", "--store", str(path), "--format", format, *period])
        assert found.exit_code == 0
        assert found.stdout.count("\n") == 1
        assert f"those kept were issued from {at(1)} to {at(_HOURS - 1)}" in found.stderr
    some = CliRunner().invoke(APP, ["--forecast", "--store", str(path), "--format", format, "--until", at(2)])
    assert (some.stdout.count(at(1)) > 100, some.stderr) == (True, "")


def test_what_forecasts_take_belongs_to_the_pace_of_the_store(tmp_path: Path, told: list[Forecast]) -> None:
    filled(tmp_path / "with.sqlite", told)
    filled(tmp_path / "without.sqlite", [])
    (with_them, without) = (
        Store(tmp_path / name, read_only=True, clock=lambda: 1e10)
        for name in ("with.sqlite", "without.sqlite")
    )
    with with_them, without:
        more = with_them.pace().a_day - without.pace().a_day
    # Two stations' hourly ones, for a day.
    small = [len(compress(foretold(one, KEPT_HOURS).model_dump_json().encode())) for one in told]
    assert more == pytest.approx(2 * 24 * 1.25 * float(np.mean(small)), rel=0.15)


_TIMES = ("issued_at", "end", "weather_issued_at")


def test_the_newest_revision_is_kept_as_long_as_windows(tmp_path: Path, told: list[Forecast]) -> None:
    again = told[3].model_copy(update={"revision": 2, "model": "again"})
    path = tmp_path / "store.sqlite"
    filled(path, told)
    with Store(path, retention=Retention(DAY_MS, DAY_MS), clock=lambda: 1e10) as store:
        store.write_forecasts([again])
        store.write_forecasts(told[:4])
        found = {one.issued_at: one for one in store.foretold(again.station, None, None)}
        assert list(found) == [one.issued_at for one in told if one.station == again.station]
        assert (found[again.issued_at].model, found[again.issued_at].hours) == ("again", KEPT_HOURS)
        store.tidy()
        assert len(list(store.foretold("s0", None, None))) == len(found)
        later = BEGINS + 24 + 5
        store.write([window("s0", later - BEGINS, air(1, 1)[0, 0])])
        store.tidy()
        left = [to_ms(one.issued_at) // HOUR_MS for one in store.foretold("s0", None, None)]
    # An hour of windows leaves when it ended a day before the newest window's end.
    assert left == [hour for hour in range(BEGINS + 1, BEGINS + _HOURS) if hour > later + 1 - 24]
    assert left


def test_days_of_forecasts_are_read_once_and_in_order(tmp_path: Path, told: list[Forecast]) -> None:
    hours = (0, 1, 23, 24, 25, 47, 48, 200)
    issued = [from_ms((BEGINS + hour) * HOUR_MS) for hour in hours]
    with Store(tmp_path / "store.sqlite") as store:
        store.write_forecasts([told[0].model_copy(update={"issued_at": at}) for at in reversed(issued)])
        assert [one.issued_at for one in store.foretold("s0", None, None)] == issued
        some = store.foretold("s0", to_ms(issued[1]), to_ms(issued[-2]))
        assert [one.issued_at for one in some] == issued[1:-2]
        assert list(store.foretold("s9", None, None)) == []
