"""Whom a station listens to: what the network's stage has learned of its region, looked up now and then."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from agents.network import stored_regions
from network.listening import Listening, listening
from schemas.errors import SkyfuseError

log = logging.getLogger(__name__)

#: Seconds that it is kept for: a region stores what it has learned once an hour.
_KEPT_S: Final = 600.0
#: Seconds until it is tried again where it could not be read.
_RETRY_S: Final = 30.0


class Neighbours:
    """Answers in a thread: the topic of what regions have learned is read when somebody asks.

    Args:
        read: the records of that topic; None: no network's stage runs here.
        clock: s, monotonic.
    """

    def __init__(
        self, read: Callable[[], Iterable[Any]] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._found: Mapping[str, list[Listening]] = {}

    def of(self, station: str) -> list[Listening]:
        """The sensors of a station, each with who would stand in for it; none where nothing is known."""
        if self._read is None:
            return []
        with self._lock:
            if self._clock() >= self._until:
                try:
                    self._found = _by_station(self._read())
                    self._until = self._clock() + _KEPT_S
                except SkyfuseError as error:
                    log.warning("what regions have learned cannot be read now: %s", error)
                    self._until = self._clock() + _RETRY_S
            return self._found.get(station, [])


def _by_station(records: Iterable[Any]) -> dict[str, list[Listening]]:
    found: dict[str, list[Listening]] = {}
    for _, learned in stored_regions(records).values():
        for one in listening(learned.air):
            found.setdefault(one.variable.station, []).append(one)
    return found
