"""Every query of every dashboard, on a real InfluxDB filled by the real sink, against the local store."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from alerting.rules import parse
from alerting.watch import Watch
from aqi import standards
from infra.dashboards.files import FOLDER, render
from infra.dashboards.parts import editions
from schemas.alert import Alert
from schemas.base import format_time, from_ms, to_ms
from schemas.estimate import Estimate, FrameUse, Inputs, ModelOutput
from schemas.forecast import Forecast, IndexForecast, PollutantForecast, RunningScore
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from sinks.directory import Directory
from sinks.influx import InfluxBucket, InfluxSink
from sinks.points import alert_point, forecast_points
from sinks.store import Store
from streams.patience import Patience
from tests.engines import FaultProxy, influxdb
from tests.samples import T0, estimate, imputed, index, measured

STATIONS = {
    "milan-1": Station(station="milan-1", city="Milan", latitude=45.46, longitude=9.19),
    "milan-2": Station(station="milan-2", city="Milan", name="Verziere"),
    "turin": Station(station="turin", city="Turin", latitude=45.07, longitude=7.69),
}
WINDOWS = 100
#: Grafana's time range: cuts off some windows at both ends.
FROM, TO = T0 + 60 * 7, T0 + 60 * 93
INTERVAL_S = 300
#: When the first hour ends that is foretold, and what is said of it.
FORESEEN = T0 + 3600
FORECAST = Forecast(
    station="milan-1", issued_at=from_ms((FORESEEN - 3600) * 1000), revision=1, model="m",
    pollutants={
        "pm25": PollutantForecast(
            mean=(9.5,) * 72, quantiles=tuple((float(level),) * 72 for level in range(7)), imputed_share=0.0
        )
    },
    indices=(
        IndexForecast(
            standard="us-epa-2024", index=(40,) * 72, lo=(20,) * 72, hi=(90,) * 72, categories=("Good",),
            probabilities=((1.0,) * 72,),
        ),
    ),
    scores={
        "pm25": {"1": RunningScore(count=9.0, mae=3.5, rmse=4.5, crps=2.5, coverage=0.875, skill=0.25)}
    },
)  # fmt: skip
CHOSEN = {
    "city": ["Milan", "Turin"],
    "station": ["milan-1", "turin"],
    "standard": "us-epa-2024",
    "parameter": "pm25",
}
SELECTED = ("milan-1", "turin")  # what a multi-valued $station holds
ONE = "milan-1"  # what a single $station holds


def test_the_checked_in_dashboards_are_up_to_date():
    written = {file.name: file.read_text() for file in FOLDER.glob("*.json")}
    assert written == render(), "run python -m infra.dashboards"
    assert len(written) == 7


# --- the city -----------------------------------------------------------------------------------------------


def city():
    """Estimates of three stations in which everything occurs that may occur, with revisions."""
    draw = random.Random(11)
    made = []
    for station in STATIONS:
        for n in range(1, WINDOWS + 1):
            if draw.random() < 0.1:
                continue  # a gap
            made += [
                one_window(draw, station, T0 + 60 * n, revision + 1)
                for revision in range(draw.choice((1, 1, 3)))
            ]
    return made


def one_window(draw, station, end, revision):
    pollutants = {}
    for parameter in POLLUTANTS:
        value = round(draw.uniform(1, 300), 1)
        match draw.choice(("measured", "corrected", "imputed", "imputed", "none")):
            case "measured":
                pollutants[parameter] = measured(value, qc=draw.choice((1, 2, 3)))
            case "corrected":
                pollutants[parameter] = measured(value, kind="corrected", raw=value * 1.25)
            case "imputed":
                lo, hi = (value - 20, value + 30) if draw.random() < 0.7 else (None, None)
                pollutants[parameter] = imputed(
                    value, lo, hi, qc=draw.choice((4, 9)), method=draw.choice(("camera", "last"))
                )
    blocks = tuple(
        index(
            draw.choice((None, draw.randint(0, 400))), standard=standard, imputed_share=draw.random(),
            nowcast=draw.choice((None, draw.randint(0, 400))),
            subindices={p: draw.randint(0, 400) for p in pollutants},
            status=draw.choice(("valid", "indicative")),
            **draw.choice(({}, {"lo": draw.randint(0, 90), "hi": draw.randint(100, 400)})),
        )
        for standard in ("us-epa-2024", "in-naqi-2014")
    )  # fmt: skip
    aqi = draw.uniform(20, 300)
    bounds = {"lo": aqi - 30, "hi": aqi + 25} if draw.random() < 0.7 else {}
    frames = tuple(
        FrameUse(
            camera="main",
            captured_at=from_ms((end - 30) * 1000),
            usable=usable,
            reasons=() if usable else ("night",),
        )
        for usable in draw.choices((True, False), k=draw.randint(0, 3))
    )
    return estimate(
        station, end, revision, pollutants, blocks,
        model=ModelOutput(aqi=aqi, sensors={}, **bounds) if draw.random() < 0.8 else None,
        inputs=Inputs(readings=draw.randint(0, 30), frames=frames),
        bundle=draw.choice(("bundle-1", "bundle-2")),
    )  # fmt: skip


RULES = parse(
    """
    [[rule]]
    id = "high"
    what = "index"
    standard = "us-epa-2024"
    steps = [
        { severity = "minor", enter = 150, leave = 40 },
        { severity = "severe", enter = 350, leave = 300 },
    ]
    [[rule]]
    id = "unhealthy-pm25"
    what = "concentration"
    parameter = "pm25"
    open_after = "2m"
    steps = [{ severity = "moderate", enter = 100, leave = 20 }]
    [[rule]]
    id = "always"
    what = "imputed_share"
    steps = [{ severity = "info", enter = 0.01, leave = 0 }]
    """,
    "rules.toml",
)


@dataclass
class Filled:
    """A database and a store that hold the same estimates."""

    influx: object
    estimates: list[Estimate]  # as the local store gives them back, within the time range
    alerts: list[Alert]  # the newest event of each alert


def newest_alerts(estimates):
    """What the compacted topic holds after `estimates`, by way of the real alert machine."""
    events = Watch(RULES, 600_000).feed(sorted(estimates, key=lambda one: one.window.end))
    assert {event.event for event in events} == {"open", "update", "clear", "retract"}
    return events, list({event.id: event for event in events}.values())


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboards")
    with influxdb(folder) as influx, Store(folder / "store.sqlite") as store:
        proxy = FaultProxy(influx.url, influx1=True)
        sink = InfluxSink(InfluxBucket(proxy.url, "o", influx.database), "t", Patience(wait=lambda _: True))
        directory = Directory()
        made = city()
        for start in range(0, len(made), 50):
            current = store.write(made[start : start + 50])
            assert sink.write(current) == []
            assert sink.write_points(directory.points(current, STATIONS)) == []
        later = FORECAST.model_copy(update={"issued_at": from_ms(FORESEEN * 1000)})
        for one in (FORECAST, later):
            assert sink.write_points(forecast_points(one)) == []
        events, alerts = newest_alerts(made)
        assert sink.write_points([alert_point(event) for event in events]) == []
        sink.close()
        proxy.close()
        kept = [one for one in store.read() if FROM <= to_ms(one.window.end) // 1000 <= TO]
        yield Filled(influx, kept, alerts)


# --- queries ------------------------------------------------------------------------------------------------


def boards():
    return {name.removesuffix(".json"): json.loads(text) for name, text in render().items()}


def targets(kind):
    """(dashboard, panel title or annotation's name, ref id, target) of one kind of data source."""
    for name, board in boards().items():
        for annotation in board.get("annotations", {}).get("list", []):
            if annotation["datasource"]["type"] == kind:
                yield name, annotation["name"], annotation["target"]["refId"], annotation["target"]
        for panel in board["panels"]:
            for target in panel["targets"]:
                if target["datasource"]["type"] == kind:
                    yield name, panel["title"], target["refId"], target


def fill(query):
    """`query` with Grafana's variables filled in as Grafana's InfluxQL data source does."""
    query = query.replace("$timeFilter", f"time >= {FROM}s and time <= {TO}s").replace(
        "$__interval", f"{INTERVAL_S}s"
    )
    query = query.replace("${__from}", f"{FROM}000").replace("${__to}", f"{TO}000")

    def value(match):
        chosen = CHOSEN[match["name"] or match["plain"]]
        if match["plain"] and isinstance(chosen, list):
            chosen = ONE
        if match["format"] == "regex" and isinstance(chosen, list):
            return f"({'|'.join(map(re.escape, chosen))})"
        assert isinstance(chosen, str)
        return re.escape(chosen) if match["format"] == "regex" else chosen

    query = re.sub(r"\$\{(?P<name>\w+)(:(?P<format>\w+))?\}|\$(?P<plain>\w+)", value, query)
    assert "$" not in query.replace("$/", "")
    return query


def leading(one, standard="us-epa-2024"):
    return next(block for block in one.indices if block.standard == standard)


def aq(parameter, take):
    """Per estimate the value `take` sees in a pollutant, None where there is none."""
    return lambda one: None if parameter not in one.pollutants else take(one.pollutants[parameter])


def when(condition, value):
    return value if condition else None


@dataclass
class Lines:
    """A series query: `value(estimate)` -> number or {group: number}, aggregated per bucket and station."""

    value: Callable[[Estimate], Any]
    how: str = "mean"
    by: str = "station"
    of: tuple[str, ...] = SELECTED
    bucket: int = INTERVAL_S

    def wanted(self, estimates):
        found = defaultdict(list)
        for one in estimates:
            if one.station not in self.of:
                continue
            time = to_ms(one.window.end) // 1000
            time -= time % self.bucket if self.bucket else 0
            value = self.value(one)
            group = one.station if self.by == "station" else ""
            values = value if isinstance(value, dict) else {group: value}
            for key, number in values.items():
                if number is not None:
                    found[key, time if self.bucket else None].append(number)
        return {key: AGGREGATES[self.how](numbers) for key, numbers in found.items()}


AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "mean": lambda v: sum(v) / len(v), "max": max, "last": lambda v: v[-1], "sum": sum, "count": len,
    "share": lambda v: sum(a for a, _ in v) / sum(b for _, b in v) if sum(b for _, b in v) else None,
}  # fmt: skip


