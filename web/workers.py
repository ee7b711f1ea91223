"""How the other workers fare: their /metrics, read every few seconds."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import urllib3
from prometheus_client.parser import text_string_to_metric_families

from schemas.base import from_ms
from web.documents import WorkerHealth

log = logging.getLogger(__name__)

_EVERY_S: Final = 3.0
_WAIT_S: Final = 2.0
_MOST_BYTES: Final = 4 * 1024 * 1024
_HTTP: Final = urllib3.PoolManager(retries=False, timeout=_WAIT_S)


class Workers:
    """The workers that settings name.

    Args:
        urls: of their /metrics, by role.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = {role: url for role, url in urls.items() if url.startswith(("http://", "https://"))}
        self.health: tuple[WorkerHealth, ...] = ()

    async def serve(self) -> None:
        """Read them until cancelled."""
        while self._urls:
            found = await asyncio.gather(
                *(asyncio.to_thread(_read, role, url) for role, url in self._urls.items())
            )
            self.health = tuple(found)
            await asyncio.sleep(_EVERY_S)


def _read(role: str, url: str) -> WorkerHealth:
    try:
        answer = _HTTP.request("GET", url, preload_content=False)
        try:
            text = answer.read(_MOST_BYTES).decode()
        finally:
            answer.release_conn()
        return health_of(role, text) if answer.status == 200 else WorkerHealth(role=role, up=False)
    except (urllib3.exceptions.HTTPError, ValueError):
        return WorkerHealth(role=role, up=False)


def health_of(role: str, text: str) -> WorkerHealth:
    """What a worker's metrics say. Raises ValueError for text that is none."""
    messages = 0.0
    lag = 0.0
    watermarks: list[float] = []
    waits: tuple[str, float] | None = None
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            match sample.name:
                case "aq_consumer_lag_messages":
                    messages += sample.value
                case "aq_consumer_lag_seconds":
                    lag = max(lag, sample.value)
                case "aq_watermark_timestamp_seconds" if sample.value > 0:
                    watermarks.append(sample.value)
                case "aq_sink_waits_since_seconds":
                    waits = f"{sample.labels['sink']}: {sample.labels['why']}", sample.value
    return WorkerHealth(
        role=role,
        up=True,
        lag_messages=round(messages),
        lag_s=round(lag, 1),
        watermark=from_ms(round(min(watermarks) * 1000)) if watermarks else None,
        waits_for=None if waits is None else waits[0],
        waits_since=None if waits is None else from_ms(round(waits[1] * 1000)),
    )
