"""A stand-in for InfluxDB 2.9's set-up, organisation, bucket and authorization API.

InfluxDB 2 is in no package that these tests could install. Paths, bodies, status codes and error codes follow
the server's published API definition (influxdata/openapi) and its handlers (influxdata/influxdb: tenant,
authorization):

* only a server without users and organisations may be set up; a second time is 422 `conflict`;
* an organisation, or a bucket of an organisation, that is asked for by name and is not there is 404;
* a token is told in the answer that makes it and never again; the server keeps its hash;
* a token that is not known is 401; what a token may not read (organisations, buckets) is left out of a list;
* a description need not be the only one of its kind;
* a write is looked at for organisation, bucket and rights before its lines: 404, 403, and 400 for no lines.
"""

import gzip
import hashlib
import json
import re
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: An operator token may read and write all of these.
_RESOURCES = (
    "authorizations", "buckets", "dashboards", "orgs", "tasks", "telegrafs", "users", "variables", "scrapers",
    "secrets", "labels", "views", "documents", "notificationRules", "notificationEndpoints", "checks", "dbrp",
    "notebooks", "annotations", "remotes", "replications", "instance",
)  # fmt: skip
_AT = "2026-01-01T00:00:00Z"
_STATUS = {
    "conflict": 422, "invalid": 400, "empty value": 400, "not found": 404, "unauthorized": 401,
    "forbidden": 403,
}  # fmt: skip


class Refusal(Exception):
    """The server's error body."""

    def __init__(self, code: str, message: str) -> None:
        self.status = _STATUS[code]
        self.body = {"code": code, "message": message}


