"""The way in by HTTP, over a socket: who may send what, stock firmwares' paths, and what is turned away."""

import asyncio
import base64
import gc
import gzip
import io
import json
import logging
import socket
import time
import weakref
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from schemas.reading import READING_EXAMPLE
from settings.sections import HttpSettings
from sources.codecs.shelf import CodecShelf
from sources.gateway.http_way import HttpWay, _Connection
from sources.gateway.keys import KeyRing, StoredKey, changing_keys, digest_of, new_key, signature_of
from sources.gateway.reception import Reception
from sources.gateway.spool import PatientReception
from tests.busy import stretched
from tests.sources.gateway.desk import NOW, Log, desk

GOLDEN = Path(__file__).parents[1] / "adapters" / "golden"
KEY = new_key()
ALL = new_key()
SIGNING = new_key()
AIRGRADIENT = "/sensors/airgradient:84fce602549c/measures"
POST = b'{"wifi":-54,"pm02":7,"atmp":24.81,"rhum":40.3}'
AIRROHR = json.dumps(
    {
        "esp8266id": "12345",
        "software_version": "NRZ-2020-133",
        "sensordatavalues": [
            {"value_type": "SDS_P1", "value": "12.30"},
            {"value_type": "SDS_P2", "value": "7.10"},
            {"value_type": "BME280_pressure", "value": "98123.4"},
        ],
    }
).encode()
READING = READING_EXAMPLE.encode()


class Client:
    """A client, and what the gateway's broker was given."""

    def __init__(self, session: aiohttp.ClientSession, log: Log, way: HttpWay, reception: Reception) -> None:
        self.session = session
        self.log = log
        self.way = way
        self.reception = reception
        assert way.address is not None
        self.url = f"http://127.0.0.1:{way.address[1]}"

    async def post(
        self, path: str, data: Any = READING, key: str | None = ALL, **more: Any
    ) -> tuple[int, Any, Any]:
        headers = dict(more.pop("headers", {}))
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {key}")
        async with self.session.post(self.url + path, data=data, headers=headers, **more) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if body else None, answer.headers


