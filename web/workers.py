"""How the other workers fare: their /metrics, read every few seconds."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import urllib3
from prometheus_client.parser import text_string_to_metric_families

from schemas.base import from_ms
from web.documents import WorkerHealth
from web.live import WorkerAway, WorkerBehind

log = logging.getLogger(__name__)

_EVERY_S: Final = 3.0
#: So many looks in a row without an answer, and a worker is said to be down.
_DOWN_AFTER: Final = 2
_WAIT_S: Final = 2.0
#: Seconds that what a worker reads may be old before it is said to be behind, for so many looks in a row as
#: above; it has caught up below half of that.
_BEHIND_S: Final = 60.0
_MOST_BYTES: Final = 4 * 1024 * 1024
_HTTP: Final = urllib3.PoolManager(retries=False, timeout=_WAIT_S)


class Workers:
    """The workers that settings name.

    Args:
        urls: of their /metrics, by role.
        now: s since 1970.
    """

    def __init__(self, urls: Mapping[str, str], now: Callable[[], float] = time.time) -> None:
        self._urls = {role: url for role, url in urls.items() if url.startswith(("http://", "https://"))}
        self._now = now
        self._missed: dict[str, tuple[int, datetime]] = {}
        self._behind: dict[str, tuple[int, datetime]] = {}
        self.health: tuple[WorkerHealth, ...] = ()

    async def serve(self) -> None:
        """Read them until cancelled."""
        while self._urls:
            found = await asyncio.gather(
                *(asyncio.to_thread(_read, role, url) for role, url in self._urls.items())
            )
            self.note(found)
            await asyncio.sleep(_EVERY_S)

    def note(self, found: Sequence[WorkerHealth]) -> None:
        """Take what one look at all of them found. One that did not answer once may only be busy."""
        told = []
        for one in found:
            if one.up:
                self._missed.pop(one.role, None)
                told.append(one.model_copy(update={"behind_since": self._behind_since(one)}))
                continue
            count, since = self._missed.get(one.role, (0, from_ms(int(self._now()) * 1000)))
            self._missed[one.role] = count + 1, since
            before = next((known for known in self.health if known.role == one.role), None)
            if count + 1 < _DOWN_AFTER and before is not None and before.up:
                told.append(before)
            else:
                told.append(one.model_copy(update={"down_since": since}))
        self.health = tuple(told)

    def _behind_since(self, one: WorkerHealth) -> datetime | None:
        known = self._behind.get(one.role)
        count = 0 if known is None else known[0]
        if not one.lag_messages or one.lag_s < (_BEHIND_S if count < _DOWN_AFTER else _BEHIND_S / 2):
            self._behind.pop(one.role, None)
            return None
        since = from_ms(int(self._now()) * 1000) if known is None else known[1]
        self._behind[one.role] = count + 1, since
        return since if count + 1 >= _DOWN_AFTER else None

    @property
    def behind(self) -> tuple[WorkerBehind, ...]:
        """Those that answer, and are minutes behind."""
        return tuple(
            WorkerBehind(one.role, one.behind_since)
            for one in self.health
            if one.up and one.behind_since is not None
        )

    @property
    def away(self) -> tuple[WorkerAway, ...]:
        """Those that do not answer, or wait for an engine."""
        return tuple(
            WorkerAway(one.role, one.waits_for or "", since)
            for one in self.health
            if (since := one.waits_since if one.up else one.down_since) is not None
        )


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