class Influx2:
    """One server, empty at first. `cut` = (n, applied): the n-th request from now on gets no answer."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.orgs: dict[str, dict[str, Any]] = {}
        self.buckets: dict[str, dict[str, Any]] = {}
        self.authorizations: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.writes = 0
        self.lines: dict[str, list[str]] = {}  #: of line protocol, by bucket
        self.cut: tuple[int, bool] | None = None
        self._ids = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                data = self.rfile.read(length)
                if self.headers["Content-Encoding"] == "gzip":
                    data = gzip.decompress(data)
                lines = urlsplit(self.path).path == "/api/v2/write"
                body = data.decode() if lines else json.loads(data) if data else None
                header = self.headers["Authorization"]
                answer = server.take(self.command, self.path, body, header)
                if answer is None:
                    self.close_connection = True
                    return
                status, plain = answer
                data = b"" if plain is None or status == 204 else json.dumps(plain).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("X-Influxdb-Version", "v2.9.1")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _do

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def bucket(self, name: str) -> dict[str, Any]:
        """What there is under a name; only one of that name can be."""
        (found,) = [one for one in self.buckets.values() if one["name"] == name]
        return found

    def rights(self, token: str) -> set[tuple[str, str, str | None]] | None:
        """What a token may do; None: it is not known."""
        for one in self.authorizations.values():
            if one["hash"] == _hash(token) and one["status"] == "active":
                return {
                    (p["action"], p["resource"]["type"], p["resource"].get("id")) for p in one["permissions"]
                }
        return None

    def take(
        self, method: str, path: str, body: Any, header: str | None
    ) -> tuple[int, dict[str, Any] | None] | None:
        """The answer to a request; None: the line is cut."""
        self.requests.append(f"{method} {urlsplit(path).path}")
        if self.cut is not None:
            left, applied = self.cut
            self.cut = (left - 1, applied)
            if left < 1 or (left == 1 and not applied):
                return None
            if left == 1:
                self._answer(method, path, body, header)
                return None
        return self._answer(method, path, body, header)

    def _answer(
        self, method: str, path: str, body: Any, header: str | None
    ) -> tuple[int, dict[str, Any] | None]:
        parts = urlsplit(path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        name, _, of = parts.path.removeprefix("/api/v2/").partition("/")
        try:
            if name == "setup":
                return self._setup(body) if method == "POST" else (200, {"allowed": not self.users})
            may = self.rights((header or "").removeprefix("Token "))
            if may is None:
                raise Refusal("unauthorized", "unauthorized access")
            if name == "write":
                return self._write(asked, body, may)
            if method != "GET":
                self.writes += 1
                if ("write", name, None) not in may:
                    raise Refusal("unauthorized", f"write:{name} is unauthorized")
            serve = getattr(self, f"_{method.lower()}_{name}", None)
            if serve is None:
                raise Refusal("not found", "path not found")
            return serve(asked, body, of, may)  # type: ignore[no-any-return]
        except Refusal as refusal:
            return refusal.status, refusal.body

    def _setup(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.users:
            raise Refusal("conflict", "onboarding has already been completed")
        for field, what in (("username", "username"), ("org", "org name"), ("bucket", "bucket name")):
            if not body.get(field):
                raise Refusal("empty value", f"{what} is empty")
        if not 8 <= len(body.get("password", "")) <= 72:
            raise Refusal("invalid", "passwords must be between 8 and 72 characters long")
        self.writes += 1
        user, org = self._id(), self._id()
        self.users[user] = {"id": user, "name": body["username"], "password": _hash(body["password"])}
        self.orgs[org] = {
            "id": org,
            "name": body["org"],
            "description": "",
            "createdAt": _AT,
            "updatedAt": _AT,
        }
        for name, seconds in (("_tasks", 259_200), ("_monitoring", 604_800)):
            self._keep(org, name, "system", seconds)
        bucket = self._keep(org, body["bucket"], "user", body.get("retentionPeriodSeconds", 0))
        every = [
            {"action": action, "resource": {"type": resource}}
            for resource in _RESOURCES
            for action in ("read", "write")
        ]
        told = self._authorize(
            org, user, f"{body['username']}'s Token", every, body.get("token") or secrets.token_urlsafe(64)
        )
        return 201, {
            "user": {"id": user, "name": body["username"], "status": "active", "links": {}},
            "bucket": bucket,
            "org": self.orgs[org],
            "auth": told,
        }

    def _write(
        self, asked: dict[str, str], body: str, may: set[tuple[str, str, str | None]]
    ) -> tuple[int, dict[str, Any] | None]:
        if asked["org"] not in [one["name"] for one in self.orgs.values()]:
            raise Refusal("not found", f'organization name "{asked["org"]}" not found')
        found = [one["id"] for one in self.buckets.values() if one["name"] == asked["bucket"]]
        if not found:
            raise Refusal("not found", f'bucket "{asked["bucket"]}" not found')
        if not {("write", "buckets", found[0]), ("write", "buckets", None)} & may:
            raise Refusal("forbidden", "insufficient permissions for write")
        if not body:
            raise Refusal("invalid", "writing requires points")
        self.lines.setdefault(asked["bucket"], []).extend(body.splitlines())
        return 204, None

    def _get_orgs(
        self, asked: dict[str, str], _body: object, _of: str, may: set[tuple[str, str, str | None]]
    ) -> tuple[int, dict[str, Any]]:
        wanted = asked.get("org")
        found = [one for one in self.orgs.values() if wanted in (None, one["name"])]
        if wanted and not found:
            raise Refusal("not found", f'organization name "{wanted}" not found')
        seen = [one for one in found if {("read", "orgs", None), ("read", "orgs", one["id"])} & may]
        return 200, {"links": {"self": "/api/v2/orgs"}, "orgs": seen}

    def _get_buckets(
        self, asked: dict[str, str], _body: object, _of: str, may: set[tuple[str, str, str | None]]
    ) -> tuple[int, dict[str, Any]]:
        found = [
            one
            for one in self.buckets.values()
            if asked.get("orgID") in (None, one["orgID"]) and asked.get("name") in (None, one["name"])
        ]
        if "orgID" in asked and "name" in asked and not found:
            raise Refusal("not found", f'bucket "{asked["name"]}" not found')
        if "name" in asked and not found:
            # What some 2.x do where no organisation is named: the system buckets are appended.
            found = [one for one in self.buckets.values() if one["type"] == "system"]
        found = found[: int(asked.get("limit", 20))]
        seen = [
            one for one in found if ("read", "buckets", None) in may or ("read", "buckets", one["id"]) in may
        ]
        return 200, {"links": {"self": "/api/v2/buckets"}, "buckets": seen}

    def _post_buckets(self, _asked: object, body: dict[str, Any], *_: object) -> tuple[int, dict[str, Any]]:
        if body["orgID"] not in self.orgs:
            raise Refusal("not found", "organization not found")
        if any(one["name"] == body["name"] for one in self.buckets.values()):
            raise Refusal("conflict", f"bucket with name {body['name']} already exists")
        rules = body.get("retentionRules") or [{"everySeconds": 0}]
        return 201, self._keep(body["orgID"], body["name"], "user", rules[0]["everySeconds"])

    def _get_authorizations(self, asked: dict[str, str], *_: object) -> tuple[int, dict[str, Any]]:
        found = [
            {field: value for field, value in one.items() if field != "hash"}
            for one in self.authorizations.values()
            if asked.get("orgID") in (None, one["orgID"])
        ]
        return 200, {"links": {"self": "/api/v2/authorizations"}, "authorizations": found}

    def _post_authorizations(
        self, _asked: object, body: dict[str, Any], *_: object
    ) -> tuple[int, dict[str, Any]]:
        if not body.get("permissions"):
            raise Refusal("invalid", "authorization must include permissions")
        if body.get("orgID") not in self.orgs:
            raise Refusal("invalid", "org id required")
        user = next(iter(self.users))
        return 201, self._authorize(
            body["orgID"], user, body.get("description", ""), body["permissions"], secrets.token_urlsafe(64)
        )

    def _delete_authorizations(
        self, _asked: object, _body: object, of: str, *_: object
    ) -> tuple[int, dict[str, Any] | None]:
        if not re.fullmatch("[0-9a-f]{16}", of) or self.authorizations.pop(of, None) is None:
            raise Refusal("not found", "authorization not found")
        return 204, None

    def _keep(self, org: str, name: str, kind: str, seconds: int) -> dict[str, Any]:
        id = self._id()
        # No rule stands for ever; the server picks the length of the shards.
        rule = {"type": "expire", "everySeconds": seconds, "shardGroupDurationSeconds": 86_400}
        self.buckets[id] = {
            "id": id, "orgID": org, "type": kind, "name": name, "description": "",
            "retentionRules": [rule], "createdAt": _AT, "updatedAt": _AT,
            "links": {"self": f"/api/v2/buckets/{id}", "org": f"/api/v2/orgs/{org}"}, "labels": [],
        }  # fmt: skip
        return self.buckets[id]

    def _authorize(
        self, org: str, user: str, description: str, permissions: list[dict[str, Any]], token: str
    ) -> dict[str, Any]:
        id = self._id()
        self.authorizations[id] = {
            "id": id, "status": "active", "description": description, "orgID": org,
            "org": self.orgs[org]["name"], "userID": user, "user": self.users[user]["name"],
            "permissions": permissions, "createdAt": _AT, "updatedAt": _AT, "hash": _hash(token),
            "links": {"self": f"/api/v2/authorizations/{id}", "user": f"/api/v2/users/{user}"},
        }  # fmt: skip
        told = {field: value for field, value in self.authorizations[id].items() if field != "hash"}
        return told | {"token": token}

    def _id(self) -> str:
        self._ids += 1
        return f"0c{self._ids:014x}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
