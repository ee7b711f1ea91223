"""The API, asked over a real connection: what it answers, to whom, and what every answer carries."""

import contextlib
import csv
import gzip
import io
import json
import logging
import socket
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import urllib3
from PIL import Image

from alerting.explained import PendingAlert
from schemas.annotation import Undone
from schemas.base import format_time, from_ms
from schemas.forecast import Forecast, IndexForecast, PollutantForecast
from schemas.frame import FrameHeader
from schemas.parameters import POLLUTANTS
from schemas.station import Camera, Sensor, Station
from sinks.store import Store
from sources.annotating import new_annotation
from sources.gateway.keys import SCOPES, changing_keys
from streams.errors import TopicReadError
from tests.cli.test_network import learned, records
from tests.engines import until
from tests.exchange.test_cap_and_webhook import EVENTS
from tests.harness import picture
from tests.network.cities import end
from tests.samples import T0, estimate, imputed, index, measured
from tests.web.serving import Served, served
from web import composing, pages
from web.composing import SHADES, shade
from web.documents import WorkerHealth
from web.live import LiveState
from web.neighbours import Neighbours
from web.workers import Workers

NOW = T0 + 3600.0 + 90
STATIONS = (
    Station(
        station="a", name="Alpha", latitude=1.5, longitude=-2.5,
        sensors=(Sensor(sensor="x", parameters=("pm25",)),),
    ),
    Station(station="b", cameras=(Camera(camera="main"),)),
    Station(station="c"),
)  # fmt: skip


