"""`skyfuse influx init` against a stand-in for the API (no InfluxDB 2 runs here; docs/outputs.md)."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from infra.commands.influx import initialise
from infra.errors import InfluxInitError


class Standin:
    """Organisations, buckets and authorizations as InfluxDB 2.9 answers them; token values are told once."""

    def __init__(self):
        self.buckets, self.authorizations, self.writes = {}, {}, 0
        standin = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, answer = standin.answer(self.command, self.path, body, self.headers["Authorization"])
                data = json.dumps(answer).encode() if answer is not None else b""
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _do

            def log_message(self, *_):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, method, path, body, token):
        if token != "Token admin":
            return 401, {"code": "unauthorized", "message": "unauthorized access"}
        parts = urlsplit(path)
        asked = parse_qs(parts.query)
        self.writes += method != "GET"
        if parts.path == "/api/v2/orgs":
            found = [{"id": "00000000000000aa", "name": "skyfuse"}] if asked["org"] == ["skyfuse"] else []
            return 200, {"orgs": found}
        if parts.path == "/api/v2/buckets":
            if method == "POST":
                self.buckets[body["name"]] = body | {"id": f"{len(self.buckets):016x}"}
                return 201, self.buckets[body["name"]]
            name = asked.get("name", [None])[0]
            return 200, {"buckets": [b for n, b in self.buckets.items() if name in (None, n)]}
        if parts.path == "/api/v2/authorizations":
            if method == "POST":
                id = f"{self.writes:016x}"
                self.authorizations[id] = body | {"id": id}
                return 201, body | {"id": id, "token": f"secret-{id}"}
            return 200, {"authorizations": list(self.authorizations.values())}
        gone = re.fullmatch(r"/api/v2/authorizations/(\w+)", parts.path)
        if gone and method == "DELETE":
            del self.authorizations[gone[1]]
            return 204, None
        return 404, {"code": "not found", "message": path}


@pytest.fixture
def server():
    one = Standin()
    yield one
    one.server.shutdown()
    one.server.server_close()


def run(server, folder, token="admin", org="skyfuse"):
    return initialise(server.url, org, "aq", token, folder)


def rights(server):
    return {
        one["description"]: {
            (p["action"], p["resource"]["type"], p["resource"]["id"]) for p in one["permissions"]
        }
        for one in server.authorizations.values()
    }


def test_buckets_and_least_privilege_tokens_are_made(server, tmp_path):
    done = run(server, tmp_path / "tokens")
    kept = {
        name: bucket["retentionRules"][0]["everySeconds"] / 86_400 for name, bucket in server.buckets.items()
    }
    assert kept == {"aq": 90, "aq_hourly": 1830, "aq_daily": 0}
    ids = [bucket["id"] for bucket in server.buckets.values()]
    assert rights(server) == {
        "skyfuse: write": {("write", "buckets", id) for id in ids},
        "skyfuse: read (Grafana)": {("read", "buckets", id) for id in ids},
    }
    for file in ("write.token", "read.token"):
        assert (tmp_path / "tokens" / file).read_text().startswith("secret-0")
        assert (tmp_path / "tokens" / file).stat().st_mode & 0o777 == 0o600
    assert len(done) == 5
    assert not any("secret" in line for line in done)


def test_a_second_run_changes_nothing(server, tmp_path):
    run(server, tmp_path)
    kept = (tmp_path / "write.token").read_text()
    writes = server.writes
    assert run(server, tmp_path) == []
    assert server.writes == writes
    assert (tmp_path / "write.token").read_text() == kept


def test_a_lost_token_is_replaced_not_added(server, tmp_path):
    run(server, tmp_path)
    lost = (tmp_path / "write.token").read_text()
    (tmp_path / "write.token").unlink()
    done = run(server, tmp_path)
    assert len(server.authorizations) == 2
    assert (tmp_path / "write.token").read_text() not in ("", lost)
    assert any("withdrew" in line for line in done)


def test_rights_that_were_widened_are_put_right(server, tmp_path):
    run(server, tmp_path)
    wanted = rights(server)
    for one in server.authorizations.values():
        one["permissions"].append({"action": "write", "resource": {"type": "buckets", "id": "0other"}})
    run(server, tmp_path)
    assert rights(server) == wanted


def test_another_retention_is_reported_and_left(server, tmp_path):
    run(server, tmp_path)
    server.buckets["aq"]["retentionRules"][0]["everySeconds"] = 3600
    (line,) = run(server, tmp_path)
    assert "aq is there, but not kept 90 days" in line


def test_what_is_wrong_is_said(server, tmp_path):
    with pytest.raises(InfluxInitError, match="admin token"):
        run(server, tmp_path, token="wrong")
    with pytest.raises(InfluxInitError, match="no organisation elsewhere"):
        run(server, tmp_path, org="elsewhere")
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(InfluxInitError, match="cannot be set up"):
        run(server, tmp_path)