def over(
    tmp_path: Path,
    work: Callable[[Client], Awaitable[None]],
    patient: bool = False,
    codec_of: CodecShelf | None = None,
    without_key: tuple[str, ...] = ("airgradient-84fce602549c", "esp8266-12345"),
    **settings: Any,
) -> None:
    """Run `work` against a gateway's HTTP."""
    file = tmp_path / "keys.toml"
    with changing_keys(file) as keys:
        keys[:] = [
            StoredKey(name="roof", stations=("my-roof",), sha256=digest_of(KEY)),
            StoredKey(name="fleet", stations=("*",), sha256=digest_of(ALL)),
            StoredKey(name="signer", stations=("my-*",), sha256=digest_of(SIGNING), signs=True),
            StoredKey(name="open", stations=without_key),
        ]

    async def run() -> None:
        reception, log = desk(codec_of=codec_of)
        made = HttpSettings(**{"port": 0, "rate_per_key": 1000, "rate_per_address": 1000} | settings)
        spool = PatientReception(reception, tmp_path / "spool.sqlite", 1024 * 1024) if patient else None
        way = HttpWay(made, reception, spool or reception, KeyRing(file), now=lambda: NOW / 1000)
        serving = asyncio.create_task(way.serve())
        emptying = asyncio.create_task(spool.serve()) if spool else None
        await asyncio.wait_for(way.listening.wait(), 60)
        try:
            async with aiohttp.ClientSession(auto_decompress=True) as session:
                await work(Client(session, log, way, reception))
        finally:
            for task in (serving, emptying):
                if task is not None:
                    task.cancel()
            await asyncio.gather(serving, *([emptying] if emptying else []), return_exceptions=True)
            if spool:
                spool.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "without_key", [("airgradient-84fce602549c",), ("esp8266-12345", "airgradient-84fce602549c")]
)
def test_what_is_let_in_without_a_key_is_what_names_itself(
    tmp_path: Path, without_key: tuple[str, ...]
) -> None:
    async def work(client: Client) -> None:
        unnamed = json.dumps({key: value for key, value in json.loads(READING).items() if key != "station"})
        one = json.dumps({"sensordatavalues": [{"value_type": "P2", "value": "7.1"}]})
        for path, data, headers in (
            ("/sensors/airgradient:ffffffffffff/measures", POST, {}),
            (AIRGRADIENT.replace("84fce602549c", "84fce602549d"), POST, {}),
            ("/v1/ingest/airgradient", b'{"serialno": "ffffffffffff", "pm02": 7}', {}),
            ("/v1/ingest/airgradient", POST, {}),
            ("/v1/push-sensor-data/", one, {"X-Sensor": "esp8266-999", "X-Pin": "1"}),
            ("/data.php", AIRROHR.replace(b"12345", b"999"), {}),
            ("/v1/observations", READING, {}),
            ("/v1/observations", unnamed, {}),
            ("/v1/observations?station=my-roof", unnamed, {}),
            ("/write", b"air,host=x pm25=7", {}),
        ):
            status, answer, _ = await client.post(path, data, key=None, headers=headers)
            assert (status, answer["error"]) == (403, "not_allowed"), (path, answer)
        status, answer, _ = await client.post("/v1/frames", b"x", key=None)
        assert status == 400
        assert not client.log.records
        for path, data in (
            (AIRGRADIENT, POST), ("/v1/ingest/airgradient", b'{"serialno": "84FCE602549C", "pm02": 7}'),
            ("/v1/observations?station=airgradient-84fce602549c", unnamed),
        ):  # fmt: skip
            status, answer, _ = await client.post(path, data, key=None)
            assert (status, answer["published"]) == (200, 1), (path, answer)
        assert {one.key for one in client.log.readings} == {b"airgradient-84fce602549c"}

    over(tmp_path, work, without_key=without_key)


