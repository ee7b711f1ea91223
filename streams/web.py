"""What a worker serves: /livez, /readyz and /metrics."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import generate_latest

from streams import metrics
from streams.version import version

if TYPE_CHECKING:
    from streams.driver import BatchApp

#: Without a commit, and without having nothing to commit, for this long a worker is not ready: it is stuck.
_STUCK_SECONDS: Final = 60.0


def add_pages(app: "BatchApp", role: str, model: str) -> None:
    """Add the pages to the app's web server."""
    metrics.BUILD.labels(version(), model, role).set(1)

    @app.page("/livez")
    async def livez(self: Any, request: Any) -> Any:
        del request
        return self.json({"status": "alive", "role": role})

    @app.page("/readyz")
    async def readyz(self: Any, request: Any) -> Any:
        del request
        problems = not_ready(app)
        return self.json(
            {"status": "not ready" if problems else "ready", "role": role, "problems": problems},
            status=503 if problems else 200,
        )

    @app.page("/metrics")
    async def exposition(self: Any, request: Any) -> Any:
        del request
        app.host.measure()
        return self.bytes(generate_latest(metrics.REGISTRY), content_type="text/plain")


def not_ready(app: "BatchApp") -> list[str]:
    """Why the worker makes no progress; empty: it does (also when no data arrives)."""
    problems = []
    if app.rebalancing:
        problems.append("a rebalance is under way")
    if not app.host.stages:
        problems.append("no partition is assigned yet")
    age = time.monotonic() - app.host.committed_at
    if age > _STUCK_SECONDS:
        problems.append(
            f"no offset could be settled for {age:.0f} s: see the log, and whether the sinks answer"
        )
    return problems


@contextmanager
def waiting_pages(host: str, port: int, role: str) -> Iterator[None]:
    """Serve the pages of a worker that waits for its broker, in a thread: it is alive, and not ready.

    Who asks for /livez only would end it otherwise, again and again, for what is not its doing.
    """

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, "text/plain", generate_latest(metrics.REGISTRY))
                return
            live = self.path == "/livez"
            said: dict[str, object] = {"status": "alive" if live else "not ready", "role": role}
            if not live:
                said["problems"] = ["no broker answers yet"]
            self._answer(200 if live else 503, "application/json", json.dumps(said).encode())

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Of what is asked every few seconds nothing is said."""

    with ThreadingHTTPServer((host, port), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, name="waiting-pages", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
