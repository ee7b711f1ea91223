"""Stations managed over HTTP: the same records as on a terminal, for the key's stations alone."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from kafka import KafkaProducer

from schemas.station import Station
from settings.sections import HttpSettings, Settings
from sources.gateway.http_way import HttpWay
from sources.gateway.keys import KeyRing, StoredKey, changing_keys, digest_of, new_key
from sources.gateway.openapi import document
from sources.stations.registry import StationRegistry
from streams.admin import client_arguments, create_topics
from streams.topics import QUARANTINE, READINGS, STATIONS
from tests.harness import read_all
from tests.sources.gateway.desk import NOW, desk

MANAGER, SENDER, ADMIN, READER = new_key(), new_key(), new_key(), new_key()
#: Nobody listens there, so whatever answers has asked nobody.
DEAD = StationRegistry({"bootstrap_servers": "127.0.0.1:9", "api_version_auto_timeout_ms": 500})
Call = Callable[..., Awaitable[tuple[int, Any]]]


OPENAPI = document()


def in_the_document(method: str, path: str, status: int, said: object) -> None:
    """Whether docs/openapi.json has that answer to that request."""
    parts = path.partition("?")[0].split("/")
    if len(parts) > 3 and parts[3] != "import":
        parts[3] = "{station}"
    answers = OPENAPI["paths"]["/".join(parts)][method.lower()]["responses"]
    assert f"{status}" in answers, (method, path, status)
    content = answers[f"{status}"].get("content")
    if content is None:
        assert said is None
    else:
        schema = {**content["application/json"]["schema"], "components": OPENAPI["components"]}
        Draft202012Validator(schema).validate(said)


def over(tmp_path: Path, registry: StationRegistry, work: Callable[[Call], Awaitable[None]]) -> None:
    """Run `work` with what calls a gateway's HTTP."""
    file = tmp_path / "keys.toml"
    with changing_keys(file) as keys:
        keys[:] = [
            StoredKey(name="ops", stations=("roof-*",), sha256=digest_of(MANAGER), manages=True),
            StoredKey(name="roof", stations=("roof-1",), sha256=digest_of(SENDER)),
            StoredKey(name="open", stations=("roof-2",)),
            StoredKey(name="admin", scopes=("admin",), sha256=digest_of(ADMIN)),
            StoredKey(name="page", scopes=("read", "write"), sha256=digest_of(READER)),
        ]

    async def run() -> None:
        reception, _ = desk()
        way = HttpWay(
            HttpSettings(port=0),
            reception,
            reception,
            KeyRing(file),
            now=lambda: NOW / 1000,
            stations=registry,
        )
        serving = asyncio.create_task(way.serve())
        await asyncio.wait_for(way.listening.wait(), 60)
        assert way.address is not None
        url = f"http://127.0.0.1:{way.address[1]}"
        try:
            async with aiohttp.ClientSession() as session:

                async def call(
                    method: str, path: str, body: object = None, key: str | None = MANAGER
                ) -> tuple[int, Any]:
                    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
                    data = body if isinstance(body, bytes | None) else json.dumps(body)
                    async with session.request(method, url + path, data=data, headers=headers) as answer:
                        text = await answer.read()
                        said = json.loads(text) if text else None
                    if answer.status != 405:
                        in_the_document(method, path, answer.status, said)
                    return answer.status, said

                await work(call)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(run())


def test_only_a_key_that_manages_them_and_only_its_own_stations(tmp_path: Path) -> None:
    paths = [
        ("GET", "/v1/stations", None), ("POST", "/v1/stations", {"station": "roof-1"}),
        ("POST", "/v1/stations/import", [{"station": "roof-1"}]), ("GET", "/v1/stations/roof-1", None),
        ("PATCH", "/v1/stations/roof-1", {"name": "x"}), ("DELETE", "/v1/stations/roof-1", None),
        ("POST", "/v1/stations/roof-1/adopt", None), ("GET", "/v1/waiting", None),
    ]  # fmt: skip
    elsewhere = [
        ("POST", "/v1/stations", {"station": "other"}), ("GET", "/v1/stations/other", None),
        ("POST", "/v1/stations/import", [{"station": "roof-1"}, {"station": "other"}]),
        ("PATCH", "/v1/stations/other", {"name": "x"}), ("DELETE", "/v1/stations/other", None),
        ("POST", "/v1/stations/other/adopt", None),
    ]  # fmt: skip

    async def work(call: Call) -> None:
        for method, path, body in paths:
            for key in (SENDER, READER, None):
                status, said = await call(method, path, body, key)
                assert (status, said["error"]) == (403, "not_allowed"), (method, path)
            assert (await call(method, path, body, "sf_nobody"))[0] == 401
        for method, path, body in elsewhere:
            status, said = await call(method, path, body)
            assert (status, said["error"]) == (403, "not_allowed"), (method, path)
        for damaged in (b"\xff", b"[]", b"{", b"[" * 100_000):
            assert (await call("POST", "/v1/stations", damaged))[0] == 400
        assert (await call("GET", "/v1/stations/a%20b"))[0] == 400
        status, said = await call("PUT", "/v1/stations")
        assert (status, said["why"]) == (405, "this path takes GET and POST")

    over(tmp_path, DEAD, work)