def line(value, how="mean", **more):
    """A series of the one chosen station, without groups."""
    return Lines(value, how, by="", of=(ONE,), **more)


def scalar(value, how, over="mean"):
    """A number over the newest value of every station."""

    def wanted(estimates):
        newest = Lines(value, "last", bucket=0).wanted(estimates).values()
        return {("", None): AGGREGATES[over](list(newest))}

    return type("Scalar", (), {"wanted": staticmethod(wanted)})() if how == "newest" else line(value, how)


@dataclass
class Foretold:
    """A query of the forecasts: what is said of the one hour in the time range, or of those before."""

    value: float

    def wanted(self, _):
        return {("", FORESEEN): self.value}


def seconds(moment):
    return to_ms(moment) // 1000


@dataclass
class Alerts:
    """A query of alerts: the first column, by station and rule (`grouped`), and the time each opened."""

    which: Callable[[Alert], bool]
    column: str
    grouped: tuple[str, ...] = ()

    def wanted(self, alerts):
        return {
            (" ".join(getattr(one, tag) for tag in self.grouped), opened(one)): getattr(one, self.column)
            for one in alerts
            if self.which(one)
        }


def opened(alert):
    (second,) = [
        n for n in range(T0, T0 + 60 * WINDOWS + 1, 60) if alert.id.endswith(format_time(from_ms(n * 1000)))
    ]
    return second


