"""No number on the wire is NaN or infinite, wherever it stands; the refusal says which one is."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.alert import Alert
from schemas.base import Record, first_error, from_ms
from schemas.estimate import Estimate, Inputs, ModelOutput, SensorDrift
from schemas.features import Features, Quality
from schemas.reading import Reading, Value
from schemas.station import Camera, CameraBands, FarBand, FoundBand, Station
from tests.samples import T0, estimate, imputed, index, measured

WHEN = from_ms(T0 * 1000)
ESTIMATE = estimate(
    pollutants={
        "pm25": measured(12.0),
        "no2": imputed(9.5, 2.5, 20.5, weights={"camera": 0.5}, coverage=0.75, raw=8.5),
    },
    indices=(index(imputed_share=0.25),),
    model=ModelOutput(aqi=60.5, lo=40.5, hi=80.5, sensors={"pm25": 15.5}, shares={"image": 0.5}),
    inputs=Inputs(readings=3, humidity=55.5, weather={"temperature": 8.5}),
    drift={"pm25": SensorDrift(kind="slide", since=WHEN, share=0.25, reason="pm25 slides")},
)
FEATURES = Features(
    station="s1", camera="main", captured_at=WHEN, frame_id="f", sha256="0" * 64, bundle="b",
    embeddings={"frame": struct.pack("<2f", 0.5, 1.5)}, haze=struct.pack("<f", 0.5),
    quality=Quality(usable=True, scores={"edge": 0.5}),
)  # fmt: skip
BAND = FarBand(top=0.125, bottom=0.5, left=0.25, right=0.75)
RECORDS: list[Record] = [
    ESTIMATE,
    FEATURES,
    Alert(
        id="s1/r/1", sequence=0, event="open", station="s1", rule="r", severity="minor", at=WHEN, since=WHEN,
        reason="", values={"value": 60.5}, membership={"good": 0.5},
    ),
    Station(station="s1", latitude=1.5, longitude=2.5, cameras=(Camera(camera="c", far_band=BAND),)),
    CameraBands(station="s1", bands=(FoundBand(camera="c", far_band=BAND, pairs=1),)),
    Reading(station="s1", observed_at=WHEN, values=(Value(parameter="pm25", value=12.5, unit="ug/m3"),)),
]  # fmt: skip


def floats(plain: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the floats of a JSON document stand."""
    if isinstance(plain, float):
        yield path
    elif isinstance(plain, dict | list):
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
            yield from floats(value, (*path, key))


def with_number(plain: Any, path: tuple[str | int, ...], token: str) -> bytes:
    """The document with `token` in place of the number at `path`."""
    at = plain = json.loads(json.dumps(plain))
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = "the number"
    return json.dumps(plain).replace('"the number"', token).encode()


def name_of(place: Any) -> str:
    """Of a record or a path, in a test's id."""
    return type(place).__name__ if isinstance(place, Record) else ".".join(map(str, place))


PLACES = [(record, path) for record in RECORDS for path in floats(json.loads(record.model_dump_json()))]


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400])
@pytest.mark.parametrize(("record", "path"), PLACES, ids=name_of)
def test_a_number_that_is_not_finite_is_refused_by_name(
    record: Record, path: tuple[str | int, ...], token: str
) -> None:
    plain = json.loads(record.model_dump_json())
    assert type(record).model_validate_json(with_number(plain, path, "0.375")) != record
    with pytest.raises(ValidationError) as caught:
        type(record).model_validate_json(with_number(plain, path, token))
    code, message = first_error(caught.value)
    assert code == "not_finite"
    # A reading's value is refused in the words for readings, which name the parameter.
    where = "values.0" if isinstance(record, Reading) else ".".join(map(str, path))
    assert message.startswith(where)
    assert "leave" in message
    assert len(message) < 150


def numbers(schema: dict[str, Any]) -> bool:
    """Whether a property is a number, or a table of numbers."""
    inner = [schema, schema.get("additionalProperties", {}), *schema.get("anyOf", ())]
    return any(isinstance(one, dict) and one.get("type") == "number" for one in inner)


def test_every_number_of_every_record_is_among_them() -> None:
    seen = {(type(record).__name__, part) for record, path in PLACES for part in path}
    for record in RECORDS:
        name, schema = type(record).__name__, type(record).model_json_schema(mode="serialization")
        for part in (schema, *schema.get("$defs", {}).values()):
            for field, content in part.get("properties", {}).items():
                if numbers(content):
                    assert (name, field) in seen


@pytest.mark.parametrize("field", ["frame", "haze"])
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (struct.pack("<2f", 0.5, float("nan")), "not_finite"),
        (struct.pack("<f", float("-inf")), "not_finite"),
        (b"\0" * 7, "not_float32"),
    ],
)
def test_a_vector_of_features_holds_finite_numbers(field: str, data: bytes, code: str) -> None:
    plain = json.loads(FEATURES.model_dump_json())
    text = base64.urlsafe_b64encode(data).decode()
    if field == "haze":
        plain["haze"] = text
    else:
        plain["embeddings"]["frame"] = text
    with pytest.raises(ValidationError) as caught:
        Features.model_validate_json(json.dumps(plain))
    assert first_error(caught.value)[0] == code


@given(st.integers())
def test_a_revision_fits_into_the_stores_integers(revision: int) -> None:
    plain = json.loads(ESTIMATE.model_dump_json()) | {"revision": revision}
    fits = 1 <= revision < 2**63
    try:
        assert Estimate.model_validate_json(json.dumps(plain)).revision == revision
        assert fits
    except ValidationError:
        assert not fits


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-01-01T00:01:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "9999-12-31T23:59:00Z"),
    ],
)
def test_a_window_that_no_series_can_hold_is_refused(start: str, end: str) -> None:
    plain = json.loads(ESTIMATE.model_dump_json()) | {"window": {"start": start, "end": end}}
    with pytest.raises(ValidationError, match="before 2262"):
        Estimate.model_validate_json(json.dumps(plain))
