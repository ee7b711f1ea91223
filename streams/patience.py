"""How what writes to a server waits while it is away: for ever, politely, but not longer than the worker."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from streams.errors import WaitStopped


@dataclass(frozen=True)
class Hindrance:
    """What is waited for: whose engine, in words of which there are few (they name a series), and in full."""

    sink: Literal["influx", "store", "webhook"]
    kind: str
    words: str


def _nobody(trouble: Hindrance, seconds: float) -> None:
    """Told of every wait when the caller does not care."""


def _nothing() -> None:
    """Told of the end of a wait when the caller does not care."""


@dataclass(frozen=True)
class Patience:
    """Exponential back-off with jitter, ended by `stopping`.

    `wait(seconds)` blocks and returns True if the worker is stopping; `uniform()` is in [0, 1);
    `on_wait(trouble, seconds)` hears of every pause (readiness, metrics, log), `on_end()` of their end: the
    engine works again, or the worker stops.
    """

    wait: Callable[[float], bool]
    uniform: Callable[[], float] = random.random
    on_wait: Callable[[Hindrance, float], None] = field(default=_nobody)
    on_end: Callable[[], None] = field(default=_nothing)
    first: float = 0.5
    longest: float = 30.0
    #: A server that asks for more than this is mistaken.
    longest_asked: float = 600.0

    @classmethod
    def until(
        cls,
        stopping: threading.Event,
        on_wait: Callable[[Hindrance, float], None] = _nobody,
        on_end: Callable[[], None] = _nothing,
    ) -> "Patience":
        """Patience on the real clock that lasts until `stopping` is set."""
        return cls(wait=stopping.wait, on_wait=on_wait, on_end=on_end)

    def pause(self, attempt: int, trouble: Hindrance, asked: float | None = None) -> None:
        """Wait before attempt number `attempt` + 1 (the first failed one is 0).

        `asked`: seconds the server wants (Retry-After); the wait is at least that, plus jitter.
        Raises WaitStopped as soon as the worker is stopping.
        """
        backoff = min(self.longest, self.first * 2 ** min(attempt, 30)) * (0.5 + 0.5 * self.uniform())
        if asked is not None:
            backoff = min(asked, self.longest_asked) + self.first * self.uniform()
        self.on_wait(trouble, backoff)
        if self.wait(backoff):
            self.on_end()
            raise WaitStopped(f"the worker stopped while this was waited for: {trouble.words}")
