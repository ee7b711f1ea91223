"""Latest state per station in Redis, for the live table, pages and other programs.

A cache: losing it loses nothing, a worker that re-reads the estimates topic fills it again. So a Redis that
is away is noted and passed over, never waited for.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Final

import redis

from schemas.base import to_ms
from schemas.estimate import Estimate

log = logging.getLogger(__name__)

_PREFIX: Final = "skyfuse:latest:"
#: A station that has been silent for this long leaves the cache.
_EXPIRE_SECONDS: Final = 7 * 24 * 3600
#: Keep what is newer: a later window, or a higher revision of the same one.
_SET_IF_NEWER: Final = """
local kept = redis.call('HMGET', KEYS[1], 'end', 'revision')
local last = tonumber(kept[1])
local at, revision = tonumber(ARGV[1]), tonumber(ARGV[2])
if last and (last > at or (last == at and tonumber(kept[2]) > revision)) then
  return 0
end
redis.call('HSET', KEYS[1], 'end', ARGV[1], 'revision', ARGV[2], 'estimate', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""


class LatestCache:
    """The newest estimate of every station."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0)
        self._set_if_newer = self._client.register_script(_SET_IF_NEWER)
        self._away = False

    def write(self, estimates: Iterable[Estimate]) -> None:
        """Keep each estimate that is newer than what is there."""
        try:
            for estimate in estimates:
                at, data = to_ms(estimate.window.end), estimate.model_dump_json()
                self._set_if_newer(
                    keys=[_PREFIX + estimate.station], args=[at, estimate.revision, data, _EXPIRE_SECONDS]
                )
            self._away = False
        except redis.RedisError as error:
            if not self._away:
                log.warning("the latest-state cache is away and is passed over until it returns: %s", error)
            self._away = True

    def remove(self, stations: Iterable[str]) -> None:
        """Stations are retired: what is there of them goes."""
        try:
            for station in stations:
                self._client.delete(_PREFIX + station)
        except redis.RedisError as error:
            log.warning("retired stations stay in the cache until they expire: %s", error)

    def read(self) -> Iterator[Estimate]:
        """Newest estimate of every station (redis.RedisError where the cache is away)."""
        for key in self._client.scan_iter(match=_PREFIX + "*"):
            data = self._client.hget(key, "estimate")
            if isinstance(data, bytes):
                yield Estimate.model_validate_json(data)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