def test_readings_as_json_and_csv(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        status, body, _ = await client.post("/v1/observations")
        assert (status, body) == (200, {"published": 1, "values": 1, "stations": ["my-roof"]})
        rows = "station,time,parameter,value,unit\nmy-roof,2026-08-21T09:59:00Z,pm10,9,ug/m3\n"
        for kind in ("text/csv", "text/plain"):
            status, body, _ = await client.post("/v1/observations", rows, headers={"Content-Type": kind})
            assert (status, body["published"]) == (200, 1)
        several = f"[{READING_EXAMPLE}, {READING_EXAMPLE.replace('10:00', '09:58')}]"
        status, body, _ = await client.post(
            "/v1/observations", several, headers={"Content-Type": "application/json"}
        )
        assert (status, body["published"]) == (200, 2)
        assert {record.key for record in client.log.readings} == {b"my-roof"}
        assert len(client.log.readings) == 5

    over(tmp_path, work)


def test_what_cannot_be_used_is_told_with_its_dead_letter(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        status, body, _ = await client.post(
            "/v1/observations", b"{", headers={"Content-Type": "application/json"}
        )
        assert status == 422
        assert body["refused"][0]["why"]
        [(story, value)] = client.log.letters
        assert (body["dead_letter"], value) == (story.id, b"{")
        mixed = READING_EXAMPLE.replace("]}", ', {"parameter": "pm10", "value": 1, "unit": "furlong"}]}')
        status, body, _ = await client.post("/v1/observations", mixed)
        assert (status, body["published"]) == (200, 1)
        assert "furlong" in body["refused"][0]["why"]

    over(tmp_path, work)


def test_stock_airgradient_and_airrohr_need_no_change(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        status, body, _ = await client.post(AIRGRADIENT, POST, key=None)
        assert (status, body["stations"]) == (200, ["airgradient-84fce602549c"])
        basic = base64.b64encode(f"station:{ALL}".encode()).decode()
        status, body, _ = await client.post(
            "/data.php", AIRROHR, key=None, headers={"Authorization": f"Basic {basic}"}
        )
        assert (status, body["stations"]) == (200, ["esp8266-12345"])
        status, body, _ = await client.post("/v1/ingest/sensor-community", AIRROHR, key=None)
        assert status == 200
        one = json.dumps({"sensordatavalues": [{"value_type": "P1", "value": "12.30"}]}).encode()
        sensor = {"X-Sensor": "esp8266-12345", "X-PIN": "1"}
        status, body, _ = await client.post("/v1/push-sensor-data/", one, key=None, headers=sensor)
        assert (status, body["stations"]) == (200, ["esp8266-12345"])
        values = [json.loads(record.value or b"")["values"] for record in client.log.readings]
        assert values[1] == values[2]
        assert values[1][0] == {"parameter": "pm10", "value": 12.3, "unit": "ug/m3", "sensor": "sds"}
        assert values[3][0]["sensor"] == "pm"
        async with client.session.get(client.url + "/sensors/airgradient:84fce602549c/one/config") as answer:
            assert answer.status == 404

    over(tmp_path, work)


def test_webhooks_and_collectors(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "adapters" / "golden"

    async def work(client: Client) -> None:
        for adapter, case, query in (
            ("chirpstack", "plain-names.json", "?event=up"),
            ("the-things-stack", "", ""),
        ):
            file = golden / adapter / case if case else sorted((golden / adapter).glob("*.json"))[0]
            status, body, _ = await client.post(f"/v1/ingest/{adapter}{query}", file.read_bytes())
            assert status == 200, body
        again = (golden / "chirpstack" / "plain-names.json").read_bytes()
        status, body, _ = await client.post("/v1/ingest/chirpstack?event=up", again)
        assert (status, body["duplicate"]) == (200, True)
        line = b"air,station=my-roof pm25=7.5 1787306340000000000"
        status, body, _ = await client.post(
            "/api/v2/write?org=x&bucket=y", line, key=None, headers={"Authorization": f"Token {ALL}"}
        )
        assert (status, body) == (204, None)
        status, body, _ = await client.post("/write", b"air,station=my-roof pm25=abc")
        assert (status, body["code"]) == (422, "unprocessable entity")
        telemetry = b'{"ts": 1787306340000, "values": {"pm25": 7}}'
        status, body, _ = await client.post(f"/api/v1/{KEY}/telemetry", telemetry, key=None)
        assert (status, body["stations"]) == (200, ["my-roof"])

    over(tmp_path, work)


def test_a_key_is_for_its_stations(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        other = READING_EXAMPLE.replace("my-roof", "your-roof")
        status, body, _ = await client.post("/v1/observations", other, key=KEY)
        assert (status, body["refused"][0]["code"]) == (422, "not_yours")
        status, body, _ = await client.post("/v1/ingest/airgradient?station=your-roof", POST, key=KEY)
        assert (status, body["error"]) == (403, "not_allowed")
        status, body, _ = await client.post("/v1/frames?station=your-roof", picture(), key=KEY)
        assert (status, body["error"]) == (403, "not_allowed")
        status, _, _ = await client.post("/v1/ingest/airgradient", POST, key=KEY)  # of its only station
        assert status == 200
        assert [record.key for record in client.log.readings] == [b"my-roof"]
        assert not client.log.frames

    over(tmp_path, work)


def test_without_a_key_only_what_was_let_in(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        other = "/sensors/airgradient:000000000000/measures"
        for path, body in (
            (other, POST),
            ("/v1/observations", READING),
            (other, b"junk"),
            ("/data.php", b"{}"),
        ):
            status, answer, _ = await client.post(path, body, key=None)
            assert (status, answer["error"]) == (403, "not_allowed")
        status, answer, headers = await client.post("/v1/observations", key="wrong")
        assert (status, answer["error"]) == (401, "no_key")
        assert headers["WWW-Authenticate"].startswith("Bearer")
        assert not client.log.records  # a stranger's junk is kept nowhere
        status, _, _ = await client.post(AIRGRADIENT, b"junk", key=None)
        assert status == 422
        assert len(client.log.letters) == 1

    over(tmp_path, work)


def test_a_signed_request_shows_no_key(tmp_path: Path) -> None:
    digest = digest_of(SIGNING)
    now = NOW // 1000

    async def work(client: Client) -> None:
        async def send(at: int, path: str, body: bytes, to: str | None = None) -> int:
            signed = {"X-Skyfuse-Key": "signer", "X-Skyfuse-Signature": signature_of(digest, at, path, body)}
            status, _, _ = await client.post(to or path, READING, key=None, headers=signed)
            return status

        assert await send(now, "/v1/observations", READING) == 200
        assert await send(now - 301, "/v1/observations", READING) == 401
        assert await send(now + 301, "/v1/observations", READING) == 401
        assert await send(now, "/v1/observations", READING + b" ") == 401
        assert await send(now, "/v1/observations", READING, to="/v1/observations?station=my-b") == 401
        status, _, _ = await client.post("/v1/observations", key=SIGNING)
        assert status == 401  # a key that signs is not taken when it is shown
        status, _, _ = await client.post("/v1/observations", key=None, headers={"X-Skyfuse-Signature": "t=1"})
        assert status == 401
        assert len(client.log.readings) == 1

    over(tmp_path, work)


def picture(size: tuple[int, int] = (320, 240)) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def test_pictures_as_the_body_and_in_a_form(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        image = picture() + b"\r\n--x\r\n"  # what looks like a form's end, inside the file
        status, body, _ = await client.post(
            "/v1/frames?camera=north&time=2026-08-21T09:59:30Z", picture(), key=KEY,
            headers={"Content-Type": "image/jpeg"},
        )  # fmt: skip
        assert (status, body) == (200, {"published": 1, "values": 0, "stations": ["my-roof"]})
        form = aiohttp.FormData()
        form.add_field("station", "my-roof")
        form.add_field("camera", "south")
        form.add_field("time", str(NOW - 5))
        form.add_field("file", image[:-6], filename="a.jpg", content_type="image/jpeg")
        status, body, _ = await client.post("/v1/frames", form, key=ALL)
        assert status == 200, body
        told = [dict(record.headers) for record in client.log.frames]
        assert [one["ce_camera"] for one in told] == [b"north", b"south"]
        assert told[0]["ce_time"] == b"2026-08-21T09:59:30Z"
        assert client.log.frames[0].value == client.log.frames[1].value == picture()
        for query, sent, words in (
            ("?station=a b", picture(), "station id"),
            ("?camera=" + "x" * 65 + "&station=my-roof", picture(), "camera id"),
            ("?station=my-roof&time=yesterday", picture(), "RFC 3339"),
            ("?station=my-roof&captured_at=2026-08-21T09:59:30Z", picture(), "no 'captured_at' here"),
            ("?station=my-roof&station=other", picture(), "twice"),
            ("?station=my-roof&time=2026-08-21T09:59:30", picture(), "zone"),
            ("", picture(), "which station"),
        ):
            status, body, _ = await client.post(f"/v1/frames{query}", sent)
            assert (status, body["error"]) == (400, "bad_request")
            assert words in body["why"]
        status, body, _ = await client.post("/v1/frames?station=my-roof", b"GIF89a")
        assert (status, body["refused"][0]["code"]) == (422, "unsupported_format")
        for raw in (
            b"",
            b"--x\r\n\r\n",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--',
        ):
            status, body, _ = await client.post(
                "/v1/frames", raw, headers={"Content-Type": "multipart/form-data; boundary=x"}
            )
            assert status in (400, 422), raw

    over(tmp_path, work)


def test_bodies_are_bounded_packed_and_unpacked(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        gz = {"Content-Encoding": "gzip"}
        status, _, _ = await client.post("/v1/observations", gzip.compress(READING), headers=gz)
        assert status == 200
        two = gzip.compress(READING[:10]) + gzip.compress(READING[10:])
        status, _, _ = await client.post("/v1/observations", two, headers=gz)
        assert status == 200
        status, _, _ = await client.post(
            "/v1/observations", zlib.compress(READING), headers={"Content-Encoding": "deflate"}
        )
        assert status == 200
        bomb = gzip.compress(b" " * 50_000_000)
        many = gzip.compress(b"")  # nothing in it, two hundred times: each would be unpacked from a copy
        status, answer, _ = await client.post("/v1/observations", many * 200, headers=gz)
        assert (status, answer["error"]) == (400, "bad_request")
        began = time.monotonic()
        for body, headers in (
            (b" " * 5000, {}), (gzip.compress(b" " * 5000), gz), (bomb[:4000], gz),
        ):  # fmt: skip
            status, answer, _ = await client.post("/v1/observations", body, headers=headers)
            assert (status, answer["error"]) in ((413, "too_large"), (400, "bad_request"))
        took = time.monotonic() - began
        assert took < stretched(2.0)

        async def chunks() -> Any:
            for _ in range(100):
                yield b" " * 1000

        status, answer, _ = await client.post("/v1/observations", chunks())  # says no length
        assert (status, answer["error"]) == (413, "too_large")
        for body, encoding, expected in (
            (READING, "gzip", 400), (gzip.compress(READING)[:-9], "gzip", 400), (READING, "br", 415),
        ):  # fmt: skip
            status, answer, _ = await client.post(
                "/v1/observations", body, headers={"Content-Encoding": encoding}
            )
            assert status == expected, answer
        assert len(client.log.readings) == 3
        assert not client.log.letters

    over(tmp_path, work, max_body=4096)


def test_who_comes_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        answers = [await client.post("/v1/observations", key=KEY) for _ in range(45)]
        assert [status for status, _, _ in answers].count(200) >= 40
        status, body, headers = answers[-1]
        assert (status, body["error"]) == (429, "too_many")
        assert int(headers["Retry-After"]) >= 1
        status, _, _ = await client.post("/v1/observations", key=ALL)
        assert status == 200  # another key

    over(tmp_path, work, rate_per_key=2, rate_per_address=1000)

    async def from_one_address(client: Client) -> None:
        answers = [await client.post("/v1/observations", key="wrong") for _ in range(45)]
        assert answers[-1][1]["error"] == "too_many"
        # A proxy's word counts only where there is one.
        status, _, _ = await client.post("/v1/observations", headers={"X-Forwarded-For": "192.0.2.7"})
        assert status == 429

    over(tmp_path, from_one_address, rate_per_address=2)

    async def behind_a_proxy(client: Client) -> None:
        for number in range(60):
            forged = {"X-Forwarded-For": f"10.0.0.{number}, 192.0.2.7"}
            status, _, _ = await client.post("/v1/observations", headers=forged)
        assert status == 429
        status, _, _ = await client.post("/v1/observations", headers={"X-Forwarded-For": "192.0.2.8"})
        assert status == 200

    over(tmp_path, behind_a_proxy, rate_per_address=2, behind_proxy=True)


def test_who_knows_only_the_name_of_a_signing_key_does_not_use_up_its_rate(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        at = NOW // 1000
        wrong = {"X-Skyfuse-Key": "signer", "X-Skyfuse-Signature": f"t={at},v1={'0' * 64}"}
        for _ in range(60):
            status, _, _ = await client.post("/v1/observations", key=None, headers=wrong)
            assert status == 401
        right = signature_of(digest_of(SIGNING), at, "/v1/observations", READING)
        signed = {"X-Skyfuse-Key": "signer", "X-Skyfuse-Signature": right}
        answers = [await client.post("/v1/observations", key=None, headers=signed) for _ in range(45)]
        assert answers[0][0] == 200
        assert answers[-1][0] == 429  # its holder's own requests count

    over(tmp_path, work, rate_per_key=2)


@pytest.mark.parametrize(
    ("adapter", "key", "station"),
    [("chirpstack", "24e124*", "park"), ("the-things-stack", "AM319*", "eui-24e124710c123456")],
)
def test_raw_uplinks_are_decoded_by_the_vendor_s_codec(
    tmp_path: Path, adapter: str, key: str, station: str
) -> None:
    golden = GOLDEN / adapter
    shelf = CodecShelf({key: golden / "codec.js"})

    async def work(client: Client) -> None:
        body = (golden / "codec.json").read_bytes()
        status, answer, _ = await client.post(f"/v1/ingest/{adapter}", body)
        assert (status, answer["stations"]) == (200, [station]), answer
        status, answer, _ = await client.post(f"/v1/ingest/{adapter}", body)  # the server tries again
        assert (status, answer) == (200, {"published": 0, "values": 0, "duplicate": True})
        [record] = client.log.readings
        [expected] = json.loads((golden / "codec.expected").read_text())["readings"]
        told = {
            f"main value: {one['parameter']} = {one['value']:g} {one['unit']}"
            for one in json.loads(record.value or b"")["values"]
        }
        assert told == set(expected["values"])

    try:
        over(tmp_path, work, codec_of=shelf)
    finally:
        shelf.process.close()


def test_what_was_refused_for_want_of_a_codec_may_come_again(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        body = (GOLDEN / "chirpstack" / "codec.json").read_bytes()
        for _ in range(2):
            status, answer, _ = await client.post("/v1/ingest/chirpstack", body)
            assert status == 422
            assert "duplicate" not in answer

    over(tmp_path, work)


def test_the_same_request_under_one_idempotency_key_is_taken_once(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        once = {"Idempotency-Key": "a1"}
        answers = await asyncio.gather(
            *(client.post("/v1/ingest/airgradient", POST, key=KEY, headers=once) for _ in range(5))
        )
        assert {status for status, _, _ in answers} == {200}
        assert len({json.dumps(body) for _, body, _ in answers}) == 1
        assert sum("Idempotent-Replay" in headers for _, _, headers in answers) == 4
        assert len(client.log.readings) == 1
        status, body, _ = await client.post("/v1/ingest/airgradient", POST + b" ", key=KEY, headers=once)
        assert (status, body["error"]) == (422, "key_reused")
        for station in ("s", "t"):
            address = f"/v1/ingest/airgradient?station={station}"
            status, _, headers = await client.post(address, POST, key=ALL, headers=once)
            assert status == 200  # another sender's key is another, and so is that of another address
            assert "Idempotent-Replay" not in headers
        client.log.there = False
        later = {"Idempotency-Key": "a2"}
        status, _, _ = await client.post("/v1/ingest/airgradient", POST, key=KEY, headers=later)
        assert status == 503
        client.log.there = True
        status, _, _ = await client.post("/v1/ingest/airgradient", POST, key=KEY, headers=later)
        assert status == 200  # what was not taken may come again
        assert len(client.log.readings) == 4

    over(tmp_path, work)


def test_while_kafka_is_away_who_tries_again_is_asked_to(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        client.log.there = False
        for path, body in (("/v1/observations", READING), ("/v1/frames?station=my-roof", picture())):
            status, answer, headers = await client.post(path, body)
            assert (status, answer["error"]) == (503, "kafka_away")
            assert int(headers["Retry-After"]) > 0
        status, answer, _ = await client.post(AIRGRADIENT, POST, key=None)
        assert (status, answer) == (200, {"published": 0, "values": 0, "spooled": True})
        status, answer, _ = await client.post("/data.php", AIRROHR, key=None)
        assert status == 503  # who it is of is known only once it is translated
        client.log.there = True
        deadline = time.monotonic() + 60
        while not client.log.readings:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert client.log.readings[0].key == b"airgradient-84fce602549c"
        assert json.loads(client.log.readings[0].value or b"")["received_at"] == NOW

    over(tmp_path, work, patient=True)


def test_clients_beyond_the_bound_are_closed_and_silent_ones_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sources.gateway.http_way._SILENT_S", 0.3)

    async def work(client: Client) -> None:
        assert client.way.address is not None
        loop = asyncio.get_running_loop()
        silent = [await asyncio.open_connection(*client.way.address) for _ in range(5)]
        silent[0][1].write(b"POST /v1/observations HTTP/1.1\r\nX-Slow:")  # a head that never ends
        closed = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in silent)), timeout=60)
        assert closed == [b""] * 5
        status, _, _ = await client.post("/v1/observations")
        assert status == 200
        for _, writer in silent:
            writer.close()
        assert loop is not None

    over(tmp_path, work, max_clients=3)


def test_connections_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        assert client.way.address is not None
        made: list[weakref.ref[_Connection]] = []
        known = _Connection.connection_made

        def noted(self: _Connection, transport: asyncio.BaseTransport) -> None:
            made.append(weakref.ref(self))
            known(self, transport)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_Connection, "connection_made", noted)
            for _ in range(30):
                _, writer = await asyncio.open_connection(*client.way.address)
                writer.close()
                await writer.wait_closed()
            async with asyncio.timeout(15):  # less than a connection may be silent
                while len(made) < 30 or any(one() is not None for one in made):
                    gc.collect()
                    await asyncio.sleep(0.05)

    over(tmp_path, work)


def test_what_is_no_text_is_refused_whichever_header_it_stands_in(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        assert client.way.address is not None
        for header in (
            b"Authorization: Bearer \xff\xfe", b"X-Api-Key: \xff", b"X-Station: \xff", b"X-Sensor: \xff",
            b"Idempotency-Key: \xff", b"X-Skyfuse-Signature: t=1,v1=\xff",
        ):  # fmt: skip
            reader, writer = await asyncio.open_connection(*client.way.address)
            writer.write(
                b"POST /v1/observations HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n"
                b"%s\r\n\r\n{}" % header
            )
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 400"), (header, answer)
            assert b"is not UTF-8" in answer

    over(tmp_path, work)


def test_no_key_is_logged_or_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def work(client: Client) -> None:
        bad = b'{"ts": 1787306340000, "values": {"flux": 7, "pm25": "x"}}'
        await client.post(f"/api/v1/{KEY}/telemetry", bad, key=None)
        await client.post("/v1/observations", b"{", key=KEY)
        basic = base64.b64encode(f"user:{KEY}".encode()).decode()
        await client.post("/data.php", b"{", key=None, headers={"Authorization": f"Basic {basic}"})
        await client.post("/api/v1/wrong-" + KEY + "/telemetry", bad, key=None)
        assert len(client.log.letters) == 3
        for record in client.log.records:
            assert KEY.encode() not in (record.value or b"")
            assert all(KEY.encode() not in (value or b"") for _, value in record.headers)

    over(tmp_path, work)
    assert KEY not in caplog.text
    assert KEY not in (tmp_path / "keys.toml").read_text()


def test_other_paths_and_methods_are_told(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        for method, path, expected in (
            ("GET", "/v1/observations", 405), ("GET", "/", 404), ("POST", "/v2/observations", 404),
            ("POST", "/v1/ingest/nobody", 404), ("PUT", "/v1/frames", 405),
        ):  # fmt: skip
            async with client.session.request(
                method, client.url + path, headers={"Authorization": f"Bearer {ALL}"}
            ) as answer:
                assert answer.status == expected, path
                assert (await answer.json())["why"]
        async with client.session.get(client.url + "/openapi.json") as answer:
            document = await answer.json()
        assert "/v1/observations" in document["paths"]

    over(tmp_path, work)


def test_a_port_is_free_again_at_once(tmp_path: Path) -> None:
    ports = []

    async def work(client: Client) -> None:
        await client.post("/v1/observations")
        assert client.way.address is not None
        ports.append(client.way.address[1])

    over(tmp_path, work)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", ports[0]))
