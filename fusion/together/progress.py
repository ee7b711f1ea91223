"""How far the sources of the network stage's log have come: what is waited for, closed and final."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schemas.alone import Mark
from schemas.times import HOUR_MS
from streams.join import BEGINNING

#: Estimates held in windows that are not final, until a source that is behind is not waited for.
MOST_HELD: Final = 100_000


@dataclass(frozen=True)
class MeetingRules:
    """Event-time rules, in ms: those of the join. `sources`: partitions of the fusion stage. `idle_timeout`:
    processing time; None: all sources are waited for. `radius_km`: how far a station is near."""

    size: int
    lateness: int
    sources: int
    idle_timeout: int | None = None
    radius_km: float = 50.0

    def kept_since(self, done: int) -> int:
        """The end of the last hour (ms) that is learned for all windows which may still be published, where
        windows up to `done` are final: what is stored is of then.
        """
        return (done - self.lateness) // HOUR_MS * HOUR_MS if done > BEGINNING else BEGINNING


class MeetingProgress:
    """The sources of one partition by number, with their `marks` (ms).

    `done`: windows that end up to it are final. `gone`: by station, the end of the window behind which it was
    retired.
    """

    def __init__(self, rules: MeetingRules, marks: Mapping[int, int], now: int) -> None:
        self.rules = rules
        self.marks: dict[int, int] = dict(marks)
        self.done = BEGINNING
        self.gone: dict[str, int] = {}
        self._active: dict[int, int] = dict.fromkeys(range(rules.sources), now)

    def take(self, mark: Mark, now: int) -> bool:
        """Take in a mark; whether its source has come farther."""
        if mark.source >= self.rules.sources:
            return False
        self._active[mark.source] = now
        if mark.final <= self.come(mark.source):
            return False
        self.marks[mark.source] = mark.final
        return True

    def come(self, source: int) -> int:
        """How far a source has come."""
        return self.marks.get(source, BEGINNING)

    def closed(self, source: int, end: int) -> bool:
        """Whether a source has published the windows that end at `end`."""
        return end <= self.come(source) + self.rules.lateness

    def waited(self, held: int, now: int) -> int:
        """How far all sources that are waited for have come, while so many estimates are held."""
        timeout = self.rules.idle_timeout
        marks = [self.come(source) for source in range(self.rules.sources)]
        if held > MOST_HELD:
            return max(marks)
        if timeout is None:
            return min(marks)
        active = [mark for source, mark in enumerate(marks) if now - self._active[source] < timeout]
        return min(active) if active else max(marks)
