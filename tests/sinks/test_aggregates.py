"""Hours and days: right from the newest revisions, computed when due, and again when a window changes."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.base import from_ms, to_ms
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from sinks.aggregates import Period, aggregate, periods_of
from sinks.aggregator import Aggregator
from sinks.influx import InfluxBucket, InfluxSink
from sinks.store import Store
from sinks.tally import Tally
from streams.patience import Patience
from tests.samples import T0, estimate, estimates, imputed, index, measured

MS = T0 * 1000
HOUR = 3_600_000
ZONES = ("UTC", "Asia/Kathmandu", "Europe/Rome", "America/St_Johns")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400 * 24 * 60), st.sampled_from(ZONES))
def test_a_window_lies_in_its_hour_and_in_its_civil_day(minutes, zone):
    end = MS + minutes * 60_000
    hour, day = periods_of("s", end, zone)
    assert (hour.stop - hour.start, hour.start % HOUR) == (HOUR, 0)
    for period in (hour, day):
        assert period.start < end <= period.stop
    local = [from_ms(edge).astimezone(ZoneInfo(zone)) for edge in (day.start, day.stop)]
    assert [(edge.hour, edge.minute) for edge in local] == [(0, 0), (0, 0)]
    assert local[1].date() - local[0].date() == timedelta(days=1)


def test_a_day_of_summer_time_has_25_hours():
    end = to_ms(datetime(2026, 10, 25, 12, tzinfo=ZoneInfo("Europe/Rome")))
    day = periods_of("s", end, "Europe/Rome")[1]
    assert day.stop - day.start == 25 * HOUR


def points(made):
    return {(p.measurement, p.tags[0][1]): p for p in made}


def of_windows(period, windows, withdrawn=()):
    return aggregate(period, Tally.of(windows, withdrawn))


def test_numbers_of_an_hour():
    period = Period("hourly", "s1", MS, MS + HOUR)
    made = points(
        of_windows(
            period,
            [
                estimate(end=T0 + 60, revision=2, pollutants={"pm25": measured(10.0)}, indices=(index(40),)),
                estimate(end=T0 + 120, pollutants={"pm25": imputed(40, 30, 50)}, indices=(index(None),)),
                estimate(
                    end=T0 + 180, pollutants={"pm25": measured(10.0, kind="corrected")}, indices=(index(80),)
                ),
                estimate(end=T0 + 240, pollutants={}, indices=()),
            ],
        )
    )  # fmt: skip
    pm25 = made["aq_hourly", "pm25"]
    assert pm25.time == T0 + 3600
    assert pm25.fields == {
        "has_value": True, "mean": 20.0, "min": 10.0, "max": 40.0, "windows": 3, "measured": 1,
        "corrected": 1, "imputed": 1, "imputed_share": pytest.approx(1 / 3), "coverage": 0.05, "revision": 5,
    }  # fmt: skip
    assert made["aq_hourly", "o3"].fields["has_value"] is False
    assert made["aqi_hourly", "us-epa-2024"].fields == {
        "has_index": True, "mean": 60.0, "min": 40, "max": 80, "last": 80, "windows": 2, "valid": 2,
        "imputed_share": 0.0, "coverage": pytest.approx(2 / 60), "revision": 5,
    }  # fmt: skip


def test_a_withdrawn_standard_loses_its_hour():
    period = Period("hourly", "s1", MS, MS + HOUR)
    made = points(of_windows(period, [estimate(indices=(index(40),))], ["us-epa-2024", "in-naqi-2014"]))
    there, gone = made["aqi_hourly", "us-epa-2024"].fields, made["aqi_hourly", "in-naqi-2014"].fields
    assert there["windows"] == 1  # another window of the hour still has it
    assert (gone["has_index"], gone["windows"], gone["mean"], gone["last"]) == (False, 0, -1.0, -1)
    assert [(n, type(v)) for n, v in gone.items()] == [(n, type(v)) for n, v in there.items()]


@settings(max_examples=50, deadline=None)
@given(st.lists(estimates(stations=("s",), windows=60), min_size=1, max_size=12))
def test_fields_and_types_never_change_and_means_lie_within(batch):
    newest = {one.window.end: one for one in sorted(batch, key=lambda one: one.revision)}
    made = of_windows(
        Period("hourly", "s", MS, MS + HOUR), sorted(newest.values(), key=lambda o: o.window.end)
    )
    shapes: dict[str, object] = {}
    for point in made:
        shape = [(name, type(value)) for name, value in point.fields.items()]
        assert shapes.setdefault(point.measurement, shape) == shape
        assert point.line()
        low, mean, high = (point.fields[name] for name in ("min", "mean", "max"))
        assert low - 1e-9 <= mean <= high + 1e-9
    assert next(p for p in made if p.measurement == "aq_hourly").tags[0] == ("parameter", POLLUTANTS[0])


def test_periods_are_due_when_event_time_passes_them_and_again_after_a_revision(tmp_path):
    with Store(tmp_path / "s.sqlite", aggregates=True) as store:
        store.write_stations([Station(station="s1", timezone="Asia/Kathmandu")])
        store.write([estimate(end=T0 + 60 * n) for n in range(1, 61)])
        assert store.due(MS + HOUR - 1) == []
        (hour,) = store.due(MS + HOUR)
        assert hour == Period("hourly", "s1", MS, MS + HOUR)
        assert len(store.windows_of(hour)) == 60
        store.computed([hour])
        assert store.due(MS + HOUR) == []
        store.write([estimate(end=T0 + 60 * 5)])  # nothing new
        assert store.due(MS + HOUR) == []
        store.write([estimate(end=T0 + 60 * 5, revision=2)])
        assert store.due(MS + HOUR) == [hour]
        # 00:00 UTC is 05:45 in Kathmandu: that day ends at 18:15 UTC.
        assert store.due(MS + 24 * HOUR)[1].stop == MS + 18 * HOUR + 15 * 60_000


def test_what_is_due_survives_a_restart_and_costs_nothing_where_nobody_asks(tmp_path):
    with Store(tmp_path / "s.sqlite", aggregates=True) as store:
        store.write([estimate()])
    with Store(tmp_path / "s.sqlite") as store:
        assert len(store.due(MS + 48 * HOUR)) == 2
        store.write([estimate("s2")])
        assert {period.station for period in store.due(MS + 48 * HOUR)} == {"s1"}


@pytest.mark.engine
def test_aggregates_reach_their_buckets_and_are_rewritten_by_revisions(tmp_path, influx, proxy):
    for kind in ("hourly", "daily"):
        influx.create_database(f"{influx.database}_{kind}")
    bucket = InfluxBucket(proxy(influx.url, influx1=True).url, "o", influx.database)
    sink = InfluxSink(bucket, "t", Patience(wait=lambda _: True))

    def hours():
        answer = influx.query(
            "SELECT mean, windows FROM aq_hourly WHERE parameter = 'pm25' GROUP BY station",
            f"{influx.database}_hourly",
        )
        return {one["tags"]["station"]: one["values"] for one in answer}

    with Store(tmp_path / "s.sqlite", aggregates=True) as store:
        aggregator = Aggregator(store, sink, influx.database, mine=lambda station: station != "theirs")

        def write(*made):
            store.write(made)
            assert aggregator.after(made) == []

        for station in ("mine", "theirs"):
            clean = {"pm25": measured(10.0)}
            write(*(estimate(station, T0 + 60 * n, pollutants=clean) for n in range(1, 60)))
        assert hours() == {}
        write(estimate("mine", T0 + 3660))  # event time passes the hour
        assert hours() == {"mine": [[T0 + 3600, 10.0, 59]]}
        write(estimate("mine", T0 + 3600, pollutants={"pm25": measured(70.0)}))  # a late window
        assert hours() == {"mine": [[T0 + 3600, 11.0, 60]]}
        write(estimate("mine", T0 + 25 * 3600))
        query = "SELECT windows FROM aq_daily WHERE parameter = 'pm25'"
        (day,) = influx.query(query, f"{influx.database}_daily")
        assert day["values"] == [[T0 + 24 * 3600, 61]]
    sink.close()
