"""Shared formats against what their formats ask for, and never an imputed value as a measurement."""

import json
from datetime import datetime

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.share import share
from exchange import ngsi_ld, openaq, sensorthings
from schemas.base import format_time
from schemas.estimate import Inputs
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from sinks.store import Store
from tests.samples import T0, estimate, estimates, imputed, index, measured

HERE = {
    name: Station(station=name, name=name.upper(), city="Milan", latitude=45.5, longitude=9.25)
    for name in ("s1", "s2")
}
NOW = datetime.fromisoformat("2026-01-02T00:00:00+00:00")
FAST = settings(max_examples=40, deadline=None)


def key_values(entity):
    """The simplified form of an entity, which the model's JSON schema describes."""
    plain = {}
    for name, attribute in entity.items():
        value = attribute["value"] if isinstance(attribute, dict) else attribute
        plain[name] = value["@value"] if isinstance(value, dict) and "@value" in value else value
    return plain


def rfc3339(text):
    return datetime.fromisoformat(text).tzinfo is not None


@FAST
@given(estimates())
def test_an_ngsi_ld_entity_keeps_to_the_schema_of_air_quality_observed(one):
    """The published schema's constraints (0.1.3): required attributes, types, bounds; written out here."""
    made = ngsi_ld.entity(one, HERE[one.station])
    for name, attribute in made.items():
        if name not in ("id", "type", "@context"):
            assert attribute["type"] in ("Property", "GeoProperty")
            assert "value" in attribute
            # NGSI-LD has no null, and its observedAt is UTC with a Z.
            assert attribute["value"] is not None
            assert attribute.get("observedAt", "Z").endswith("Z")
        if name in POLLUTANTS:
            assert attribute["unitCode"] == "GQ"  # UN/CEFACT: microgram per cubic metre
            assert {"kind", "qualityFlag"} <= set(attribute)
    plain = key_values(made)
    json.dumps(plain, allow_nan=False)
    assert {"id", "type", "dateObserved", "location"} <= set(plain)
    assert plain["type"] == "AirQualityObserved"
    assert plain["id"].startswith("urn:ngsi-ld:AirQualityObserved:")
    assert rfc3339(plain["dateObserved"])
    assert plain["location"] == {"type": "Point", "coordinates": [9.25, 45.5]}
    for name in POLLUTANTS:
        assert plain.get(name, 0) >= 0
    index_value = plain.get("airQualityIndex", 0)
    assert isinstance(index_value, int)
    assert index_value >= 0
    assert 0 <= plain["reliability"] <= 1
    assert 0 <= plain.get("relativeHumidity", 0) <= 1
    known = {
        *POLLUTANTS,
        "id",
        "type",
        "@context",
        "dateObserved",
        "location",
        "name",
        "source",
        "areaServed",
    }
    assert set(plain) <= known | {"relativeHumidity", "reliability", "airQualityIndex", "airQualityLevel"}


def test_an_ngsi_ld_value_tells_how_it_came_about():
    one = estimate(
        pollutants={"pm25": imputed(34, 20, 50), "no2": measured(5.0)},
        indices=(index(52, imputed_share=0.25, status="indicative"),),
        inputs=Inputs(readings=1, humidity=40.0),
    )
    made = ngsi_ld.entity(one, HERE["s1"])
    assert made["pm25"] == {
        "type": "Property", "value": 34, "observedAt": "2026-01-01T00:01:00Z", "unitCode": "GQ",
        "kind": {"type": "Property", "value": "imputed"}, "qualityFlag": {"type": "Property", "value": 9},
        "interval": {"type": "Property", "value": [20, 50], "unitCode": "GQ"},
    }  # fmt: skip
    assert "interval" not in made["no2"]
    assert made["reliability"]["value"] == 0.75
    assert made["relativeHumidity"]["value"] == 0.4
    assert made["airQualityIndex"]["status"]["value"] == "indicative"
    with pytest.raises(ValueError, match="no position"):
        ngsi_ld.entity(one, Station(station="s1"))


