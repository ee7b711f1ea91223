"""kill -9 of forecast, fusion, sink and alert at random: what is foretold, its scores, and the alerts on what
is to come are the same.
"""

import os
import random
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.stack.broker import EmbeddedBroker
from schemas.alert import Alert
from schemas.base import from_ms
from schemas.forecast import Forecast
from schemas.weather import WeatherHour, WeatherIssue
from settings.sections import InfluxSettings, KafkaSettings, Settings, WindowSettings
from sinks.store import Store
from streams.topics import ALERTS, DEAD_LETTERS, ESTIMATES, FEATURES, FORECASTS, FRAMES, WEATHER
from tests.engines import Influx1
from tests.forecast.small import small_bundle
from tests.harness import Sent, fleet, punctuations, read_all, reading, send, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

#: More of them for a longer look: KILLS=20.
KILLS = int(os.environ.get("KILLS", "4"))
PARTITIONS = 2
#: So that hours end between any two kills.
HOURS = max(10, 2 * KILLS)
STATIONS = ("a", "b", "c")
ROLES = ("fusion", "forecast", "sink", "alert")
#: A station where the air gets bad, and good again; the rule looks at what is to come.
RISING = "r"
RULES = """
[[rule]]
id = "to-come"
what = "forecast"
parameter = "pm25"
within = "6h"
clear_after = "1h"
steps = [{ severity = "minor", enter = 150, leave = 100 }]
"""
EVERYBODY = (*STATIONS, RISING)
#: A whole hour.
BEGIN = 1_750_246_800_000 // 3_600_000 * 3_600_000
HOUR = 3_600_000


def issued(station: str, hour: int) -> Sent:
    issue = WeatherIssue(
        station=station, issued_at=from_ms(BEGIN + HOUR * hour),
        hours=tuple(
            WeatherHour(
                valid_at=from_ms(BEGIN + HOUR * (hour + ahead)), temperature=(hour + ahead) % 30,
                wind_speed=(hour * 7 + ahead) % 11, wind_direction=90.0,
            )
            for ahead in range(90)
        ),
    )  # fmt: skip
    return Sent(WEATHER, station.encode(), issue.model_dump_json().encode())


def town() -> tuple[list[Sent], list[Sent], list[Sent]]:
    """A reading each ten minutes, some missing: those of the first hour, the weather of some later hours, and
    the other readings. (Weather of a station that has not spoken yet is a dead letter.)
    """
    dice = random.Random(6)
    ends = BEGIN + HOUR * (HOURS + 3)
    # There are no pictures, so no worker makes features of them: they hold nothing up.
    silent = [replace(one, topic=FEATURES) for one in punctuations(ends, PARTITIONS) if one.topic == FRAMES]
    weather = [issued(station, hour) for station in STATIONS[:2] for hour in range(2, HOURS, 3)]
    first: list[Sent] = []
    later: list[Sent] = []
    for minute in range(10, HOURS * 60 + 40, 10):
        for number, station in enumerate(STATIONS):
            if dice.random() < 0.85:
                values = {"pm25": round(dice.uniform(5, 90), 1), "o3": round(dice.uniform(5, 90), 1)}
                (first if minute < 60 else later).append(
                    reading(station, BEGIN + minute * 60_000 - 1000 * number, values)
                )
        bad = max(20.0, 300.0 - 1.8 * abs(minute - 240))
        (first if minute < 60 else later).append(reading(RISING, BEGIN + minute * 60_000, {"pm25": bad}))
    return [*silent, *first], weather, [*later, *punctuations(ends, PARTITIONS)]


