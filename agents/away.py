"""A worker whose broker is away: what it says while it waits, and how it ends when it is told to."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

#: Seconds between two lines about a broker that is away. aiokafka has some thirty of them a second.
_SAID_EVERY: Final = 60.0
#: Without any sign for so long (s) the next one is of another outage.
_OVER_AFTER: Final = 10.0
#: In what aiokafka says of a broker that cannot be reached, and of nothing else.
_SIGNS: Final = (
    "Unable connect to",
    "Unable to update metadata",
    "NodeNotReady",
    "KafkaConnectionError",
)
#: Seconds from the signal to the end. Without a broker Faust and aiokafka would wait for it for ever.
_ENDS_WITHIN: Final = 8.0


class Away(logging.Filter):
    """Lets through of a broker's absence one line a minute, which says what is waited for and since when."""

    def __init__(self, broker: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._broker = broker
        self._clock = clock
        self._lock = threading.Lock()  # the consumer has a thread of its own
        self._since = self._last = self._said = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is said. Raises nothing."""
        if not record.name.startswith("aiokafka"):
            return True
        text = record.getMessage()
        if not any(sign in text for sign in _SIGNS):
            return True
        with self._lock:
            now = self._clock()
            if now - self._last > _OVER_AFTER:
                self._since, self._said = now, float("-inf")
            self._last = now
            if now - self._said < _SAID_EVERY:
                return False
            self._said = now
        record.msg = "waiting for the broker at %s, for %d s so far: %s"
        record.args = self._broker, int(now - self._since), text
        return True


def end_within() -> threading.Timer:
    """End the process soon whatever waits; cancelled where it ended by itself."""
    backstop = threading.Timer(_ENDS_WITHIN, _end)
    backstop.daemon = True
    backstop.start()
    return backstop


def _end() -> None:
    log.warning(
        "not ended %d s after it was told to, so it ends now as a killed worker does: its successor goes on"
        " from what is committed",
        _ENDS_WITHIN,
    )
    logging.shutdown()
    os._exit(0)