@FAST
@given(st.lists(estimates(), max_size=5))
def test_sensorthings_keep_kinds_apart_and_lose_nothing(batch):
    streams = {
        stream["@iot.id"]
        for station in HERE.values()
        for stream in sensorthings.thing(station)["Datastreams"]
    }
    assert len(streams) == 2 * 6 * 3
    found = []
    for array in sensorthings.observations(batch):
        assert array["Datastream"]["@iot.id"] in streams
        assert array["components"] == [
            "phenomenonTime",
            "resultTime",
            "result",
            "resultQuality",
            "parameters",
        ]
        assert array["dataArray@iot.count"] == len(array["dataArray"])
        station, parameter, kind = array["Datastream"]["@iot.id"].split(":")
        for time, result_time, result, quality, details in array["dataArray"]:
            start, end = time.split("/")
            assert rfc3339(start)
            assert end == result_time
            assert details["kind"] == kind
            found.append((station, parameter, end, result, quality[0]["result"]))
    words = {1: "pass", 2: "not evaluated", 3: "suspect", 4: "fail", 9: "missing"}
    assert sorted(found) == sorted(
        (one.station, name, format_time(one.window.end), pollutant.value, words[pollutant.qc])
        for one in batch
        for name, pollutant in one.pollutants.items()
    )


#: OGC 18-088 (SensorThings 1.1), tables of section 8.2: mandatory properties, and those that are optional.
#: Links to other entities that a deep insert carries are named with them.
ENTITIES = {
    "Thing": ({"name", "description"}, {"properties", "Locations", "Datastreams"}),
    "Location": ({"name", "description", "encodingType", "location"}, {"properties"}),
    "Datastream": (
        {"name", "description", "unitOfMeasurement", "observationType", "Sensor", "ObservedProperty"},
        {"observedArea", "phenomenonTime", "resultTime", "properties"},
    ),
    "Sensor": ({"name", "description", "encodingType", "metadata"}, {"properties"}),
    "ObservedProperty": ({"name", "definition", "description"}, {"properties"}),
    "Observation": (
        {"phenomenonTime", "result", "resultTime"},
        {"resultQuality", "validTime", "parameters"},
    ),
}
#: The tables of codes: encodings of a Location and of a Sensor's metadata, the type of a measurement.
LOCATION_ENCODINGS = {"application/geo+json"}
SENSOR_ENCODINGS = {"application/pdf", "http://www.opengis.net/doc/IS/SensorML/2.0", "text/html"}
MEASUREMENT = "http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement"


def keeps_to(kind, entity):
    mandatory, optional = ENTITIES[kind]
    names = set(entity) - {"@iot.id"}
    assert mandatory <= names, (kind, mandatory - names)
    assert names <= mandatory | optional, (kind, names - mandatory - optional)
    for name in ("name", "description", "encodingType", "definition", "observationType"):
        assert isinstance(entity.get(name, "x"), str)
        assert entity.get(name, "x")
    assert isinstance(entity.get("properties", {}), dict)


@FAST
@given(
    st.builds(
        Station,
        station=st.sampled_from(("s1", "s-2")),
        name=st.text(max_size=5),
        city=st.text(max_size=5),
        latitude=st.floats(-90, 90),
        longitude=st.floats(-180, 180),
    )
)
def test_a_thing_has_the_properties_of_the_published_tables(station):
    made = sensorthings.thing(station)
    keeps_to("Thing", made)
    (place,) = made["Locations"]
    keeps_to("Location", place)
    assert place["encodingType"] in LOCATION_ENCODINGS
    assert place["location"] == {"type": "Point", "coordinates": [station.longitude, station.latitude]}
    for stream in made["Datastreams"]:
        keeps_to("Datastream", stream)
        # All three members, also where one would be null.
        assert set(stream["unitOfMeasurement"]) == {"name", "symbol", "definition"}
        assert stream["observationType"] == MEASUREMENT
        keeps_to("Sensor", stream["Sensor"])
        assert stream["Sensor"]["encodingType"] in SENSOR_ENCODINGS
        keeps_to("ObservedProperty", stream["ObservedProperty"])
        assert "://" in stream["ObservedProperty"]["definition"]
    assert len({stream["@iot.id"] for stream in made["Datastreams"]}) == len(made["Datastreams"])


