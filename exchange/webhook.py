"""Alert events to a web hook: signed, tried again while the receiver is away, given up with a reason.

The receiver gets the event's JSON by POST with

* ``Skyfuse-Event``: id/sequence, the same however often it is sent (deliveries may repeat);
* ``Skyfuse-Timestamp``: Unix seconds of the attempt;
* ``Skyfuse-Signature``: ``v1=`` and the hex HMAC-SHA256, keyed with the shared secret, of
  timestamp + "." + body. A receiver compares in constant time and refuses old timestamps (replays).
"""

import hashlib
import hmac
import http.client
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from schemas.alert import Alert
from streams.errors import WaitStopped
from streams.http_times import retry_after
from streams.patience import Hindrance, Patience

#: Answers by which a receiver says that this very event is unwelcome; it will not be sent again.
REFUSED: Final = frozenset({400, 404, 405, 410, 413, 415, 422})
#: Seconds between two looks whether the notifier is to end.
_LOOK_S: Final = 0.1


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """The signature header's value."""
    return "v1=" + hmac.new(secret, b"%d." % timestamp + body, hashlib.sha256).hexdigest()


def verify(secret: bytes, timestamp: int, body: bytes, signature: str) -> bool:
    """Whether `signature` is that of `body`, for receivers written in Python."""
    return hmac.compare_digest(sign(secret, timestamp, body), signature)


@dataclass
class _Attempt:
    """One POST in a thread of its own, so that nobody has to wait for a receiver that drips its answer."""

    connection: http.client.HTTPConnection
    path: str
    body: bytes
    headers: Mapping[str, str]
    done: threading.Event = field(default_factory=threading.Event)
    status: int | None = None
    retry_after: str | None = None
    words: bytes = b""
    error: str = ""
    late: bool = False

    def run(self) -> None:
        try:
            self.connection.request("POST", self.path, self.body, dict(self.headers))
            answer = self.connection.getresponse()
            self.retry_after = answer.headers.get("Retry-After")
            self.status = answer.status
            if not 200 <= answer.status < 300:
                self.words = answer.read(200)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.error = f"{error or type(error).__name__}"
        finally:
            self.connection.close()
            self.done.set()

    def give_up(self) -> None:
        """Cut the connection: whatever the thread waits for on it ends; what it finds then is no answer."""
        self.late = True
        if self.connection.sock is not None:
            with suppress(OSError):
                self.connection.sock.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Webhook:
    """One receiver. `now` gives Unix seconds; `attempts` before an event is given up.

    `timeout`: seconds that one attempt may take in all, from the look-up of the address to the status of the
    answer. `stopping`: set when the notifier is to end; no attempt is waited for then.
    """

    url: str
    secret: bytes
    patience: Patience
    now: Callable[[], float]
    attempts: int = 10
    timeout: float = 10.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def deliver(self, alert: Alert) -> str | None:
        """Send one event; None when it arrived, else why it was given up.

        Raises WaitStopped as soon as the notifier is stopping.
        """
        body = alert.model_dump_json().encode()
        reason = ""
        for attempt in range(self.attempts):
            timestamp = int(self.now())
            made = self._try(
                body,
                {
                    "Content-Type": "application/json",
                    "Skyfuse-Event": f"{alert.id}/{alert.sequence}",
                    "Skyfuse-Timestamp": str(timestamp),
                    "Skyfuse-Signature": sign(self.secret, timestamp, body),
                },
            )
            status, asked = made.status, None
            if status is None:
                error = f"no answer in {self.timeout:g} s" if made.late else made.error
                kind = "cannot be reached"
                reason = f"the receiver {kind}: {error}"
            else:
                if 200 <= status < 300:
                    return None
                kind = f"answers {status}"
                reason = f"the receiver {kind}: {made.words.decode(errors='replace')}"
                if status in REFUSED:
                    return reason
                asked = retry_after(made.retry_after, datetime.fromtimestamp(self.now(), UTC))
            if attempt + 1 < self.attempts:
                self.patience.pause(attempt, Hindrance("webhook", kind, reason), asked)
        return f"given up after {self.attempts} attempts: {reason}"

    def _try(self, body: bytes, headers: Mapping[str, str]) -> _Attempt:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # The thread's own limit is only for what cannot be cut: a connection that is not there yet.
        connection = kind(parts.hostname or "", parts.port, timeout=2 * self.timeout)
        attempt = _Attempt(connection, path, body, headers)
        threading.Thread(target=attempt.run, name="web-hook", daemon=True).start()
        deadline = time.monotonic() + self.timeout
        while not attempt.done.wait(min(_LOOK_S, max(0.0, deadline - time.monotonic()))):
            if self.stopping.is_set():
                attempt.give_up()
                raise WaitStopped("the notifier stopped while it waited for the receiver's answer")
            if time.monotonic() >= deadline:
                attempt.give_up()
                break
        return attempt