def history(station: str):
    return [
        estimate(
            station, T0 + 60 * n, 1,
            {"pm25": imputed(30.0, 20.0, 40.0) if n % 3 == 0 else measured(10.0 + n)}, (index(50 + n),),
        )
        for n in range(1, 61)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    with served(folder, [*history("a"), *history("b")], STATIONS, now=NOW) as made:
        made.tell(EVENTS[0])
        yield made


READ = (
    "/api/v1/site", "/api/v1/stations", "/api/v1/stations/a", "/api/v1/latest", "/api/v1/latest/a",
    "/api/v1/explain?station=a", "/api/v1/series?station=a", "/api/v1/series.csv?station=a", "/api/v1/alerts",
    "/api/v1/alerts/explain?station=a", "/api/v1/alerts/pending", "/api/v1/notable", "/api/v1/quality",
    "/api/v1/health", "/api/v1/forecast?station=a", "/api/v1/listening?station=a",
    "/api/v1/notes?station=a", "/badge/a.svg",
)  # fmt: skip
#: What each operation takes. Whoever adds one has to say so here.
TABLE = {("GET", path): "read" for path in READ} | {
    ("GET", "/api/v1/dead-letters"): "admin",
    ("GET", "/api/v1/pictures?station=a"): "frames",
    ("GET", "/api/v1/pictures/a/main"): "frames",
    ("GET", "/api/v1/pictures/a/main/heat"): "frames",
    ("GET", "/api/v1/stream"): "read",
    ("GET", "/api/v1/records"): "admin",
    ("GET", "/api/v1/records/a"): "admin",
    ("GET", "/api/v1/waiting"): "admin",
    ("POST", "/api/v1/records"): "admin",
    ("PATCH", "/api/v1/records/a"): "admin",
    ("DELETE", "/api/v1/records/a"): "admin",
    ("POST", "/api/v1/records/a/adopt"): "admin",
    ("POST", "/api/v1/notes"): "write",
}
#: No key is asked for these: they have nothing of the network's in them.
OPEN = (
    "/",
    "/alerts",
    "/stations/a",
    "/quality",
    "/pipeline",
    "/manage",
    "/api/v1/openapi.json",
    "/static/icon.svg",
    "/widget/a",
)


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    with served(tmp_path_factory.mktemp("closed"), history("a"), STATIONS, now=NOW, anonymous=()) as made:
        made.parts.follower.away_since = NOW  # there is no broker
        yield made, {scope: made.key(scope) for scope in SCOPES}


def status(server: Served, path: str, method: str = "GET", **headers: str) -> int:
    """The status of an answer, without waiting for the end of a stream."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.settings.web.port), 5)) as line:
        named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{named}\r\n".encode())
        return int(line.recv(4096).split()[1])


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_no_scope_does_what_is_another_s(closed, method, path):
    server, keys = closed
    until(lambda: status(server, "/api/v1/health", Authorization=f"Bearer {keys['read']}") == 200, "the keys")
    assert status(server, path, method) == 401
    assert status(server, path, method, Authorization="Bearer sf_wrong") == 401
    assert status(server, path, method, Authorization="Basic abc") == 401
    for scope, key in keys.items():
        for header in ({"Authorization": f"Bearer {key}"}, {"X_Api_Key": key}):
            found = status(server, path, method, **header)
            if scope == TABLE[method, path]:
                # Of those that change something nothing is sent here but the method.
                assert found in ((200, 404, 503) if method == "GET" else (415, 503)), (scope, found)
            else:
                assert found == 403, (scope, found)


@pytest.mark.parametrize("path", OPEN)
def test_the_page_itself_takes_no_key(closed, path):
    server, _ = closed
    assert status(server, path) == 200


def test_the_table_has_every_path(shown):
    forms = {
        "/latest/a": "/latest/{station}",
        "/stations/a": "/stations/{station}",
        "/records/a": "/records/{station}",
        "/a/main": "/{station}/{camera}",
    }
    named = set()
    for method, path in TABLE:
        for one, form in forms.items():
            path = path.replace(one, form)
        named.add((method.lower(), path.partition("?")[0]))
    paths = shown.json("/api/v1/openapi.json")["paths"]
    documented = {(method, path) for path, operations in paths.items() for method in operations}
    assert documented == {one for one in named if "/api/" in one[1]}


def test_a_revoked_key_is_nobody_s(closed):
    server, keys = closed
    assert status(server, "/api/v1/health", X_Api_Key=keys["read"]) == 200
    with changing_keys(server.settings.keys_path) as known:
        kept = list(known)
        known[:] = [one for one in known if one.name != "read"]
    until(
        lambda: status(server, "/api/v1/health", X_Api_Key=keys["read"]) == 401, "the key to be known no more"
    )
    with changing_keys(server.settings.keys_path) as known:
        known[:] = kept
    until(lambda: status(server, "/api/v1/health", X_Api_Key=keys["read"]) == 200, "the key to be back")


def test_latest_in_brief_and_whole(shown):
    found = shown.json("/api/v1/latest")
    assert [one["station"] for one in found["stations"]] == ["a", "b"]
    newest = found["stations"][0]
    assert newest == shown.json("/api/v1/latest/a")
    assert newest["at"] == format_time(from_ms((T0 + 3600) * 1000))
    assert newest["index"]["index"] == 110
    assert newest["pollutants"]["pm25"]["kind"] == "imputed"
    assert (newest["measured"], newest["imputed"]) == (0, 1)
    whole = shown.json("/api/v1/explain?station=a")
    assert whole["estimate"]["revision"] == 1
    assert any("PM2.5 was not measured" in one for one in whole["why"])
    before = shown.json(f"/api/v1/explain?station=a&at={format_time(from_ms((T0 + 130) * 1000))}")
    assert before["estimate"]["window"]["end"] == format_time(from_ms((T0 + 120) * 1000))


def test_pages_lead_to_the_next(shown):
    ids, path = [], "/api/v1/latest?limit=1"
    while path:
        page = shown.json(path)
        ids += [one["station"] for one in page["stations"]]
        path = page["next"]
    assert ids == ["a", "b"]
    first = shown.json("/api/v1/stations?limit=1")
    assert first["features"][0]["geometry"] == {"type": "Point", "coordinates": [-2.5, 1.5]}
    second = shown.json(first["next"])
    assert second["features"][0]["geometry"] is None
    third = shown.json(second["next"])
    assert ([one["id"] for one in third["features"]], third["next"]) == (["c"], None)


def test_a_series_keeps_measured_and_imputed_apart(shown):
    found = shown.json(
        "/api/v1/series?station=a&what=pm25&since=2020-01-01T00:00:00Z&until=2020-02-01T00:00:00Z"
    )
    assert found["at"] == []
    since, until_ = (format_time(from_ms((T0 + s) * 1000)) for s in (0, 4000))
    found = shown.json(f"/api/v1/series?station=a&what=pm25&since={since}&until={until_}")
    assert found["span_s"] == 0
    assert len(found["at"]) == 60
    assert found["imputed"][2] == 30.0
    assert found["measured"][2] is None
    assert (found["lo"][2], found["hi"][2]) == (20.0, 40.0)
    thinned = shown.json(f"/api/v1/series?station=a&what=pm25&since={since}&until={until_}&points=10")
    assert thinned["span_s"] > 0
    assert len(thinned["at"]) <= 11
    points = shown.json(f"/api/v1/series?station=a&since={since}&until={until_}")
    assert points["unit"] == "points"
    assert points["standard"] == "us-epa-2024"


def test_a_table_to_download(shown):
    since = format_time(from_ms(T0 * 1000))
    answer = shown.get(f"/api/v1/series.csv?station=a&since={since}")
    assert answer.headers["content-disposition"].startswith('attachment; filename="a-')
    rows = list(csv.DictReader(io.StringIO(answer.data.decode())))
    assert len(rows) == 60
    assert {row["kind"] for row in rows} == {"measured", "imputed"}
    assert {row["unit"] for row in rows} == {"ug/m3"}
    assert {row["span_s"] for row in rows} == {"0"}
    until(lambda: shown.parts.counter.tables == 0, "the table's place to be free")


def test_tables_are_read_beside_all_else_and_two_at_once(shown):
    path, counter = "/api/v1/series.csv?station=a", shown.parts.counter
    with shown.parts.store._lock:  # somebody reads for long
        assert shown.get(path).status == 200
    until(lambda: counter.tables == 0, "the table's place to be free")
    counter.tables = 2
    try:
        answer = shown.get(path)
    finally:
        counter.tables = 0
    assert (answer.status, answer.json()["type"]) == (429, "urn:skyfuse:too_many_tables")
    assert int(answer.headers["retry-after"]) > 0


def test_a_table_that_cannot_be_read_is_refused_and_keeps_no_place(tmp_path):
    with served(tmp_path, (), STATIONS, now=NOW) as made:
        made.settings.store_path.unlink()
        for _ in range(3):
            assert made.get("/api/v1/series.csv?station=a").status == 503
            until(lambda: made.parts.counter.tables == 0, "the table's place to be free")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/latest/nobody", 404, "unknown_station"),
        ("/api/v1/series?station=nobody", 404, "unknown_station"),
        ("/api/v1/series?station=a&what=pm1", 422, "wrong_parameter"),
        ("/api/v1/series?station=a&since=yesterday", 422, "not_a_time"),
        ("/api/v1/series?station=a&since=2026-01-01T00:00:00", 422, "not_a_time"),
        ("/api/v1/series?station=a&since=2024-01-01T00:00:00Z", 422, "too_long"),
        ("/api/v1/series?station=a&until=2020-01-01T00:00:00Z&since=2020-01-02T00:00:00Z", 422, "no_span"),
        ("/api/v1/series", 422, "wrong_parameter"),
        ("/api/v1/latest?limit=0", 422, "wrong_parameter"),
        ("/api/v1/latest?after=../etc", 422, "wrong_parameter"),
        ("/api/v1/series?station=a&standard=nonsense", 422, "unknown_standard"),
        ("/api/v1/latest/c", 404, "no_estimate"),
        ("/api/v1/explain?station=c", 404, "no_estimate"),
        ("/api/v1/explain?station=nobody", 404, "unknown_station"),
        ("/api/v1/alerts?station=nope", 404, "unknown_station"),
        ("/api/v1/alerts/pending?station=nope", 404, "unknown_station"),
        ("/api/v1/stream?station=nope", 404, "unknown_station"),
        ("/api/v1/alerts?after=yesterday", 422, "not_a_time"),
        ("/api/v1/series?station=a&station=b", 422, "wrong_parameter"),
        ("/api/v1/nothing", 404, "no_path"),
        ("/static/../serve.py", 404, "no_path"),
        ("/static/%2e%2e/serve.py", 404, "no_file"),
        ("/static/..%2f..%2fpyproject.toml", 404, "no_file"),
        ("/static/%00.js", 404, "no_file"),
        (f"/static/{'a' * 300}.js", 404, "no_file"),
    ],
)
def test_errors_are_problems_with_a_code(shown, path, status, code):
    answer = shown.get(path)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == f"urn:skyfuse:{code}"
    assert body["status"] == status
    assert len(body["detail"]) > 10


@pytest.mark.parametrize("path", [*READ, *OPEN, "/api/v1/stream", "/api/v1/latest/c"])
def test_a_head_is_what_comes_before_the_body(shown, path):
    pool = urllib3.PoolManager(retries=False, timeout=60.0)
    head = pool.request("HEAD", shown.url + path)
    assert head.data == b""
    if path == "/api/v1/stream":
        until(lambda: shown.parts.counter.open == 0, "the stream that nobody reads to end")
        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        return
    whole = shown.get(path)
    assert head.status == whole.status
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert head.headers.get("etag") == whole.headers.get("etag")


def test_who_asks_wrongly_is_told_that_there_is_a_head(shown):
    answer = urllib3.PoolManager(retries=False, timeout=5.0).request("OPTIONS", shown.url + "/api/v1/latest")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert "HEAD" in shown.json("/api/v1/openapi.json")["info"]["description"]


@pytest.mark.parametrize("at", ["-1", "99999999999999999", "now"])
def test_a_picture_is_of_a_time_that_there_is(tmp_path, at):
    with served(tmp_path, history("b"), STATIONS, now=NOW, anonymous=("read", "frames")) as made:
        assert made.get(f"/api/v1/pictures/b/main?at={at}").status == 422
        assert made.get(f"/api/v1/pictures/b/main/heat?at={at}").status == 422


def test_pages_of_alerts_go_on_where_they_were_while_new_ones_open(tmp_path):
    def alert(n):
        at = from_ms(1000 * (T0 + 60 * n))
        return EVENTS[0].model_copy(update={"id": f"a/us-aqi/{format_time(at)}", "at": at, "since": at})

    with served(tmp_path, history("a"), STATIONS, now=NOW) as made:
        for n in range(5):
            made.tell(alert(n))
        found, path = [], "/api/v1/alerts?limit=2"
        while path:
            page = made.json(path)
            found += [one["id"] for one in page["alerts"]]
            path = page["next"]
            made.tell(alert(10 + len(found)))
        assert found == [alert(n).id for n in (4, 3, 2, 1, 0)]


def test_names_that_strangers_make_up_are_not_kept():
    kept = pages._packed.cache_info().currsize
    for n in range(50):
        assert pages.file(f"made-up-{n}.js") is None
    assert pages.file("app.js") is pages.file("app.js") is not None
    assert pages._packed.cache_info().currsize <= kept + 1


@pytest.mark.parametrize("path", [*READ, *OPEN])
def test_every_answer_carries_what_keeps_it_safe(shown, path):
    headers = shown.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert ("frame-ancestors *" in policy) == path.startswith("/widget/")
    assert "server" not in headers


@pytest.mark.parametrize("path", ["/api/v1/latest", "/api/v1/stations", "/", "/api/v1/series?station=a"])
def test_what_has_not_changed_is_not_sent_again_and_what_is_sent_is_packed(shown, path):
    plain = shown.get(path)
    packed = shown.get(path, Accept_Encoding="gzip")
    if len(plain.data) > 600:
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.data) == plain.data
    assert "content-encoding" not in shown.get(path, Accept_Encoding="gzip;q=0").headers
    tag = plain.headers["etag"]
    again = shown.get(path, If_None_Match=f'"x", {tag}')
    assert (again.status, again.data) == (304, b"")
    for weakly in ("*", tag.removeprefix("W/")):
        assert shown.get(path, If_None_Match=weakly).status == 304
    assert shown.get(path, If_None_Match='"x"').status == 200


@pytest.mark.parametrize(
    "path", ["alerts?statoin=a", "latest?limit=2&station=a", "health?hours=1", "stream?a=b"]
)
def test_a_parameter_that_is_mistyped_is_named(shown, path):
    answer = shown.get(f"/api/v1/{path}")
    assert answer.status == 422
    strange = {"alerts": "statoin", "latest": "station", "health": "hours", "stream": "a"}[path.split("?")[0]]
    assert answer.json()["detail"].startswith(f"{strange}: there is no such parameter here; it has")


def test_alerts_are_of_the_station_that_was_asked_for(shown):
    name = EVENTS[0].station
    assert {one["station"] for one in shown.json(f"/api/v1/alerts?station={name}")["alerts"]} == {name}
    assert shown.json("/api/v1/alerts?station=c")["alerts"] == []
    # Known without their checkpoints: those on their way are filtered likewise.
    parts = shown.parts
    soon = PendingAlert("us-aqi", "minor", 1000 * T0)
    memo, kept = parts.pending, (parts.pending.version, parts.pending.found)
    memo.version = (int(parts.now() // composing.SECONDS_KEPT), parts.live.alert_states_version)
    memo.found = [("a", soon), ("b", soon)]
    try:
        for asked, found in (("", ["a", "b"]), ("?station=b", ["b"]), ("?station=c", [])):
            every = shown.json(f"/api/v1/alerts/pending{asked}")["pending"]
            assert [one["station"] for one in every] == found
    finally:
        memo.version, memo.found = kept


def test_what_the_model_looks_at_has_a_scale(tmp_path):
    header = FrameHeader(id="f", source="/test", time=from_ms(1000 * T0), station="b", camera="main")
    record = SimpleNamespace(headers=header.to_headers(), value=picture(1, 3))
    with served(
        tmp_path, history("b"), STATIONS, now=NOW, pictures_for="87600h", anonymous=("read", "frames")
    ) as made:
        assert made.parts.pictures is not None
        made.parts.pictures.take(record)
        [camera] = made.json("/api/v1/pictures?station=b")["cameras"]
        heat = made.get(camera["heat"])
        assert (heat.status, heat.headers["content-type"]) == (200, "image/png")
        most, end = (float(heat.headers[f"x-heat-{name}"]) for name in ("most", "end"))
        assert end == max(0.1, most) < 500
        assert heat.headers["x-heat-fields"] == "7x7"
        assert heat.headers["x-heat-way"] in ("raises", "lowers")
        plain, laid = (
            np.asarray(Image.open(io.BytesIO(one.data)).convert("RGB")).astype(int)
            for one in (made.get(camera["image"]), heat)
        )
        # What moves the estimate by next to nothing does not look as if it did.
        assert (np.abs(laid - plain).max() > 60) == (most == end)


def test_latest_changes_its_tag_with_a_newer_window(shown):
    before = shown.get("/api/v1/latest").headers["etag"]
    shown.show([estimate("b", T0 + 3660, 1, {"pm25": measured(9.0)}, (index(38),))])
    after = shown.get("/api/v1/latest", If_None_Match=before)
    assert after.status == 200
    assert after.headers["etag"] != before


def test_only_names_of_ours_are_answered(shown):
    """A stranger's page whose name points here would read what only this machine may."""
    assert shown.get("/api/v1/latest", Host="evil.example").status == 421
    assert shown.get("/", Host="evil.example:80").status == 421
    assert shown.get("/api/v1/latest", Host="localhost:1").status == 200


def test_no_stranger_s_page_may_ask_unless_it_is_named(shown, tmp_path):
    assert (
        "access-control-allow-origin" not in shown.get("/api/v1/latest", Origin="https://x.example").headers
    )
    with served(tmp_path, history("a"), cors=("https://x.example",)) as made:
        found = made.get("/api/v1/latest", Origin="https://x.example").headers
        assert found["access-control-allow-origin"] == "https://x.example"
        assert (
            "access-control-allow-origin"
            not in made.get("/api/v1/latest", Origin="https://y.example").headers
        )


def test_who_asks_too_often_is_told_when_to_come_again(tmp_path):
    with served(tmp_path, history("a"), rate_per_address=0.2) as made:
        found = [made.get("/api/v1/latest").status for _ in range(6)]
        assert found == [200] * 4 + [429] * 2
        answer = made.get("/api/v1/latest")
        assert int(answer.headers["retry-after"]) >= 1
        assert made.get("/").status == 200, "the page's own files are not counted"


def test_the_log_has_requests_and_no_secrets(shown, caplog):
    with caplog.at_level(logging.INFO, logger="web.serve"):
        shown.get("/api/v1/latest?after=a&limit=7", Authorization="Bearer sf_secret", X_Api_Key="sf_other")
        until(lambda: "/api/v1/latest" in caplog.text, "the line")
    assert "401" in caplog.text
    assert "sf_" not in caplog.text
    assert "limit=7" not in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="web.serve"):
        shown.get("/api/v1/x%0aFAKE%20LINE")
        until(lambda: "FAKE" in caplog.text, "the line")
    assert "\nFAKE" not in caplog.text