def active(alert):
    return alert.event in ("open", "update")


def idx(one):
    return leading(one).index


def band(one):
    block = leading(one)
    return f"{block.standard}/{block.category}" if block.category else ""


def kinds(one, *names):
    return sum(p.kind in names for p in one.pollutants.values())


def each(take, missing=None):
    return lambda one: {p: take(one.pollutants[p]) if p in one.pollutants else missing for p in POLLUTANTS}


def width(lo, hi):
    return None if lo is None or hi is None else hi - lo


PM25_KIND = {
    kind: aq("pm25", lambda p, kind=kind: when(p.kind == kind, p.value))
    for kind in ("measured", "corrected", "imputed")
}

#: What every InfluxQL query of every dashboard must return, computed from the local store.
EXPECTED = {
    ("city", "Stations with an index", "A"): scalar(idx, "newest", "count"),
    ("city", "Highest index now", "A"): scalar(idx, "newest", "max"),
    ("city", "Mean of the stations", "A"): scalar(idx, "newest", "mean"),
    ("city", "Imputed share", "A"): scalar(lambda one: leading(one).imputed_share, "newest", "mean"),
    ("city", "Stations", "A"): Lines(idx, "last", bucket=0),
    ("city", "Stations", "B"): Lines(lambda one: STATIONS[one.station].latitude, "last", bucket=0),
    ("city", "Stations by index", "A"): Lines(idx, "last", bucket=0),
    ("city", "Category", "A"): Lines(band, "last"),
    ("city", "Index", "A"): Lines(idx),
    ("city", "Open alerts", "A"): Alerts(
        lambda one: one.station in SELECTED and active(one), "severity", ("rule", "station")
    ),
    ("station", "Alerts", "A"): Alerts(
        lambda one: (
            one.station == ONE
            and (active(one) or (one.event == "clear" and seconds(one.at) >= FROM))
            and opened(one) <= TO
        ),
        "event",
        ("rule",),
    ),
    ("station", "Open alerts", "Anno"): Alerts(
        lambda one: one.station == ONE and active(one) and opened(one) <= TO, "reason"
    ),
    ("station", "Alerts that are over", "Anno"): Alerts(
        lambda one: (
            one.station == ONE and one.event == "clear" and seconds(one.at) >= FROM and opened(one) <= TO
        ),
        "reason",
    ),
    ("station", "Index", "A"): line(idx, "last", bucket=0),
    ("station", "Category", "A"): line(band, "last", bucket=0),
    ("station", "Status", "A"): line(lambda one: leading(one).status, "last", bucket=0),
    ("station", "Dominant pollutant", "A"): line(
        lambda one: when(idx(one) is not None, ",".join(leading(one).dominant)), "last", bucket=0
    ),
    ("station", "$parameter", "A"): line(PM25_KIND["measured"]),
    ("station", "$parameter", "B"): line(PM25_KIND["corrected"]),
    ("station", "$parameter", "C"): line(PM25_KIND["imputed"]),
    ("station", "$parameter", "D"): line(aq("pm25", lambda p: p.lo)),
    ("station", "$parameter", "E"): line(aq("pm25", lambda p: p.hi)),
    ("station", "Index, NowCast, and the model alone", "A"): line(idx),
    ("station", "Index, NowCast, and the model alone", "B"): line(lambda one: leading(one).nowcast),
    ("station", "Index, NowCast, and the model alone", "C"): line(lambda one: one.model and one.model.aqi),
    ("station", "Index, NowCast, and the model alone", "D"): line(lambda one: leading(one).lo),
    ("station", "Index, NowCast, and the model alone", "E"): line(lambda one: leading(one).hi),
    **{
        ("station", "Sub-indices", letter): line(lambda one, p=parameter: leading(one).subindices.get(p))
        for letter, parameter in zip("ABCDEF", POLLUTANTS, strict=True)
    },
    ("station", "Category over time", "A"): line(band, "last"),
    ("station", "Quality flags", "A"): Lines(each(lambda p: p.qc, 9), "max", of=(ONE,)),
    ("station", "Kind", "A"): Lines(each(lambda p: p.kind, "missing"), "last", of=(ONE,)),
    ("station", "Camera", "A"): line(lambda one: len(one.inputs.frames)),
    ("station", "Camera", "B"): line(lambda one: sum(frame.usable for frame in one.inputs.frames)),
    ("station", "Why frames were not used", "A"): line(
        lambda one: ",".join(sorted({r for f in one.inputs.frames for r in f.reasons})), "last"
    ),
    ("quality", "Values imputed", "A"): Lines(
        lambda one: (kinds(one, "imputed"), len(one.pollutants)), "share", by="", bucket=0
    ),
    ("quality", "Values missing", "A"): Lines(lambda one: 6 - len(one.pollutants), by="", bucket=0),
    ("quality", "Last heard", "A"): Lines(lambda one: one.inputs.readings, "last", bucket=0),
    ("quality", "Coverage", "A"): Lines(lambda _: 60 / 3600, "sum", bucket=3600),
    ("quality", "Share imputed", "A"): Lines(lambda one: kinds(one, "imputed") / 6),
    ("quality", "Readings per window", "A"): Lines(lambda one: one.inputs.readings),
    ("quality", "Readings that did not pass", "A"): Lines(
        each(lambda p: when(p.qc in (3, 4), p.qc)), "count"
    ),
    ("model", "The model's AQI", "A"): Lines(lambda one: one.model and one.model.aqi),
    ("model", "Its 90 % interval", "A"): Lines(lambda one: one.model and width(one.model.lo, one.model.hi)),
    ("model", "Imputed and measured $parameter", "A"): Lines(PM25_KIND["imputed"]),
    ("model", "Imputed and measured $parameter", "B"): Lines(
        aq("pm25", lambda p: when(p.kind != "imputed", p.value))
    ),
    ("model", "Width of imputed $parameter", "A"): Lines(aq("pm25", lambda p: width(p.lo, p.hi))),
    ("model", "Correction of $parameter", "A"): Lines(
        aq("pm25", lambda p: when(p.kind == "corrected" and p.raw is not None, (p.raw or 0) - p.value))
    ),
    ("model", "Frames the gate let through", "A"): Lines(
        lambda one: (sum(f.usable for f in one.inputs.frames), len(one.inputs.frames)), "share"
    ),
    ("model", "Bundle", "A"): Lines(lambda one: one.bundle, "last"),
    ("model", "Methods", "A"): Lines(
        lambda one: {f"{one.station} {name}": p.value for name, p in one.pollutants.items()}, "last", bucket=0
    ),
}
FAN = "$parameter, the next three days"
EXPECTED |= {
    ("forecast", FAN, "A"): line(aq("pm25", lambda p: p.value), bucket=3600),
    **{
        ("forecast", FAN, letter): Foretold(FORECAST.pollutants["pm25"].quantiles[level][0])
        for letter, level in zip("BCDEF", (3, 0, 2, 4, 6), strict=True)
    },
    **{
        ("forecast", "Index to come", letter): Foretold(getattr(FORECAST.indices[0], field)[0])
        for letter, field in zip("ABC", ("index", "lo", "hi"), strict=True)
    },
    **{
        ("forecast", title, "A"): Foretold(getattr(FORECAST.scores["pm25"]["1"], field))
        for title, field in (("Error", "mae"), ("Skill", "skill"), ("Inside the 90 % interval", "coverage"))
    },
}
INFLUX = list(targets("influxdb"))
IDS = [f"{board}: {title} {ref}" for board, title, ref, _ in INFLUX]


