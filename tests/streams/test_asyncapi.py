"""The checked-in AsyncAPI document: fresh, whole, and true of the records as they travel."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from schemas.base import from_ms
from schemas.dead_letter import DeadLetter
from schemas.estimate import Estimate
from schemas.features import Features, Punctuation, Quality
from schemas.frame import FrameHeader
from schemas.reading import READING_EXAMPLE, Reading
from schemas.station import Camera, Station
from streams import asyncapi
from streams.topics import TOPICS
from tests.samples import estimate

CHECKED_IN = Path(__file__).parents[2] / "docs" / "asyncapi.json"
README = CHECKED_IN.parent.parent / "README.md"
NOON = 1_750_246_800_000


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi.document()


def test_the_checked_in_document_is_fresh() -> None:
    assert CHECKED_IN.read_text() == asyncapi.text(), (
        "docs/asyncapi.json is stale: python -m streams.asyncapi > docs/asyncapi.json"
    )


def references(plain: Any) -> Iterator[str]:
    if isinstance(plain, dict):
        if "$ref" in plain:
            assert list(plain) == ["$ref"], f"beside a $ref nothing counts: {plain}"
            yield plain["$ref"]
        for part in plain.values():
            yield from references(part)
    elif isinstance(plain, list):
        for part in plain:
            yield from references(part)


def resolve(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    assert reference.startswith("#/")
    for part in reference[2:].split("/"):
        found = found[part]
    return found


def test_all_references_lead_somewhere_and_nothing_is_left_over(document: dict[str, Any]) -> None:
    used = set(references(document))
    for reference in used:
        resolve(document, reference)
    for kind in ("schemas", "messages"):
        for name in document["components"][kind]:
            assert f"#/components/{kind}/{name}" in used, name


def test_every_topic_is_a_channel_with_a_reader_and_a_writer(document: dict[str, Any]) -> None:
    by_address = {channel["address"]: name for name, channel in document["channels"].items()}
    assert set(by_address) == {topic.name for topic in TOPICS}
    for topic in TOPICS:
        name = by_address[topic.name]
        actions = {
            operation["action"]
            for operation in document["operations"].values()
            if operation["channel"] == {"$ref": f"#/channels/{name}"}
        }
        assert actions == {"send", "receive"}, name
        settings = document["channels"][name]["bindings"]["kafka"]["topicConfiguration"]
        assert settings["cleanup.policy"] == [topic.cleanup]
        assert settings["max.message.bytes"] == topic.max_bytes


def check(document: dict[str, Any], message: str, part: str, plain: Any) -> None:
    schema = document["components"]["messages"][message][part]
    errors = list(Draft7Validator({**schema, "components": document["components"]}).iter_errors(plain))
    assert not errors, errors[0].message


FEATURES = Features(
    station="st-1", camera="main", captured_at=from_ms(NOON), frame_id="f", sha256="0" * 64, bundle="b",
    embeddings={"frame": bytes(512)}, quality=Quality(usable=True),
)  # fmt: skip
READING = {
    "station": "st-1", "observed_at": NOON,
    "values": [{"parameter": "no2", "value": 9.5, "unit": "ppb"}],
}  # fmt: skip


def test_records_are_as_the_document_says(document: dict[str, Any]) -> None:
    station = Station(station="st-1", latitude=1.0, cameras=(Camera(camera="main"),))
    made: Estimate = estimate()
    check(document, "station", "payload", station.model_dump(mode="json"))
    check(document, "estimate", "payload", made.model_dump(mode="json"))
    check(document, "features", "payload", FEATURES.model_dump(mode="json"))
    check(document, "late", "payload", FEATURES.model_dump(mode="json"))
    check(document, "reading", "payload", READING)
    check(document, "late", "payload", READING)
    watermark = Punctuation(kind="watermark", at=from_ms(NOON))
    check(document, "punctuation", "payload", watermark.model_dump(mode="json"))


def test_headers_are_as_the_document_says(document: dict[str, Any]) -> None:
    frame = FrameHeader(id="1", source="/x", time=from_ms(NOON), station="st-1").to_headers()
    check(document, "frame", "headers", {name: raw.decode() for name, raw in frame})
    letter = DeadLetter(
        stage="fusion", code="not_json", reason="because", topic="t", partition=0, offset=3,
        failed_at=from_ms(NOON), partly_used=True,
    ).to_headers()  # fmt: skip
    check(document, "deadLetter", "headers", {name: raw.decode() for name, raw in letter})


@pytest.mark.parametrize(
    "wrong",
    [{**READING, "station": "no spaces"}, {**READING, "values": []}, {**READING, "extra": 1}, {}],
)
def test_what_the_schema_refuses_the_document_refuses(
    document: dict[str, Any], wrong: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError):
        check(document, "reading", "payload", wrong)


def test_what_stations_send_has_an_example_that_is_right(document: dict[str, Any]) -> None:
    for name in ("station", "reading", "frame"):
        (example,) = document["components"]["messages"][name]["examples"]
        for part, plain in example.items():
            check(document, name, part, plain)
    readings = document["components"]["messages"]["reading"]["examples"][0]["payload"]
    Reading.model_validate_json(json.dumps(readings))

    assert READING_EXAMPLE in README.read_text(), "the README shows the same first message"
