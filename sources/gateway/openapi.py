"""The OpenAPI document of the gateway's HTTP, made from the records' and the answers' schemas.

    python -m sources.gateway.openapi > docs/openapi.json

Gateways serve it at /openapi.json.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic.json_schema import models_json_schema

from schemas.base import STATION_PATTERN, JsonObject
from schemas.reading import READING_EXAMPLE, Reading
from schemas.station import Station
from sources.adapters import adapters
from sources.gateway.answers import TakenAnswer, TurnedAway

#: Version of the document; the first digit is that of the paths.
_VERSION: Final = "1.0.0"
_SCHEMAS: Final = "#/components/schemas/"
_CSV_EXAMPLE: Final = "station,time,parameter,value,unit\nmy-roof,2026-08-21T10:00:00Z,pm25,12.5,ug/m3\n"
_ID: Final[JsonObject] = {"type": "string", "pattern": STATION_PATTERN}
_TURNED_AWAY: Final = {
    "400": "the query, a header or the form is wrong",
    "401": "no key, or a wrong one",
    "403": "the key is not for this station",
    "408": "the body did not come within half a minute",
    "413": "too large",
    "415": "a Content-Encoding, or of readings a Content-Type, that is not taken",
    "429": "too many requests; Retry-After says when to come again",
    "503": "Kafka is away; the same again after Retry-After",
}


def _parameter(
    name: str, about: str, schema: JsonObject, place: str = "query", required: bool = False
) -> JsonObject:
    return {"name": name, "in": place, "required": required, "description": about, "schema": schema}


_STATION: Final = _parameter("station", "the station, where what is sent does not name it", _ID)
_ZONE: Final = _parameter("zone", "IANA zone of times that state none", {"type": "string"})
_ONCE: Final = _parameter(
    "Idempotency-Key", "the same request under the same key is taken once, and answered alike for a day",
    {"type": "string", "maxLength": 255}, "header",
)  # fmt: skip


def _answers(bad: Mapping[str, str]) -> JsonObject:
    def json_of(name: str) -> JsonObject:
        return {"application/json": {"schema": {"$ref": _SCHEMAS + name}}}

    taken = {
        "200": {"description": "Kafka has confirmed what came of it", "content": json_of("TakenAnswer")},
        "422": {
            "description": "nothing of it could be used: why, and where its bytes lie; or another body came"
            " with this idempotency key before (`key_reused`)",
            "content": {
                "application/json": {
                    "schema": {"anyOf": [{"$ref": _SCHEMAS + name} for name in ("TakenAnswer", "TurnedAway")]}
                }
            },
        },
    }
    away = {
        status: {"description": why, "content": json_of("TurnedAway")}
        for status, why in {**_TURNED_AWAY, **bad}.items()
    }
    return dict(sorted((taken | away).items()))


def _post(
    summary: str, content: JsonObject, parameters: list[JsonObject], bad: Mapping[str, str] = {}
) -> JsonObject:
    return {
        "post": {
            "summary": summary,
            "parameters": parameters,
            "requestBody": {"required": True, "content": content},
            "responses": _answers(bad),
        }
    }


def _stations() -> JsonObject:
    """The paths for keys that manage stations."""
    record = {"application/json": {"schema": {"$ref": _SCHEMAS + "Station"}}}
    records = {"application/json": {"schema": {"type": "array", "items": {"$ref": _SCHEMAS + "Station"}}}}
    fields = {"application/json": {"schema": {"type": "object"}, "example": {"name": "My roof"}}}
    plain: JsonObject = {"application/json": {"schema": {"type": "object"}}}
    station = _parameter("station", "its id", _ID, "path", required=True)
    away = {"application/json": {"schema": {"$ref": _SCHEMAS + "TurnedAway"}}}

    def does(
        summary: str, good: str, content: JsonObject | None, *, sends: JsonObject | None = None,
        parameters: Sequence[JsonObject] = (), bad: Mapping[str, str] = {},
    ) -> JsonObject:  # fmt: skip
        answers: JsonObject = {
            good: {"description": "done"} | ({} if content is None else {"content": content})
        }
        said = _TURNED_AWAY | {"403": "the key manages no stations, or not this one"} | dict(bad)
        answers |= {status: {"description": why, "content": away} for status, why in said.items()}
        made: JsonObject = {"summary": summary, "parameters": list(parameters), "responses": answers}
        return made if sends is None else made | {"requestBody": {"content": sends}}

    unknown = {"404": "it has no record"}
    refused = {"422": "the record has a fault: a sentence"}
    since = _parameter(
        "from", "time of the data from which it counts (RFC 3339); now, if not given", {"type": "string"}
    )
    moved = _parameter(
        "moved", "it stands elsewhere, and begins anew: what was learned of it is forgotten",
        {"type": "boolean"},
    )  # fmt: skip
    return {
        "/v1/stations": {
            "get": does("The records of the key's stations, with their history", "200", records),
            "post": does(
                "Record a station", "201", record, sends=record, bad=refused | {"409": "it has a record"}
            ),
        },
        "/v1/stations/import": {
            "post": does(
                "Record all stations of a list (or a record a line), or, where one has a fault, none",
                "200", plain, sends=records, bad=refused,
            )
        },
        "/v1/stations/{station}": {
            "get": does("A record", "200", record, parameters=[station], bad=unknown),
            "patch": does(
                "Change some of its fields, from a time of the data on", "200", record, sends=fields,
                parameters=[station, since, moved], bad=unknown | refused,
            ),
            "delete": does("Retire it: its series stays", "204", None, parameters=[station], bad=unknown),
        },
        "/v1/stations/{station}/adopt": {
            "post": does(
                "Let a station in that waits: it gets a record of these fields, and what waits is published",
                "200", plain, sends=fields, parameters=[station],
                bad=unknown | refused | {"409": "it has a record"},
            )
        },
        "/v1/waiting": {
            "get": does(
                "Who waits to be let in", "200",
                {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
            )
        },
    }  # fmt: skip


def document() -> JsonObject:
    """The document, as plain data."""
    _, schemas = models_json_schema(
        [
            (Reading, "validation"),
            (Station, "validation"),
            (TakenAnswer, "serialization"),
            (TurnedAway, "serialization"),
        ],
        ref_template=_SCHEMAS + "{model}",
    )
    reading = {"$ref": _SCHEMAS + "Reading"}
    any_form = {"schema": {"type": "string", "format": "binary"}}
    picture_parameters = [
        _parameter("station", "its station; may be left out where the key is of one", _ID),
        _parameter("camera", "which of its cameras", _ID | {"default": "main"}),
        _parameter(
            "time",
            "when it was taken: RFC 3339 with a zone, or milliseconds since 1970; now, if not given",
            {"type": "string"},
        ),
        _ONCE,
    ]
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "station": _ID,
            "camera": _ID,
            "time": {"type": "string"},
        },
    }
    paths = {
        "/v1/observations": _post(
            "Readings, as JSON (one or a list) or CSV",
            {
                "application/json": {
                    "schema": {"oneOf": [reading, {"type": "array", "items": reading}]},
                    "example": json.loads(READING_EXAMPLE),
                },
                "text/csv": {"schema": {"type": "string"}, "example": _CSV_EXAMPLE},
            },
            [_STATION, _ZONE, _ONCE],
        ),
        "/v1/frames": _post(
            "A picture: as the body, or the file of a form",
            {
                "image/jpeg": any_form,
                "image/png": any_form,
                "image/webp": any_form,
                "multipart/form-data": {"schema": form},
            },
            picture_parameters,
        ),
        "/v1/ingest/{adapter}": _post(
            "A payload as a device, cloud or network server sends it",
            {"*/*": any_form},
            [
                _parameter(
                    "adapter",
                    "who knows it: `skyfuse adapters list`",
                    {"type": "string", "enum": sorted(adapters())},
                    "path",
                    required=True,
                ),
                _STATION,
                _ZONE,
                _ONCE,
            ],
            {"404": "there is no such adapter"},
        ),
    }
    paths |= _stations()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "skyfuse gateway",
            "version": _VERSION,
            "description": "Takes in what stations, clouds and cameras send. Stock firmwares and collectors"
            " find their own paths too (docs/ingest.md). A request is answered when Kafka has confirmed what"
            " came of it. Records of stations are for keys made with `--manages`. Bodies"
            " may be packed (Content-Encoding: gzip, deflate).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}, {"basic": []}, {"header": []}, {"signature": [], "signer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "the key is the password",
                },
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Skyfuse-Signature",
                    "description": "t=SECONDS,v1=HEX: HMAC-SHA-256 of `SECONDS.PATH?QUERY.BODY`; its secret"
                    " is the SHA-256 (hex) of the key, which itself is never sent",
                },
                "signer": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Skyfuse-Key",
                    "description": "name of the key",
                },
            },
        },
    }


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=1)
    print()
