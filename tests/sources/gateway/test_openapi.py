"""The OpenAPI document: checked in, and true of what the gateway answers."""

import asyncio
import gzip
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.reading import READING_EXAMPLE
from sources.adapters import adapters
from sources.gateway.answers import TakenAnswer, TurnedAway
from sources.gateway.openapi import document
from tests.sources.gateway.test_http import ALL, KEY, Client, over, picture

CHECKED_IN = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_document_is_checked_in() -> None:
    assert json.loads(CHECKED_IN.read_text()) == document(), (
        "docs/openapi.json is stale: python -m sources.gateway.openapi > docs/openapi.json"
    )


def test_every_reference_leads_somewhere_and_examples_fit() -> None:
    made = document()
    text = json.dumps(made)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(made["components"]["schemas"])

    def validator(name: str) -> Draft202012Validator:
        return Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": made["components"]}
        )

    validator("Reading").validate(json.loads(READING_EXAMPLE))
    validator("TakenAnswer").validate(json.loads(TakenAnswer(published=1, values=2).model_dump_json()))
    validator("TurnedAway").validate({"error": "no_key", "why": "none"})
    assert not validator("TurnedAway").is_valid({"error": "nonsense", "why": "none"})
    assert TurnedAway(error="no_key", why="none").error == "no_key"


def resolved(made: Any, schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": made["components"]})


READING = READING_EXAMPLE.encode()
ids = st.sampled_from(["my-roof", "other", "a b", "", "x" * 65, "ä", "*", "..", "a/b"])
#: Values of parameters by name: right ones, and what somebody might send instead.
PARAMETERS = {
    "station": ids,
    "camera": ids,
    "zone": st.sampled_from(["Europe/Rome", "Nowhere", "../../etc/passwd", "", "\0", "Z" * 300]),
    "time": st.sampled_from(
        ["2026-08-21T10:00:00Z", "1787306400000", "17", "9" * 400, "٣", "-1", "now", "1e9"]
    ),
    "Idempotency-Key": st.sampled_from(["a", "b", "", "k" * 256]),
    "adapter": st.sampled_from([*sorted(adapters()), "nobody", "%00", "a b", "ä"]),
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
bodies = st.one_of(
    st.just(READING),
    st.just(b"[" + READING + b"," + READING.replace(b"pm25", b"flux") + b"]"),
    st.just(b"station,time,parameter,value,unit\nmy-roof,2026-08-21T10:00:00Z,pm25,12.5,ug/m3\n"),
    st.just(picture()),
    st.just(b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + picture() + b"\r\n--x--"),
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda name, value: json.dumps(json.loads(READING) | {name: value}).encode(),
        st.sampled_from(["station", "observed_at", "values", "period", "stamp", "received_at", "more"]),
        json_values,
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes, dict[str, str]]:
    """The documented path, the path with what is filled in, body and headers."""
    path = draw(st.sampled_from(["/v1/observations", "/v1/frames", "/v1/ingest/{adapter}"]))
    headers, query, filled = {}, {}, path
    for parameter in document()["paths"][path]["post"]["parameters"]:
        name = parameter["name"]
        if not (parameter["required"] or draw(st.booleans())):
            continue
        value = draw(PARAMETERS[name])
        match parameter["in"]:
            case "path":
                filled = filled.replace(f"{{{name}}}", quote(value))
            case "query":
                query[name] = value
            case _:
                headers[name] = value
    body = draw(bodies)
    for name, values in {
        "Authorization": [f"Bearer {ALL}", f"Bearer {KEY}", "Bearer wrong", "Basic !", "Odd", f"Token {ALL}"],
        "Content-Type": ["application/json", "text/csv", "multipart/form-data; boundary=x", "image/png",
                         "multipart/form-data", "text/plain", "application/xml", "\t;;", "a" * 200],
        "Content-Encoding": ["gzip", "br", "deflate", "identity"],
        "X-Station": ["my-roof", "a b", ""],
        "X-Sensor": ["esp8266-1", ""],
        "X-Pin": ["1", "x"],
        "X-Skyfuse-Signature": ["t=1,v1=00", "x"],
    }.items():  # fmt: skip
        if draw(st.integers(0, 3)) == 0:
            headers[name] = draw(st.sampled_from(values))
    if draw(st.integers(0, 3)):
        headers.setdefault("Authorization", f"Bearer {ALL}")
    if headers.get("Content-Encoding") == "gzip" and draw(st.booleans()):
        body = gzip.compress(body)
    return path, filled + ("?" + urlencode(query) if query else ""), body, headers


def test_every_answer_is_one_that_the_document_has(tmp_path: Path) -> None:
    made = document()
    seen: set[int] = set()

    def ask_all(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

        right = {"Authorization": f"Bearer {ALL}"}

        @settings(max_examples=100, deadline=None)
        @given(requests())
        @example(("/v1/observations", "/v1/observations", READING, {}))
        @example(("/v1/observations", "/v1/observations", READING, right))
        @example(("/v1/observations", "/v1/observations", b"{", right))
        @example(("/v1/observations", "/v1/observations", b"{", right | {"Content-Type": "image/png"}))
        @example(("/v1/observations", "/v1/observations?zone=Nowhere", READING, right))
        @example(("/v1/ingest/{adapter}", "/v1/ingest/nobody", READING, right))
        @example(("/v1/frames", "/v1/frames?station=other", picture(), {"Authorization": f"Bearer {KEY}"}))
        def ask(request: tuple[str, str, bytes, dict[str, str]]) -> None:
            path, filled, body, headers = request
            connection.request("POST", filled, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            answers = made["paths"][path]["post"]["responses"]
            assert f"{answer.status}" in answers, content
            seen.add(answer.status)
            schema = answers[f"{answer.status}"]["content"]["application/json"]["schema"]
            resolved(made, schema).validate(json.loads(content))

        try:
            ask()
        finally:
            connection.close()

    async def work(client: Client) -> None:
        assert client.way.address is not None
        await asyncio.to_thread(ask_all, client.way.address[1])

    over(tmp_path, work, rate_per_key=1e6, rate_per_address=1e6)
    assert seen >= {200, 400, 401, 403, 404, 415, 422}  # the test reaches them
