"""What a worker serves: /livez, /readyz and /metrics."""

import time
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