def test_every_query_has_a_number_to_be_compared_with():
    assert {one[:3] for one in INFLUX} == set(EXPECTED)
    assert len(INFLUX) == len(EXPECTED)  # no two panels of a name


@pytest.mark.engine
@pytest.mark.parametrize(("board", "title", "ref", "target"), INFLUX, ids=IDS)
def test_the_query_returns_what_the_store_has(filled, board, title, ref, target):
    query = fill(target["query"])
    expected = EXPECTED[board, title, ref]
    source = filled.alerts if isinstance(expected, Alerts) else filled.estimates
    wanted = {key: value for key, value in expected.wanted(source).items() if value is not None}
    by_time = "GROUP BY time(" in query or isinstance(expected, Alerts)
    actual = {}
    for series in filled.influx.query(query):
        group = " ".join(
            series.get("tags", {}).get(tag, "") for tag in ("rule", "station", "parameter")
        ).strip()
        for time, value, *_ in series["values"]:
            if value is not None:
                actual[group, time if by_time else None] = value
    if "fill(0)" in query:
        actual = {key: value for key, value in actual.items() if value or key in wanted}
    assert wanted, "the test's city shows nothing of this panel"
    assert actual.keys() == wanted.keys()
    for key, value in wanted.items():
        assert actual[key] == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value), key


