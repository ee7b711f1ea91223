"""The AsyncAPI document of all topics, made from the records' schemas and the table of topics.

    python -m streams.asyncapi > docs/asyncapi.json

It describes the whole system: an operation says who performs it, since consumers in another language need
the messages and their keys, not one program's view of them. Long because it is a table of all messages.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.alert import Alert
from schemas.alone import MARK_TYPE, Alone, Mark
from schemas.amendment import AMENDMENT_TYPE, Amendment
from schemas.annotation import Annotation
from schemas.base import JsonObject, parse_time
from schemas.dead_letter import REDRIVEN_FROM, DeadLetter
from schemas.device import DeviceReport
from schemas.estimate import BACKFILLED, Estimate
from schemas.features import Features, Punctuation
from schemas.forecast import Forecast
from schemas.frame import HEADERS, MAX_FRAME_BYTES, REQUIRED, FrameHeader
from schemas.health import StationHealth
from schemas.reading import READING_EXAMPLE, Reading
from schemas.station import CameraBands, Station
from schemas.weather import WeatherIssue
from streams import topics
from streams.accept import LATE_FROM, MAX_READING_BYTES, PUNCTUATION_TYPE
from streams.checkpoint import AT
from streams.topics import TOPICS, Topic

Mode = Literal["validation", "serialization"]

#: Version of the document; the first digit is that of the topics' names.
_VERSION: Final = "1.0.0"
_BINDING: Final = "0.5.0"
_SCHEMAS: Final = "#/components/schemas/"
_STATION_KEY: Final[JsonObject] = {
    "type": "string",
    "description": "the station id, UTF-8; it decides the partition (murmur2, as Java clients do; librdkafka:"
    " partitioner=murmur2_random)",
}
_TEXT: Final[JsonObject] = {"type": "string"}
_REDRIVEN: Final[JsonObject] = {
    "type": "string", "description": "id of the dead letter as which this record came before",
}  # fmt: skip

_STATION_EXAMPLE: Final[JsonObject] = {
    "station": "my-roof", "latitude": 45.46, "longitude": 9.19, "timezone": "Europe/Rome",
    "cameras": [{"camera": "main"}],
}  # fmt: skip
_FRAME_EXAMPLE: Final[JsonObject] = {
    name: raw.decode()
    for name, raw in FrameHeader(
        id="my-roof-1", source="/my-roof", time=parse_time("2026-08-21T10:00:00Z"), station="my-roof"
    ).to_headers()
}


@dataclass(frozen=True)
class _MessageForm:
    """A kind of record: JSON of a model, or raw bytes."""

    summary: str
    payload: type[BaseModel] | JsonObject
    #: What may be sent (validation), or what is written (serialization).
    mode: Mode = "serialization"
    content_type: str = "application/json"
    headers: JsonObject | None = None
    key: JsonObject | None = None
    #: Of the payload, and of the headers where there are any.
    example: JsonObject | None = None


def _object(properties: JsonObject, required: Sequence[str] = ()) -> JsonObject:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _frame_headers() -> JsonObject:
    fields = FrameHeader.model_json_schema(mode="validation")["properties"]
    times = {"type": "string", "format": "date-time", "description": fields["time"]["description"]}
    return _object(
        {
            **{header: times if name == "time" else fields[name] for header, name in HEADERS.items()},
            REDRIVEN_FROM: _REDRIVEN,
        },
        REQUIRED,
    )


def _dead_letter_headers() -> JsonObject:
    fields = DeadLetter.model_json_schema(mode="serialization")["properties"]
    as_text: dict[str, JsonObject] = {
        "integer": {"type": "string", "pattern": "^[0-9]+$"},
        "boolean": {"type": "string", "enum": ["True", "False"]},
    }
    plain = {}
    for name, field in fields.items():
        if "anyOf" in field:  # a header that is not there stands for none
            field |= next(one for one in field["anyOf"] if one["type"] != "null")
        text = as_text.get(field.get("type", ""))
        kept = {word: field[word] for word in ("title", "description") if word in field}
        held = {word: part for word, part in field.items() if word not in ("anyOf", "default")}
        plain[DeadLetter.header_name(name)] = held if text is None else kept | text
    optional = DeadLetter.header_name("redriven_at")
    return _object(plain, [name for name in plain if name != optional])


def _messages() -> dict[str, _MessageForm]:
    return {
        "station": _MessageForm(
            "A station: what is installed where",
            Station,
            "validation",
            key=_STATION_KEY,
            example={"payload": _STATION_EXAMPLE},
        ),
        "cameraBands": _MessageForm(
            "The far bands that were found for a station's cameras", CameraBands, key=_STATION_KEY
        ),
        "frame": _MessageForm(
            "A camera's picture as the camera made it: JPEG, PNG or still WebP",
            {
                "type": "string",
                "format": "binary",
                "maxLength": MAX_FRAME_BYTES,
                "description": f"the image file's bytes, at most {MAX_FRAME_BYTES} of them",
            },
            content_type="image/jpeg",
            headers=_frame_headers(),
            key=_STATION_KEY,
            example={"headers": _FRAME_EXAMPLE},
        ),
        "reading": _MessageForm(
            f"Values that a station observed at one time, at most {MAX_READING_BYTES} bytes",
            Reading,
            "validation",
            headers=_object({REDRIVEN_FROM: _REDRIVEN}),
            key=_STATION_KEY,
            example={"payload": json.loads(READING_EXAMPLE)},
        ),
        "features": _MessageForm("What is kept of a frame", Features, key=_STATION_KEY),
        "punctuation": _MessageForm(
            "Progress without data, sent to every partition",
            Punctuation,
            "validation",
            headers=_object({"ce_type": {"type": "string", "const": PUNCTUATION_TYPE.decode()}}, ["ce_type"]),
            key={"type": "null", "description": "no key: that is how it is told from data"},
        ),
        "estimate": _MessageForm(
            "One revision of one window of one station; the highest per (station, window) counts",
            Estimate,
            headers=_object(
                {BACKFILLED: {"type": "string", "const": "true", "description": "made by skyfuse backfill"}}
            ),
            key=_STATION_KEY,
        ),
        "alone": _MessageForm(
            "A station's estimate by itself, for its region; between workers, its form may change",
            Alone,
            key={"type": "string", "description": "the station id; it lies on its region's partition"},
        ),
        "mark": _MessageForm(
            "How far a partition of fusion has come, sent to every partition",
            Mark,
            headers=_object({"ce_type": {"type": "string", "const": MARK_TYPE.decode()}}, ["ce_type"]),
            key={"type": "null", "description": "no key: that is how it is told from data"},
        ),
        "alert": _MessageForm(
            "One event of one alert; the newest per key counts",
            Alert,
            key={"type": "string", "description": "the alert's id; it lies on its station's partition"},
        ),
        "annotation": _MessageForm(
            "What somebody says of a station's data; the newest per key counts",
            Annotation,
            key={"type": "string", "description": "the annotation's id; it lies on its station's partition"},
        ),
        "deviceReport": _MessageForm(
            "What a device says of itself, or its broker of it", DeviceReport, key=_STATION_KEY
        ),
        "stationHealth": _MessageForm(
            "How a station fares; the newest per key counts", StationHealth, key=_STATION_KEY
        ),
        "weather": _MessageForm(
            "The weather at a station as somebody issued it", WeatherIssue, "validation", key=_STATION_KEY
        ),
        "forecast": _MessageForm(
            "The next three days of a station; the highest revision per (station, issued_at) counts",
            Forecast,
            key=_STATION_KEY,
        ),
        "amendment": _MessageForm(
            "A change of the past, from skyfuse backfill to fusion: hours to replace in a station's averages,"
            " and readings that do not count",
            Amendment,
            headers=_object({"ce_type": {"type": "string", "const": AMENDMENT_TYPE.decode()}}, ["ce_type"]),
            key=_STATION_KEY,
        ),
        "late": _MessageForm(
            "A reading or a frame's features, bytes and headers as they were",
            {"oneOf": [{"$ref": f"{_SCHEMAS}Reading"}, {"$ref": f"{_SCHEMAS}Features"}]},
            headers=_object(
                {
                    LATE_FROM: {
                        "type": "string",
                        "description": "topic/partition/offset where it stood first; file/readings,"
                        " file/features: put here from files by skyfuse backfill",
                    }
                },
                [LATE_FROM],
            ),
            key=_STATION_KEY,
        ),
        "deadLetter": _MessageForm(
            "A refused record: its bytes, key and headers untouched, the story in headers of its own",
            {"type": "string", "format": "binary", "description": "the refused record's value"},
            content_type="application/octet-stream",
            headers=_dead_letter_headers(),
            key={"type": ["string", "null"], "description": "the refused record's key, whatever it was"},
        ),
        "checkpoint": _MessageForm(
            "A snapshot of what a stage knows of a station; skyfuse's own, its form may change",
            {"type": "object"},
            headers=_object(
                {AT: {"type": "string", "pattern": "^-?[0-9]+$", "description": "horizon it belongs to"}},
                [AT],
            ),
            key={"type": "string", "description": "name#slot, two slots in turn"},
        ),
    }


#: What lies on each topic.
_CONTENTS: Final[Mapping[str, tuple[str, ...]]] = {
    topics.STATIONS.name: ("station",),
    topics.CAMERA_BANDS.name: ("cameraBands",),
    topics.FRAMES.name: ("frame", "punctuation"),
    topics.READINGS.name: ("reading", "punctuation", "amendment"),
    topics.FEATURES.name: ("features", "punctuation"),
    topics.ALONE.name: ("alone", "mark", "amendment"),
    topics.ESTIMATES.name: ("estimate",),
    topics.ALERTS.name: ("alert",),
    topics.ANNOTATIONS.name: ("annotation",),
    topics.QUARANTINE.name: ("reading",),
    topics.QUARANTINED_FRAMES.name: ("frame",),
    topics.DEVICES.name: ("deviceReport",),
    topics.FLEET.name: ("stationHealth",),
    topics.WEATHER.name: ("weather",),
    topics.FORECASTS.name: ("forecast",),
    topics.LATE.name: ("late",),
    topics.DEAD_LETTERS.name: ("deadLetter",),
    topics.STATE.name: ("checkpoint",),
    topics.ALERT_STATE.name: ("checkpoint",),
    topics.FORECAST_STATE.name: ("checkpoint",),
    topics.NETWORK_STATE.name: ("checkpoint",),
}

#: (who, what that is, topics it receives from, topics it sends to)
_ACTORS: Final[Sequence[tuple[str, str, tuple[Topic, ...], tuple[Topic, ...]]]] = (
    (
        "station",
        "a station or its gateway; `skyfuse simulate` and `skyfuse replay` in its place",
        (),
        (
            topics.STATIONS,
            topics.FRAMES,
            topics.READINGS,
            topics.QUARANTINE,
            topics.QUARANTINED_FRAMES,
            topics.DEVICES,
        ),
    ),
    (
        "vision",
        "looks at frames",
        (topics.FRAMES, topics.STATIONS, topics.CAMERA_BANDS),
        (topics.FEATURES, topics.DEAD_LETTERS),
    ),
    (
        "fusion",
        "joins features and readings into estimates",
        (topics.FEATURES, topics.READINGS, topics.STATIONS, topics.STATE),
        (
            topics.ESTIMATES,
            topics.ALONE,
            topics.LATE,
            topics.DEAD_LETTERS,
            topics.STATE,
            topics.CAMERA_BANDS,
        ),
    ),
    (
        "network",
        "brings the stations of a region together, where `network.enabled` is set",
        (topics.ALONE, topics.NETWORK_STATE),
        (topics.ESTIMATES, topics.DEAD_LETTERS, topics.NETWORK_STATE),
    ),
    (
        "sink",
        "writes estimates, annotations and forecasts into databases, and alerts into InfluxDB",
        (topics.ESTIMATES, topics.STATIONS, topics.ALERTS, topics.ANNOTATIONS, topics.FORECASTS),
        (topics.DEAD_LETTERS,),
    ),
    (
        "alert",
        "watches estimates, and how stations fare",
        (
            topics.ESTIMATES,
            topics.ALERT_STATE,
            topics.STATIONS,
            topics.READINGS,
            topics.FEATURES,
            topics.DEVICES,
            topics.FLEET,
        ),
        (topics.ALERTS, topics.DEAD_LETTERS, topics.ALERT_STATE, topics.FLEET),
    ),
    (
        "forecast",
        "makes forecasts of estimates and weather",
        (topics.ESTIMATES, topics.WEATHER, topics.STATIONS, topics.FORECAST_STATE),
        (topics.FORECASTS, topics.DEAD_LETTERS, topics.FORECAST_STATE),
    ),
    (
        "weather",
        "`skyfuse weather`, or anyone who has it: weather to come, and that has passed",
        (),
        (topics.WEATHER,),
    ),
    (
        "backfill",
        "`skyfuse backfill`, `invalidate`, `annotate`: counts what came too late, or lies in files, and not"
        " what was invalidated",
        (
            topics.LATE,
            topics.READINGS,
            topics.FEATURES,
            topics.STATIONS,
            topics.STATE,
            topics.ESTIMATES,
            topics.ANNOTATIONS,
        ),
        (topics.ESTIMATES, topics.LATE, topics.STATIONS, topics.READINGS, topics.ANNOTATIONS),
    ),
    (
        "operator",
        "`skyfuse dlq`: looks at what was refused and sends it back, mended; `skyfuse stations adopt`",
        (topics.DEAD_LETTERS, topics.QUARANTINE, topics.QUARANTINED_FRAMES),
        (topics.STATIONS, topics.FRAMES, topics.READINGS),
    ),
    (
        "consumer",
        "anyone who acts on estimates, alerts and forecasts",
        (topics.ESTIMATES, topics.ALERTS, topics.FORECASTS),
        (),
    ),
)


def document() -> JsonObject:
    """The AsyncAPI 3.0 document as plain data."""
    messages = _messages()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "skyfuse",
            "version": _VERSION,
            "description": (
                "Every record on skyfuse's Kafka topics. All topics have the same number of partitions"
                " (setting kafka.partitions, 4 if not set), so that what is joined lies on the same number;"
                " record timestamps are the broker's, event time travels in the message. Where the setting"
                " kafka.prefix is given, it comes before every topic's name."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_channel(topic): _describe(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {
            "messages": {name: _message(name, message) for name, message in messages.items()},
            "schemas": _schemas(messages),
        },
    }


def _channel(topic: Topic) -> str:
    return topic.name.split(".")[1]


def _describe(topic: Topic) -> JsonObject:
    settings: JsonObject = {}
    for name, value in topic.config().items():
        if name == "cleanup.policy":
            settings[name] = [value]
        else:
            settings[name] = int(value) if value.lstrip("-").isdigit() else value
    kept = (
        "the newest record of each key is kept"
        if topic.cleanup == "compact"
        else f"kept for {topic.retention_ms // 3_600_000} h after it came to the broker"
    )
    return {
        "address": topic.name,
        "title": topic.name,
        "description": f"{topic.holds[0].upper()}{topic.holds[1:]}; {kept}.",
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"} for name in _CONTENTS[topic.name]
        },
        "bindings": {
            "kafka": {"topic": topic.name, "topicConfiguration": settings, "bindingVersion": _BINDING}
        },
    }  # fmt: skip


def _operations() -> JsonObject:
    operations = {}
    for who, what, receives, sends in _ACTORS:
        directions: tuple[tuple[str, str, tuple[Topic, ...]], ...] = (
            ("receive", "receives", receives), ("send", "sends", sends),
        )  # fmt: skip
        for action, verb, used in directions:
            for topic in used:
                channel = _channel(topic)
                operations[f"{who}-{verb}-{channel}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{channel}"},
                    "summary": f"{who}: {what}",
                    "tags": [{"name": who}],
                    "messages": [
                        {"$ref": f"#/channels/{channel}/messages/{name}"}
                        for name in _CONTENTS[topic.name]
                        # Nobody but a source or a stage sends progress.
                        if not (name == "punctuation" and who in ("operator", "backfill"))
                        # Only backfill tells fusion of the past, and to the readings it adds nothing else.
                        and not (
                            action == "send"
                            and (name == "amendment") != (who == "backfill")
                            and topic is topics.READINGS
                        )
                    ],
                }
    return operations


def _message(name: str, message: _MessageForm) -> JsonObject:
    payload = message.payload
    plain: JsonObject = {
        "name": name,
        "title": name,
        "summary": message.summary,
        "contentType": message.content_type,
        "payload": payload if isinstance(payload, dict) else {"$ref": _SCHEMAS + payload.__name__},
    }
    if message.headers is not None:
        plain["headers"] = message.headers
    if message.example is not None:
        plain["examples"] = [message.example]
    plain["bindings"] = {"kafka": {"key": message.key or _TEXT, "bindingVersion": _BINDING}}
    return plain


def _schemas(messages: Mapping[str, _MessageForm]) -> JsonObject:
    models = [(m.payload, m.mode) for m in messages.values() if not isinstance(m.payload, dict)]
    _, found = models_json_schema(models, ref_template=_SCHEMAS + "{model}")
    return {name: _draft7(schema) for name, schema in sorted(found["$defs"].items())}


def _draft7(schema: Any) -> Any:
    """AsyncAPI's schemas are JSON Schema draft 7, where nothing may stand beside a `$ref`."""
    if isinstance(schema, list):
        return [_draft7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _draft7(part) for name, part in schema.items()}
    if "$ref" in plain and len(plain) > 1:
        plain["allOf"] = [{"$ref": plain.pop("$ref")}]
    return plain


def text() -> str:
    """The document as it is checked in."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
