"""docs/outputs.md names every measurement, field, topic, alert field and metric, with unit and meaning."""

import re
from pathlib import Path
from typing import Any

import pytest

from schemas.alert import Alert
from schemas.estimate import Inputs, ModelOutput
from schemas.station import Station
from sinks.aggregates import KINDS, aggregate
from sinks.points import alert_point, station_point
from sinks.store import Store
from streams.metrics import REGISTRY
from streams.topics import TOPICS
from tests.exchange.test_cap_and_webhook import EVENTS
from tests.samples import T0, estimate, imputed, index, measured
from tests.sinks.lines import points

TEXT = (Path(__file__).parents[1] / "docs" / "outputs.md").read_text()
#: What a number may be said in.
UNITS = re.compile(
    r"ug/m3|points?\b|%|share|\bcounts?\b|degrees|\bms\b|\bs\b|flag|mask|rank"
    r"|as above|likewise|as on the topic"
)


def section(heading):
    """The text from a heading (its beginning) to the next."""
    (start,) = [m.end() for m in re.finditer(rf"^#+ {re.escape(heading)}.*$", TEXT, re.M)]
    end = re.search(r"^#+ ", TEXT[start:], re.M)
    return TEXT[start : start + end.start()] if end else TEXT[start:]


def rows(heading):
    """Rows of the section's table: cells, without those of its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def names(cell):
    return re.findall(r"`([\w.-]+)`", cell)


def types(cell, count):
    found = [one.strip() for one in re.sub(r"\(.*\)", "", cell).split(",")]
    return found if len(found) == count else found * count


def written():
    """Per measurement: tags and fields (name to type) of points as the sink writes them."""
    one = estimate(
        pollutants={"pm25": imputed(5, 1, 9), "no2": measured(3.0)},
        indices=(index(40),),
        model=ModelOutput(aqi=40, lo=30, hi=50, sensors={}),
        inputs=Inputs(readings=3, humidity=40.0),
    )
    made = [*points(one), station_point(Station(station="s1", city="Milan"), T0), alert_point(EVENTS[0])]
    found: dict[str, Any] = {}
    for point in made:
        tags = tuple(sorted(name for name, _ in point.tags))
        fields = {name: type(value).__name__ for name, value in point.fields.items()}
        assert found.setdefault(point.measurement, (tags, fields)) == (tags, fields)
    return found


WORDS = {"str": "string", "int": "int", "float": "float", "bool": "bool"}
HEADINGS = {
    "aq": "`aq`: one point per pollutant and window.", "aqi": "`aqi`: one point per standard",
    "station_state": "`station_state`: one point", "alert": "`alert`: one point per alert.",
    "station": "`station`: the directory.",
}  # fmt: skip


def documented(heading):
    """Field to (type, meaning)."""
    found = {}
    for row in rows(heading):
        listed = names(row[0])
        for name, kind in zip(listed, types(row[1], len(listed)), strict=True):
            assert name not in found
            found[name] = (kind, row[-1])
    return found


def test_there_is_a_section_for_every_measurement():
    assert set(written()) == set(HEADINGS)


@pytest.mark.parametrize("measurement", HEADINGS)
def test_every_field_and_tag_of_a_measurement_is_documented(measurement):
    tags, fields = written()[measurement]
    [heading] = re.findall(rf"^### {re.escape(HEADINGS[measurement])}.*$", TEXT, re.M)
    assert set(tags) == set(names(heading.partition("Tag")[2]))
    found = documented(HEADINGS[measurement])
    assert found.keys() == fields.keys()
    for name, kind in fields.items():
        said, meaning = found[name]
        assert said == WORDS[kind], name
        assert len(meaning) > 3, name
        if kind in ("int", "float"):
            assert UNITS.search(meaning), f"{measurement}.{name}: in what unit? {meaning}"


def test_every_field_of_the_aggregates_is_documented(tmp_path):
    with Store(tmp_path / "store.sqlite", aggregates=True) as store:
        store.write([estimate(end=T0 + 60 * n) for n in range(1, 61)])
        due = store.due((T0 + 3 * 86_400) * 1000)
        tallies = [(period, store.tally(period)) for period in due]
        made = [point for period, tally in tallies if tally for point in aggregate(period, tally)]
    heading = ", ".join(f"`{what}_{kind}`" for what in ("aq", "aqi") for kind in KINDS)
    assert {point.measurement for point in made} == set(names(heading))
    for what in ("aq", "aqi"):
        fields = set().union(*(point.fields for point in made if point.measurement.startswith(f"{what}_")))
        said = set()
        for row in rows(heading):
            assert UNITS.search(row[-1]) or "whether" in row[-1], row
            if row[2] in ("both", f"`{what}_…`"):
                said |= set(names(row[0]))
        assert said == fields


def test_every_topic_is_documented_with_how_long_it_is_kept():
    found = {name: (row[1], row[2]) for row in rows("Topics") for name in names(row[0])}
    assert found.keys() == {topic.name for topic in TOPICS}
    for topic in TOPICS:
        holds, kept = found[topic.name]
        assert len(holds) > 5
        hours = topic.retention_ms // 3_600_000
        span = f"{hours} hours" if hours < 24 else f"{hours // 24} days"
        assert kept == ("compacted" if topic.cleanup == "compact" else span), topic.name


def test_every_field_of_an_alert_is_documented():
    found = documented("An event")
    assert found.keys() == Alert.model_fields.keys()
    keys = set().union(*(event.values for event in EVENTS))
    assert keys <= set(names(found["values"][1]))
    for name in ("values", "membership", "sequence"):
        assert UNITS.search(found[name][1])
    kinds = {event.event for event in EVENTS}
    assert kinds <= set(names(found["event"][1]))


def test_every_metric_is_documented_with_its_labels():
    found = {names(row[0])[0]: (row[1], row[2]) for row in rows("Metrics")}
    code = {}
    collectors: list[Any] = list({id(c): c for c in REGISTRY._names_to_collectors.values()}.values())
    for collector in collectors:
        (family,) = collector.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        code[name] = ", ".join(collector._labelnames) or "-"
    assert {name: labels for name, (labels, _) in found.items()} == code
    for name, (_, meaning) in found.items():
        assert UNITS.search(meaning) or "always 1" in meaning, name