@pytest.mark.engine
@pytest.mark.parametrize("target", [one[3] for one in INFLUX], ids=IDS)
def test_every_field_and_tag_of_a_query_exists(filled, target):
    """InfluxQL answers a misspelt field with nothing at all, so it is looked up."""
    measurements = set(re.findall(r'FROM "(\w+)"', target["query"]))
    known = set()
    for measurement in measurements:
        known |= {row["fieldKey"] for row in filled.influx.rows(f'SHOW FIELD KEYS FROM "{measurement}"')}
        known |= {row["tagKey"] for row in filled.influx.rows(f'SHOW TAG KEYS FROM "{measurement}"')}
    named = set(re.findall(r'"(\w+)"', target["query"])) - set(re.findall(r'AS "(\w+)"', target["query"]))
    assert measurements
    assert named - measurements <= known


@pytest.mark.engine
def test_tables_and_maps_have_the_columns_their_panels_name(filled):
    for board, title, ref, target in INFLUX:
        if target.get("resultFormat") != "table":
            continue
        (panel,) = [panel for panel in boards()[board]["panels"] if panel["title"] == title]
        (first, *_) = filled.influx.query(fill(target["query"]))
        columns = {*first["columns"], *first["tags"], "Time"}
        named = {override["matcher"]["options"] for override in panel["fieldConfig"].get("overrides", [])}
        assert named <= columns, (title, ref)
    location = next(p for p in boards()["city"]["panels"] if p["title"] == "Stations")["options"]["layers"][
        0
    ]["location"]
    (first, *_) = filled.influx.query(
        fill({one[:3]: one[3] for one in INFLUX}["city", "Stations", "B"]["query"])
    )
    assert {location["latitude"], location["longitude"]} <= set(first["columns"])


