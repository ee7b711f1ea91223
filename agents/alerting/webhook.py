"""Alert events to a web hook: signed, tried again while the receiver is away, given up with a reason.

The receiver gets the event's JSON by POST with

* ``Skyfuse-Event``: id/sequence, the same however often it is sent (deliveries may repeat);
* ``Skyfuse-Timestamp``: Unix seconds of the attempt;
* ``Skyfuse-Signature``: ``v1=`` and the hex HMAC-SHA256, keyed with the shared secret, of
  timestamp + "." + body. A receiver compares in constant time and refuses old timestamps (replays).
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import urllib3

from schemas.alert import Alert
from streams.sinks.patience import Patience

#: Answers by which a receiver says that this very event is unwelcome; it will not be sent again.
REFUSED: Final = frozenset({400, 404, 405, 410, 413, 415, 422})


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """The signature header's value."""
    return "v1=" + hmac.new(secret, b"%d." % timestamp + body, hashlib.sha256).hexdigest()


def verify(secret: bytes, timestamp: int, body: bytes, signature: str) -> bool:
    """Whether `signature` is that of `body`, for receivers written in Python."""
    return hmac.compare_digest(sign(secret, timestamp, body), signature)


@dataclass(frozen=True)
class Webhook:
    """One receiver. `now` gives Unix seconds; `attempts` before an event is given up."""

    url: str
    secret: bytes
    patience: Patience
    now: Callable[[], float]
    attempts: int = 10
    timeout: float = 10.0
    http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False))

    def deliver(self, alert: Alert) -> str | None:
        """Send one event; None when it arrived, else why it was given up.

        Raises SinkStopped when the notifier is stopping while it waits.
        """
        body = alert.model_dump_json().encode()
        reason = ""
        for attempt in range(self.attempts):
            timestamp = int(self.now())
            asked = None
            try:
                answer = self.http.request(
                    "POST", self.url, body=body, redirect=False, timeout=self.timeout,
                    headers={
                        "Content-Type": "application/json",
                        "Skyfuse-Event": f"{alert.id}/{alert.sequence}",
                        "Skyfuse-Timestamp": str(timestamp),
                        "Skyfuse-Signature": sign(self.secret, timestamp, body),
                    },
                )  # fmt: skip
            except urllib3.exceptions.HTTPError as error:
                reason = f"the receiver cannot be reached: {error}"
            else:
                if 200 <= answer.status < 300:
                    return None
                reason = f"the receiver answers {answer.status}: {answer.data[:200].decode(errors='replace')}"
                if answer.status in REFUSED:
                    return reason
                wanted = answer.headers.get("Retry-After", "")
                asked = float(wanted) if wanted.isdecimal() else None
            if attempt + 1 < self.attempts:
                self.patience.pause(attempt, reason, asked)
        return f"given up after {self.attempts} attempts: {reason}"