def test_kills_change_no_forecast_and_no_score(
    broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    engine: tuple[Influx1, str] | None,
) -> None:  # fmt: skip
    dice, (first, weather, records) = random.Random(6), town()
    monkeypatch.setenv("SKYFUSE_FORECAST__BUNDLE", str(small_bundle()))
    (tmp_path / "rules.toml").write_text(RULES)
    monkeypatch.setenv("SKYFUSE_ALERTS__RULES", str(tmp_path / "rules.toml"))

    def settings(name: str) -> Settings:
        influx = InfluxSettings()
        if engine is not None:
            for database in (name, f"{name}_hourly", f"{name}_daily"):
                engine[0].create_database(database)
            influx = InfluxSettings(url=engine[1], bucket=name)
        (tmp_path / f"{name}-logs").mkdir()
        return Settings(
            data_dir=tmp_path / name,
            kafka=KafkaSettings(
                bootstrap=broker.bootstrap, prefix=f"{topic_prefix}{name}.", partitions=PARTITIONS
            ),
            window=WindowSettings(
                size=timedelta(minutes=10), allowed_lateness=timedelta(minutes=3), idle_timeout=None
            ),
            influx=influx,
        )

    def told(of: Settings) -> dict[tuple[str, str, int], set[bytes]]:
        found = defaultdict(set)
        for record in read_all(of, FORECASTS):
            one = Forecast.model_validate_json(record.value)
            found[one.station, str(one.issued_at), one.revision].add(record.value)
        return dict(found)

    def alerts(of: Settings) -> dict[tuple[str, int], set[bytes]]:
        found = defaultdict(set)
        for record in read_all(of, ALERTS):
            event = Alert.model_validate_json(record.value)
            found[event.id, event.sequence].add(record.value)
        return dict(found)

    def events(of: Settings) -> list[Alert]:
        """Of the station where the air gets bad, in order."""
        found = [Alert.model_validate_json(min(some)) for some in alerts(of).values()]
        return sorted((one for one in found if one.station == RISING), key=lambda one: one.at)

    def newest(of: Settings) -> list[Forecast]:
        if not of.store_path.exists():
            return []
        with Store(of.store_path, read_only=True) as store:
            return store.forecasts()

    def series(database: str) -> list[Any]:
        if engine is None:
            return []
        found = engine[0].query("SELECT * FROM /^forecast/ GROUP BY *", database)
        return sorted(found, key=lambda one: (one["name"], str(one["tags"])))

    def have_spoken(of: Settings) -> bool:
        return {record.key for record in read_all(of, ESTIMATES)} == {name.encode() for name in EVERYBODY}

    def begin(of: Settings) -> None:
        send(of, first)
        until("the first estimates", partial(have_spoken, of), 60)
        send(of, weather)

    wanted = len(EVERYBODY) * (HOURS - 1)
    calm, storm = settings("calm"), settings("storm")

    def all_told(of: Settings) -> bool:
        """Also to InfluxDB, which comes after the store: the scores are the last that is written of each."""
        last = from_ms(BEGIN + HOUR * HOURS)
        scored = {
            one["tags"]["station"]
            for one in series(of.influx.bucket)
            if one["name"] == "forecast_score" and one["values"][-1][0] == last.timestamp()
        }
        return [one.issued_at for one in newest(of)] == [last] * len(EVERYBODY) and (
            engine is None or scored == set(EVERYBODY)
        )

    def has_told(before: int) -> bool:
        return len(told(storm)) > before

    with fleet(calm, tmp_path / "calm-logs", ROLES) as workers:
        begin(calm)
        send(calm, records)
        until("the undisturbed forecasts", lambda: workers.check() and all_told(calm), 120)
        until("the end of the alert", lambda: [one.event for one in events(calm)][-1:] == ["clear"], 60)
    undisturbed = told(calm)
    opened, cleared = (next(one for one in events(calm) if one.event == event) for event in ("open", "clear"))
    medians = {
        issued_at: max(Forecast.model_validate_json(min(some)).pollutants["pm25"].quantiles[3][:6])
        for (station, issued_at, _), some in sorted(undisturbed.items())
        if station == RISING
    }
    assert medians[str(opened.at)] >= 150, "the evidence is a quantile of the hours to come"
    assert f"{medians[str(opened.at)]:.2f}".rstrip("0") in opened.reason
    assert medians[str(cleared.at)] < 100
    assert len(undisturbed) >= wanted
    assert sum(b'"weather_issued_at":"' in one for some in undisturbed.values() for one in some) > wanted / 3
    assert all(one.scores for one in newest(calm))

    size, amid = -(-len(records) // KILLS), 0
    with fleet(storm, tmp_path / "storm-logs", ROLES) as workers:
        begin(storm)
        for number in range(KILLS):
            before = len(told(storm))
            send(storm, records[number * size : (number + 1) * size])
            if number % 2:
                until("some forecasts", partial(has_told, before), 60)
            victim = ROLES[number % 4] if number < 8 else dice.choice(ROLES)
            workers.kill(victim)
            amid += len(told(storm)) < wanted
            workers.revive()
        until("the disturbed forecasts", lambda: workers.revive() or all_told(storm), 120)
        until("the same alerts", lambda: workers.revive() or alerts(storm).keys() >= alerts(calm).keys(), 60)
    assert amid > KILLS / 2, "the workers were killed when all was done"
    # However often a forecast was told, its bytes are the same, with its scores, and those of the quiet run.
    assert told(storm) == undisturbed
    assert alerts(storm) == alerts(calm)
    assert newest(storm) == newest(calm)
    if engine is not None:
        assert {one["name"] for one in series("calm")} == {"forecast", "forecast_index", "forecast_score"}
        assert series("storm") == series("calm")
    assert read_all(storm, DEAD_LETTERS) == read_all(calm, DEAD_LETTERS) == []