def test_overrides_and_bands_name_series_that_the_queries_return():
    """Time series are named by their alias; a table's columns are compared with a server's answer above."""
    for panels in (board["panels"] for board in boards().values()):
        for panel in panels:
            targets = panel.get("targets", [])
            if not targets or any(target.get("resultFormat") == "table" for target in targets):
                continue
            names = {target.get("alias") or target.get("legendFormat") for target in targets}
            if "$standard" in names:
                names |= {one.id for one in editions()}
            for override in panel["fieldConfig"].get("overrides", []):
                assert override["matcher"] == {"id": "byName", "options": override["matcher"]["options"]}
                assert override["matcher"]["options"] in names, panel["title"]
                for one in override["properties"]:
                    if one["id"] == "custom.fillBelowTo":
                        assert one["value"] in names


def test_silence_does_not_look_like_a_number():
    for name, board in boards().items():
        for panel in board["panels"]:
            if panel["type"] in ("stat", "table", "state-timeline"):
                assert panel["fieldConfig"]["defaults"]["noValue"] == "no data", (name, panel["title"])


def test_numbers_are_not_coloured_by_thresholds_that_nobody_set():
    """Grafana's own, where a panel sets none, call everything above 80 red: 90 stations, say."""
    for name, board in boards().items():
        for panel in board["panels"]:
            if panel["type"] != "stat":
                continue
            defaults = panel["fieldConfig"]["defaults"]
            assert (defaults["color"]["mode"] == "thresholds") == ("thresholds" in defaults), (
                name,
                panel["title"],
            )


def test_words_are_named_since_a_stat_shows_numbers_only():
    shown = 0
    for board in boards().values():
        for panel in board["panels"]:
            if panel["type"] == "stat":
                words = re.findall(r'last\("(band|status|dominant)"\)', panel["targets"][0].get("query", ""))
                fields = panel["options"]["reduceOptions"].get("fields", "")
                assert bool(words) == bool(fields), panel["title"]
                if words:
                    assert re.fullmatch(fields.strip("/"), panel["targets"][0]["alias"])
                    shown += 1
    assert shown == 3


def test_a_gap_is_drawn_as_a_gap():
    """Without a row for an empty step Grafana would draw a line across, or a state on and on."""
    for _, title, _, target in INFLUX:
        grouped = "GROUP BY time(" in target["query"]
        assert grouped == bool(re.search(r"fill\((null|0)\)", target["query"])), title


