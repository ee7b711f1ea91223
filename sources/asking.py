"""Asking an address again and again: how it does, in a word, and how long to wait where it gave nothing.

Cameras, and addresses that are asked for readings, are asked alike: what fails is asked later and later, not
before the time that a server has named, and never by a whole fleet of gateways in step.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

from datasets.errors import SourceError
from sources.entries import AskedEntry
from sources.errors import FetchError
from sources.fetch import Asked
from sources.gateway.errors import KafkaAway

log = logging.getLogger(__name__)

T = TypeVar("T")


class Setback(NamedTuple):
    """There was no answer, or it was not published.

    `pause_s`: until it is asked again; `asked_s`: how much of that the server has asked for.
    """

    pause_s: float
    asked_s: float = 0.0


class Availability:
    """How an address does that is asked: one word for the metric, a sentence for people when it changes.

    Args:
        who: for people, such as `camera roof/main`.
        every_s: seconds between two questions while it answers.
        counted: is given the word each time it is asked.
        changed: is given the word before ("" at first), the new one, and the sentence for people.
    """

    def __init__(
        self,
        who: str,
        every_s: float,
        *,
        counted: Callable[[str], None],
        changed: Callable[[str, str, str], None] = lambda _, __, ___: None,
    ) -> None:
        self._who = who
        self._every_s = every_s
        self._counted = counted
        self._changed = changed
        self.word = ""
        self.failures = 0  #: in a row

    def good(self, word: str, words: str, *, warn: bool = False) -> None:
        """It answers. `warn`: that is worth a warning all the same."""
        self.failures = 0
        self._become(word, words, logging.WARNING if warn else logging.INFO)

    def fault(self, word: str, words: str) -> None:
        """It does not."""
        self.failures += 1
        self._become(word, words, logging.WARNING)

    def _become(self, word: str, words: str, level: int) -> None:
        self._counted(word)
        if word == self.word:
            return
        before, self.word = self.word, word
        self._changed(before, word, words)
        log.log(level, "%s is %s: %s", self._who, word, words)

    async def ask(self, once: Callable[[], Awaitable[T]]) -> T | Setback:
        """What `once` gives, which says itself how it went; else what came between. Raises no Exception."""
        try:
            return await once()
        except (FetchError, SourceError) as error:
            self.fault(error.code if isinstance(error, FetchError) else "no_password", str(error))
            asked_s = (error.retry_after_s if isinstance(error, FetchError) else None) or 0.0
            return Setback(max(pause_s(self.failures, self._every_s), asked_s), asked_s)
        except KafkaAway as error:
            return Setback(error.retry_after_s * random.uniform(1.0, 1.5))
        except Exception:
            self.fault("unexpected", "something went wrong that should not, as written here")
            log.exception("%s", self._who)
            return Setback(pause_s(self.failures, self._every_s))


def asked_of(entry: AskedEntry, url: str, most_bytes: int, headers: Mapping[str, str] | None = None) -> Asked:
    """Whom to ask for an entry, and as whom: its password is read anew. Raises SourceError."""
    return Asked(
        url, entry.local, most_bytes, entry.credentials(), headers or {}, entry.timeout.total_seconds()
    )


def pause_s(
    failures: int, every_s: float, longest_s: float = 900.0, *, draw: random.Random | None = None
) -> float:
    """Seconds until the next try after so many failures in a row: doubled each time, and somewhat by chance.

    It is never less than half of `every_s`, and never much more than `longest_s` or `every_s`.
    """
    base = min(every_s * 2.0 ** min(failures - 1, 30), max(longest_s, every_s))
    return base * (draw or random).uniform(0.75, 1.25)