def read_stream(server: Served, path: str, wanted: int, **headers: str):
    """The first events of a stream: (id, name, data)."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.settings.web.port), 10)) as line:
        named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n{named}\r\n".encode())
        text = b""
        while text.partition(b"\r\n\r\n")[2].count(b"\n\n") < wanted:
            some = line.recv(65536)
            assert some, text
            text += some
    events = []
    for block in text.partition(b"\r\n\r\n")[2].decode().split("\n\n")[:wanted]:
        fields = dict(part.split(": ", 1) for part in block.split("\n"))
        events.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return events


def test_a_stream_goes_on_where_it_was(tmp_path):
    with served(tmp_path, history("a"), STATIONS) as made:
        [(id, name, _)] = read_stream(made, "/api/v1/stream", 1)
        assert name == "hello"
        made.show([estimate("a", T0 + 3660, 1, {"pm25": measured(9.0)}, (index(38),))])
        made.tell(EVENTS[0])
        first, second = read_stream(made, "/api/v1/stream", 2, Last_Event_ID=id)
        assert (first[1], first[2]["index"]["index"]) == ("estimate", 38)
        assert (second[1], second[2]["id"]) == ("alert", EVENTS[0].id)
        [one] = read_stream(made, "/api/v1/stream", 1, Last_Event_ID=first[0])
        assert one == second
        hello, reset = read_stream(made, "/api/v1/stream", 2, Last_Event_ID="e1a1.1")
        assert (hello[1], reset[1]) == ("hello", "reset")
        [only] = read_stream(made, f"/api/v1/stream?station={EVENTS[0].station}", 1, Last_Event_ID=id)
        assert only[1] == "alert"
        until(lambda: made.parts.counter.open == 0, "the streams to be let go")


def test_who_comes_back_to_a_server_that_has_just_started_waits_until_it_knows_what_was_missed(tmp_path):
    """Killed and started again, it has read nothing yet: an id of before is not one of other topics."""
    with served(tmp_path, history("a"), STATIONS) as made:
        made.show([estimate("a", T0 + 60 * n, 1, {"pm25": measured(9.0)}, (index(n),)) for n in (61, 62)])
        id = made.parts.live.id
        stream = threading.Thread(
            target=lambda: heard.extend(read_stream(made, "/api/v1/stream", 3, Last_Event_ID=id)), daemon=True
        )
        heard: list[Any] = []
        live = made.parts.live
        fresh = LiveState(len(live.id.partition("a")[0].split(".")))
        object.__setattr__(made.parts, "live", fresh)
        made.parts.follower.read.clear()
        stream.start()
        until(lambda: made.parts.counter.open == 1, "the listener")
        made.show(history("a"))
        made.show([estimate("a", T0 + 60 * n, 1, {"pm25": measured(9.0)}, (index(n),)) for n in (61, 62, 63)])
        made.know()
        stream.join(10)
        names = [name for _, name, _ in heard]
        assert names[0] == "pulse"
        assert "reset" not in names
        shown = [data["index"]["index"] for _, name, data in heard if name == "estimate"]
        assert shown[:1] == [63]


def test_there_are_no_more_streams_than_allowed(tmp_path):
    with served(tmp_path, history("a"), streams=1) as made:
        with contextlib.closing(socket.create_connection(("127.0.0.1", made.settings.web.port), 10)) as line:
            line.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in line.recv(100)
            assert made.get("/api/v1/stream").status == 503
        until(lambda: made.parts.counter.open == 0, "the stream to be let go")


def test_without_a_store_there_is_no_history_and_the_latest_all_the_same(tmp_path):
    with served(tmp_path, history("a"), STATIONS) as made:
        made.settings.store_path.unlink()
        assert made.get("/api/v1/series?station=a").status == 503
        assert made.json("/api/v1/latest")["stations"]


FORECAST = Forecast(
    station="a", issued_at=from_ms((T0 + 3600) * 1000), revision=1, model="m",
    pollutants={
        "pm25": PollutantForecast(
            mean=(9.54,) * 72, quantiles=tuple((float(level),) * 72 for level in range(7)), imputed_share=0.5
        )
    },
    indices=(
        IndexForecast(
            standard="us-epa-2024", index=(40,) * 72, lo=(20,) * 72, hi=(90,) * 72,
            categories=("Good", "Moderate"), probabilities=((0.75,) * 72, (0.25,) * 72),
            membership=((0.9,) * 72, (0.1,) * 72),
        ),
    ),
)  # fmt: skip


def test_a_forecast_is_shown_until_its_hours_are_over(tmp_path):
    with served(tmp_path, history("a"), STATIONS, now=NOW) as made:
        assert made.json("/api/v1/forecast?station=a") == {"station": "a", "forecast": None}
        with Store(made.settings.store_path) as store:
            store.write_forecasts([FORECAST])
        found = made.json("/api/v1/forecast?station=a")["forecast"]
        assert found["at"][0] == format_time(from_ms((T0 + 7200) * 1000))
        assert len(found["at"]) == 72
        assert found["pollutants"]["pm25"]["quantiles"][3] == [3.0] * 72
        assert (found["pollutants"]["pm25"]["imputed_share"], found["model"]) == (0.5, "m")
        assert found["indices"][0]["probabilities"][1] == [0.25] * 72
        assert found["indices"][0]["membership"] == [[0.9] * 72, [0.1] * 72]
        object.__setattr__(made.parts, "now", lambda: T0 + 3600.0 + 72 * 3600)
        assert made.json("/api/v1/forecast?station=a")["forecast"] is None


def test_whom_a_station_listens_to_is_told_by_name_and_looked_up_again_where_it_could_not_be_read(tmp_path):
    region = learned(30)
    name = region.air.members.stations[0]
    clock = [0.0]
    answers: list[Any] = [TopicReadError("away"), records("", end(30), region, 0)]

    def read():
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with served(tmp_path, (), [Station(station=name)], now=NOW) as made:
        asked = f"/api/v1/listening?station={name}"
        assert made.json(asked)["sensors"] == [], "no network's stage runs"
        object.__setattr__(made.parts, "neighbours", Neighbours(read, lambda: clock[0]))
        assert made.json(asked)["sensors"] == []
        assert made.json(asked)["sensors"] == [], "it is not tried again at once"
        clock[0] = 60.0
        found = made.json(asked)["sensors"]
        assert {one["pollutant"] for one in found} <= set(POLLUTANTS)
        assert found
        for one in found:
            assert name not in one["neighbours"]
            assert set(one["neighbours"]) <= set(region.air.members.stations)
            whole = sum(one["neighbours"].values()) + one["own"] + one["past"]
            assert whole == pytest.approx(1.0, abs=0.05)
        assert made.json(asked)["sensors"] == found, "it is kept: there is no third answer"


def test_notes_are_read_by_all_and_do_not_say_whose_they_are(tmp_path):
    note = new_annotation(
        "a", from_ms(1000 * T0), kind="note", since=from_ms(1000 * T0), until=from_ms(1000 * (T0 + 60)),
        text="barbecue", by="somebody",
    )  # fmt: skip
    undone = note.model_copy(update={"id": "a/2", "undone": Undone(at=note.made_at)})
    with served(tmp_path, history("a"), STATIONS, now=NOW) as made:
        with Store(made.settings.store_path) as store:
            store.write_annotations([note, undone])
        [found] = made.json("/api/v1/notes?station=a")["notes"]
        assert (found["text"], found["kind"]) == ("barbecue", "note")
        assert "somebody" not in str(found)
        later = format_time(from_ms(1000 * (T0 + 61)))
        assert made.json(f"/api/v1/notes?station=a&since={later}")["notes"] == []


@pytest.fixture(scope="module")
def managed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("managed")
    with served(folder, history("a"), STATIONS, now=NOW, anonymous=("read", "write", "admin")) as made:
        made.parts.follower.away_since = NOW
        yield made


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NOTE = {"station": "a", "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T01:00:00Z", "text": "x"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("POST", "notes", NOTE, {"Content-Type": "text/plain"}, 415, "not_json"),
        ("POST", "notes", NOTE, JSON | {"Origin": "https://evil.example"}, 403, "other_origin"),
        ("POST", "notes", NOTE, JSON | {"Origin": "null"}, 403, "other_origin"),
        ("POST", "notes", NOTE, JSON | {"Origin": "http://["}, 403, "other_origin"),
        ("DELETE", "records/a", None, {"Origin": "https://evil.example"}, 403, "other_origin"),
        (
            "POST",
            "records/a/adopt",
            {},
            {"Content-Type": "application/x-www-form-urlencoded"},
            415,
            "not_json",
        ),
        ("POST", "notes", NOTE | {"text": "x" * 300_000}, JSON, 413, "too_large"),
        ("POST", "notes", NOTE | {"until": NOTE["since"]}, JSON, 422, "not_a_time_span"),
        ("POST", "notes", {"station": "a"}, JSON, 422, "missing"),
        ("POST", "notes", NOTE | {"station": "nobody"}, JSON, 404, "unknown_station"),
        ("POST", "notes", NOTE | {"text": " \n\u3000"}, JSON, 422, "blank"),
        ("POST", "notes", NOTE | {"text": "a\u0000b"}, JSON, 422, "control_characters"),
        ("POST", "notes", NOTE | {"text": "a\u0085b"}, JSON, 422, "control_characters"),
        ("POST", "notes", NOTE | {"text": "two\nlines"}, JSON, 503, "kafka_away"),
        ("POST", "notes", NOTE, JSON, 503, "kafka_away"),
        ("PATCH", "records/a", {"name": "x"}, JSON, 503, "kafka_away"),
        ("GET", "waiting", None, {}, 503, "kafka_away"),
        ("GET", "records/nobody", None, {}, 404, "unknown_station"),
        ("PUT", "records/a", {}, JSON, 405, "refused"),
    ],
)
def test_what_changes_something_is_taken_from_our_own_pages_and_in_order(
    managed, method, path, body, headers, status, code
):
    """A stranger's page can have its visitor's browser send what needs no leave: forms and plain text."""
    pool = urllib3.PoolManager(retries=False, timeout=10.0)
    data = None if body is None else json.dumps(body)
    answer = pool.request(method, f"{managed.url}/api/v1/{path}", body=data, headers=headers)
    assert (answer.status, answer.json()["type"]) == (status, f"urn:skyfuse:{code}")
    assert answer.headers["content-type"] == "application/problem+json"


def test_records_are_listed_with_what_counted_before(managed):
    first = managed.json("/api/v1/records?limit=1")
    assert [one["station"] for one in first["records"]] == ["a"]
    assert [one["station"] for one in managed.json(first["next"])["records"]] == ["b"]
    assert managed.json("/api/v1/records/a")["sensors"][0]["sensor"] == "x"


def test_who_never_rests_hears_all_the_same_what_is_away(tmp_path, monkeypatch):
    """Events come without a pause: Kafka is away, and back, and a worker is down."""
    monkeypatch.setattr("web.streaming.PULSE_S", 0.2)
    down = WorkerHealth(role="fusion", up=False)
    ended = threading.Event()
    with served(tmp_path, history("a"), STATIONS) as made:

        def speak():
            for n in range(100_000):
                made.show([estimate("a", T0 + 3660 + 60 * n, 1, {"pm25": measured(9.0)}, (index(38),))])
                if ended.wait(0.01):
                    return

        speaking = threading.Thread(target=speak)
        speaking.start()
        try:

            def pulse_says(condition):
                def look():
                    found = read_stream(made, "/api/v1/stream", 40)
                    return any(name == "pulse" and condition(data) for _, name, data in found)

                until(look, "a pulse")

            pulse_says(lambda data: data["kafka_away_since"] is None and data["workers_away"] == [])
            made.parts.follower.away_since = T0
            pulse_says(lambda data: data["kafka_away_since"] is not None)
            made.parts.follower.away_since = None
            made.parts.workers.note([down])
            pulse_says(lambda data: [one["role"] for one in data["workers_away"]] == ["fusion"])
        finally:
            ended.set()
            speaking.join()


def test_a_worker_that_missed_one_look_is_not_said_to_be_down():
    clock = iter(range(T0, T0 + 100))
    workers = Workers({}, now=lambda: float(next(clock)))
    up, down = WorkerHealth(role="sink", up=True), WorkerHealth(role="sink", up=False)
    waits = up.model_copy(update={"waits_for": "influx: away", "waits_since": from_ms(1000 * T0)})

    def roles():
        return [one.role for one in workers.away]

    workers.note([up])
    workers.note([down])
    assert roles() == []
    workers.note([down])
    assert roles() == ["sink"]
    assert workers.away[0].since == workers.health[0].down_since == from_ms(1000 * T0)
    workers.note([waits])
    assert [one.waits_for for one in workers.away] == ["influx: away"]
    workers.note([up])
    assert roles() == []


def test_a_worker_that_is_minutes_behind_is_named_until_it_has_caught_up(tmp_path):
    workers = Workers({}, now=lambda: float(T0))

    def behind(lag_s, messages=4819):
        workers.note([WorkerHealth(role="network", up=True, lag_s=lag_s, lag_messages=messages)])
        return [one.role for one in workers.behind]

    # One look tells nothing; who is behind is so until it is well below.
    assert [behind(lag) for lag in (5, 223, 223, 40, 40, 20, 40, 40)] == [
        [], [], ["network"], ["network"], ["network"], [], [], [],
    ]  # fmt: skip
    assert [behind(223, 0), behind(223, 0)] == [[], []], "it is old, and there is no newer one"
    with served(tmp_path, history("a"), STATIONS, now=NOW) as made:
        assert made.json("/api/v1/health")["status"] == "ok"
        for _ in range(2):
            made.parts.workers.note([WorkerHealth(role="network", up=True, lag_s=223.4, lag_messages=4819)])
        found = made.json("/api/v1/health")
        assert found["status"] == "degraded"
        assert found["problems"][0].startswith("the worker network is 223 s behind, 4819 records, since")
        assert found["workers"][0]["behind_since"] in found["problems"][0]


def test_health_is_degraded_where_nothing_new_comes(tmp_path):
    with served(tmp_path, history("a"), STATIONS, now=NOW + 1200) as made:
        found = made.json("/api/v1/health")
        assert found["status"] == "degraded"
        assert found["problems"][0].startswith("nothing new comes: the newest window of all ended at")
        made.parts.follower.moved_at = NOW + 1190
        assert "the past is being worked off" in made.json("/api/v1/health")["problems"][0]


def test_an_index_that_rests_on_both_is_neither_measured_nor_imputed(tmp_path):
    windows = [
        estimate("a", T0 + 60 * n, 1, {"pm25": measured(9.0)}, (index(80 + n, imputed_share=share),))
        for n, share in enumerate((0.0, 0.1, 0.6, 1.0), 1)
    ]
    with served(tmp_path, windows, STATIONS, now=T0 + 400.0) as made:
        found = made.json("/api/v1/series?station=a")
    assert [found[kind] for kind in ("measured", "partly", "imputed")] == [
        [81, None, None, None], [None, 82, 83, None], [None, None, None, 84],
    ]  # fmt: skip


def test_what_is_of_use_to_look_at(shown):
    found = {one["what"]: one for one in shown.json("/api/v1/notable")["notable"]}
    assert found["alert"]["station"] == EVENTS[0].station
    assert "Kafka" not in str(found)


def test_quality_counts_what_windows_were_made_of(shown):
    found = shown.json("/api/v1/quality?hours=2")["stations"][0]
    assert found["station"] == "a"
    assert (found["windows"], found["measured"], found["imputed"]) == (60, 40, 20)
    assert found["flags"] == {"1": 40}


def test_a_badge_has_a_number_with_its_status_and_says_when_it_is_old(shown, tmp_path):
    badge = shown.get("/badge/a.svg")
    assert badge.headers["content-type"] == "image/svg+xml"
    assert ">AQI 110 Unhealthy for Sensitive Groups<" in badge.data.decode()
    assert "no data" in shown.get("/badge/nobody.svg").data.decode()
    with served(tmp_path, history("a"), now=NOW + 7200) as made:
        assert "old:" in made.get("/badge/a.svg").data.decode()


def lightness(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_categories_get_darker_and_their_numbers_can_be_read(shown):
    assert [lightness(one) for one in SHADES] == sorted(map(lightness, SHADES), reverse=True)
    for standard in shown.json("/api/v1/site")["standards"]:
        shades = [one["shade"] for one in standard["categories"]]
        assert len(set(shades)) == len(shades), standard["id"]
        for one in standard["categories"]:
            dark, light = sorted((lightness(one["shade"]), lightness(one["ink"])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, one
    assert [shade(n, 4) for n in range(4)] == sorted(
        {shade(n, 4) for n in range(4)}, key=lightness, reverse=True
    )