def test_an_index_has_its_standards_colours():
    for name, title in (
        ("city", "Highest index now"),
        ("station", "Index"),
        ("station", "Index, NowCast, and the model alone"),
    ):
        (panel,) = [panel for panel in boards()[name]["panels"] if panel["title"] == title]
        assert panel["targets"][0]["alias"] == "$standard"
        drawn = {
            override["matcher"]["options"]: {one["id"]: one["value"] for one in override["properties"]}
            for override in panel["fieldConfig"]["overrides"]
        }
        for standard in editions():
            steps = drawn[standard.id]["thresholds"]["steps"]
            assert drawn[standard.id]["color"] == {"mode": "thresholds"}
            assert steps[0]["value"] is None
            for number in range(1, 600):
                reached = [step for step in steps if step["value"] is None or number >= step["value"]]
                assert reached[-1]["color"] == standard.category(number).colour


@pytest.mark.engine
def test_annotations_name_columns_that_the_answer_has(filled):
    shown = [one["target"] for one in boards()["station"]["annotations"]["list"]]
    assert [one["timeEndColumn"] for one in shown] == ["", "alert.at"]
    for target in shown:
        (answer,) = filled.influx.query(fill(target["query"]))
        # Grafana calls a column `measurement.column`. What it finds no use for becomes the title.
        used = {target["textColumn"], *target["tagsColumn"].split(",")}
        used |= {target["timeEndColumn"].removeprefix(f"{answer['name']}.")} - {""}
        assert {"time", *used} == set(answer["columns"])
        # Tags are split at commas, so they must be text; a row with a null would be left out.
        assert all(None not in row for row in answer["values"])


def test_what_was_imputed_is_drawn_unlike_what_was_measured():
    (drawn,) = [p for p in boards()["station"]["panels"] if p["title"].startswith("Index, NowCast")]
    bands = {o["matcher"]["options"]: o["properties"] for o in drawn["fieldConfig"]["overrides"]}
    assert {"id": "custom.fillBelowTo", "value": "lower"} in bands["upper"]
    (panel,) = [panel for panel in boards()["station"]["panels"] if panel["title"] == "$parameter"]
    drawn = {}
    for override in panel["fieldConfig"]["overrides"]:
        for one in override["properties"]:
            drawn.setdefault(override["matcher"]["options"], {})[one["id"]] = one["value"]
    assert drawn["imputed"]["custom.lineStyle"]["fill"] == "dash"
    assert "custom.lineStyle" not in drawn["measured"]
    assert drawn["imputed"]["color"] != drawn["measured"]["color"]
    assert drawn["upper"]["custom.fillBelowTo"] == "lower"


@pytest.mark.engine
def test_variables_list_what_there_is(filled):
    wanted = {
        "city": ["Milan", "Turin"], "station": ["milan-1", "milan-2", "turin"],
        "standard": ["in-naqi-2014", "us-epa-2024"], "parameter": sorted(POLLUTANTS),
    }  # fmt: skip
    asked = set()
    for board in boards().values():
        for variable in (board.get("templating") or {}).get("list", []):
            rows = filled.influx.rows(fill(variable["query"]))
            assert sorted(row["value"] for row in rows) == wanted[variable["name"]]
            asked.add(variable["name"])
    assert asked == set(wanted)


@pytest.mark.engine
def test_a_city_shows_its_own_stations_only(filled):
    (variable,) = [v for v in boards()["city"]["templating"]["list"] if v["name"] == "station"]
    query = variable["query"].replace("${city:regex}", "Turin")
    assert [row["value"] for row in filled.influx.rows(query)] == ["turin"]


def test_every_category_of_every_standard_has_its_colour():
    (panel,) = [panel for panel in boards()["city"]["panels"] if panel["title"] == "Category"]
    mapping = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    for name in ("us-epa-2024", "in-naqi-2014", "uk-daqi", "eaqi-2025", "cn-hj633-2026"):
        for category in standards.load(name).categories:
            assert mapping[f"{name}/{category.key}"]["color"] == category.colour
            assert mapping[f"{name}/{category.key}"]["text"] == category.name


def test_every_panel_has_options():
    """Grafana 12 takes a panel without; what reads its files, and other versions, may not."""
    for file in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            assert isinstance(panel.get("options", {}), dict), f"{file.name}: {panel['title']}"