@FAST
@given(st.lists(estimates(), min_size=1, max_size=4))
def test_an_observation_has_the_properties_of_the_published_tables(batch):
    for array in sensorthings.observations(batch):
        # The data array extension: these four members, and a row as long as the components.
        assert set(array) == {"Datastream", "components", "dataArray@iot.count", "dataArray"}
        for row in array["dataArray"]:
            assert len(row) == len(array["components"])
            one = dict(zip(array["components"], row, strict=True))
            keeps_to("Observation", one)
            start, end = map(datetime.fromisoformat, one["phenomenonTime"].split("/"))  # a period
            assert start < end
            assert datetime.fromisoformat(one["resultTime"]) == end  # an instant
            assert isinstance(one["result"], float)  # OM_Measurement: a double
            assert all(set(element) == {"nameOfMeasure", "result"} for element in one["resultQuality"])
            assert isinstance(one["parameters"], dict)
        json.dumps(array, allow_nan=False)


def test_a_thing_can_be_inserted_whole():
    made = sensorthings.thing(HERE["s1"])
    assert made["Locations"][0]["location"]["coordinates"] == [9.25, 45.5]
    for stream in made["Datastreams"]:
        assert stream["unitOfMeasurement"]["definition"] == "ucum:ug/m3"
        required = {
            "name",
            "description",
            "observationType",
            "unitOfMeasurement",
            "ObservedProperty",
            "Sensor",
        }
        assert required <= set(stream)
        assert {"name", "description", "encodingType", "metadata"} <= set(stream["Sensor"])
        assert {"name", "description", "definition"} <= set(stream["ObservedProperty"])
    assert "Locations" not in sensorthings.thing(Station(station="x"))


@FAST
@given(st.lists(estimates(stations=("s1", "s2", "nowhere")), max_size=6))
def test_openaq_gets_measurements_only(batch):
    made = openaq.transform(batch, HERE, exported_on=NOW)
    expected = sorted(
        (p.raw if p.kind == "corrected" else p.value) / (1000 if name == "co" else 1)
        for one in batch
        if one.station in HERE
        for name, p in one.pollutants.items()
        if p.kind != "imputed" and not (p.kind == "corrected" and p.raw is None)
    )
    assert sorted(one["value"] for one in made["measurements"]) == expected
    keys = {
        sensor["key"]: sensor
        for location in made["locations"]
        for system in location["systems"]
        for sensor in system["sensors"]
    }
    for one in made["measurements"]:
        assert set(one) == {"key", "timestamp", "value"}
        assert rfc3339(one["timestamp"])
        assert one["key"] in keys
    for sensor in keys.values():
        # openaq-transform's table of parameters
        assert sensor["parameter"] in {f"{name}:mass" for name in POLLUTANTS}
        assert sensor["units"] == ("mg/m3" if sensor["parameter"] == "co:mass" else "ug/m3")
    assert {location["site_id"] for location in made["locations"]} <= set(HERE)
    assert made["meta"]["fetchSummary"]["measurements"] == len(made["measurements"])
    assert ("nowhere" in {one.station for one in batch}) == (
        made["meta"]["fetchSummary"]["errors"]["stations_without_position"] == ["nowhere"]
    )


def test_the_command_writes_each_format(tmp_path, monkeypatch):
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    with Store(tmp_path / "store.sqlite") as store:
        store.write_stations(list(HERE.values()))
        store.write([estimate(name, T0 + 60 * n) for name in HERE for n in (1, 2)])
    app = typer.Typer()
    app.command()(share)

    def run(*arguments):
        out = tmp_path / "out.json"
        result = CliRunner().invoke(app, [*arguments, "--output", str(out)])
        assert result.exit_code == 0, result.exception
        return json.loads(out.read_text())

    assert [one["id"].rpartition(":")[2] for one in run("ngsi-ld")] == ["s1", "s2"]
    assert run("ngsi-ld", "--station", "s2")[0]["dateObserved"]["value"]["@value"] == "2026-01-01T00:02:00Z"
    assert len(run("openaq")["measurements"]) == 4
    assert len(run("openaq", "--since", "2026-01-01T00:02:00Z")["measurements"]) == 2
    assert {len(one["dataArray"]) for one in run("sensorthings")} == {2}
    assert len(run("sensorthings-things")) == 2
    assert json.loads(CliRunner().invoke(app, ["openaq"]).stdout)["meta"]["sourceName"] == "skyfuse"