def test_while_the_broker_is_away_it_is_to_be_sent_again(tmp_path: Path) -> None:
    async def work(call: Call) -> None:
        assert (await call("GET", "/v1/stations/anybody", key=ADMIN))[0] == 503, "it was allowed to ask"
        status, said = await call("GET", "/v1/stations")
        assert (status, said["error"]) == (503, "kafka_away")

    over(tmp_path, DEAD, work)


@pytest.mark.broker
def test_records_are_made_changed_and_let_in(tmp_path: Path, kafka_settings: Callable[[], Settings]) -> None:
    settings = kafka_settings()
    create_topics(settings)
    connection = client_arguments(settings.kafka)
    producer = KafkaProducer(**connection)
    waits = settings.kafka.names.of(QUARANTINE)
    for station in (b"roof-9", b"other"):
        producer.send(waits, key=station, value=b"1", headers=[("x-gateway-origin", b"10.0.0.7")])
    producer.close()

    async def work(call: Call) -> None:
        roof = {"station": "roof-1", "latitude": 45, "longitude": 9}
        assert await call("POST", "/v1/stations", roof) == (201, roof)
        status, said = await call("POST", "/v1/stations", roof)
        assert (status, said["error"]) == (409, "known_station")
        status, said = await call("POST", "/v1/stations", {"station": "roof-2", "timezone": "Mars"})
        assert (status, said["error"]) == (422, "refused")
        assert "no IANA time zone" in said["why"]
        path = "/v1/stations/roof-1?from=2026-08-01T00:00:00Z"
        status, said = await call("PATCH", path, {"standards": ["eaqi-2025"]})
        assert (status, said["valid_from"], len(said["earlier"])) == (200, "2026-08-01T00:00:00Z", 1)
        wrongs: list[dict[str, object]] = [
            {"station": "roof-3"}, {"earlier": []}, {"colour": 1}, {"latitude": 46}
        ]  # fmt: skip
        for wrong in wrongs:
            assert (await call("PATCH", "/v1/stations/roof-1", wrong))[0] == 422, wrong
        assert (await call("PATCH", "/v1/stations/roof-1?moved=true", {"latitude": 46}))[0] == 200
        assert (await call("GET", "/v1/stations/roof-5"))[0] == 404
        status, every = await call("GET", "/v1/stations")
        assert [Station.model_validate_json(json.dumps(one)).station for one in every] == ["roof-1"]
        assert await call("POST", "/v1/stations/import", every) == (200, {"recorded": 0, "same": 1})
        bad = [{"station": "roof-7"}, {"station": "roof-8", "latitude": 99}]
        status, said = await call("POST", "/v1/stations/import", bad)
        assert (status, "record 2" in said["why"]) == (422, True)
        _, waiting = await call("GET", "/v1/waiting")
        assert [(one["station"], one["readings"], one["origins"]) for one in waiting] == [
            ("roof-9", 1, ["10.0.0.7"])
        ]
        assert (await call("POST", "/v1/stations/roof-9/adopt", {"name": "Nine"}))[1]["published"] == 1
        assert (await call("POST", "/v1/stations/roof-none/adopt", {}))[0] == 404
        assert (await call("DELETE", "/v1/stations/roof-none"))[0] == 404
        status, said = await call("POST", "/v1/stations/import", [roof, roof])
        assert (status, "roof-1 has a record above" in said["why"]) == (422, True)
        assert (await call("DELETE", "/v1/stations/roof-1"))[0] == 204
        assert (await call("GET", "/v1/stations/roof-1"))[0] == 404

    over(tmp_path, StationRegistry(connection, settings.kafka.prefix), work)
    assert [record.key for record in read_all(settings, READINGS)] == [b"roof-9"]
    assert {record.key for record in read_all(settings, STATIONS)} == {b"roof-1", b"roof-9"}
