"""What follows from windows that were made again, for those after them and for the worker's memory. Pure.

An index rests on the averages of up to two days. When a window is made again, the windows after it are
published once more where their index comes out otherwise: with their own pollutants as they are, and the
averages as the newest revisions of the windows before them have it. And the fusion worker, which keeps those
averages, is told the hours anew (`schemas.amendment`); so what it publishes from then on is what it would
have published had nothing come late.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aqi.flags import SUSPECT
from aqi.history import History
from aqi.older_ozone import OZONE_KEPT
from aqi.slots import Mean
from backfill.windows import PAST_MS, Span, hour
from fusion.amending import hour_mean
from fusion.conclusion import Counts, nothing_known
from fusion.indices import indices, standards_of
from schemas.amendment import AmendedHour, Amendment, Heard, Unheard
from schemas.base import from_ms, to_ms
from schemas.estimate import Estimate
from schemas.parameters import Pollutant
from schemas.station import Station
from schemas.times import HOUR_MS

_AT_ONCE: Final = 256


@dataclass
class Healing:
    """One station's windows after some of them were made again.

    Attributes:
        touched: ends (ms) of the windows that late or invalidated data belong to, in order.
        size_ms, lateness_ms: of the windows.
        final: end of the last window that is final (ms): a later one is the worker's own to publish.
        complete_since: event time (ms) from which on everything that was published is known.
        unmeasured: since and until when a pollutant is not measured any more where it was.
        measured: pollutants that the station is known to have measured, some time ago.
    """

    name: str
    station: Station | None
    touched: Sequence[int]
    size_ms: int
    lateness_ms: int
    final: int
    complete_since: float
    unmeasured: Mapping[Pollutant, Span] = field(default_factory=dict)
    measured: Collection[str] = ()
    _hours: dict[int, dict[str, Mean]] = field(default_factory=dict)
    #: Whether the station sends means over a period that ends in the hour after the one it begins in.
    _reaching: bool = False
    _last: dict[Pollutant, tuple[float, int]] = field(default_factory=dict)

    def heal(self, windows: Iterable[Estimate]) -> Iterator[Estimate]:
        """The estimates to publish again, of the newest revisions in order of time."""
        history = nothing_known(self.station).history.having_measured(self.measured)
        waiting: deque[tuple[int, Counts]] = deque()
        asked: list[tuple[Estimate, History]] = []
        touched = set(self.touched)
        due = {hour(end) for end in touched}
        for estimate in windows:
            end = to_ms(estimate.window.end)
            if end > self.final or end - to_ms(estimate.window.start) != self.size_ms:
                continue  # windows of another size (the setting was changed) do not fit into the averages
            counts = Counts.of(estimate.pollutants, end, self.size_ms)
            self._keep_last(estimate, end)
            for since, _ in counts.periods.values():
                if hour(since + 1) < hour(end):
                    self._reaching = True
                    due |= {hour(since + 1)} if end in touched else set()
            # As the worker did it: of the windows before, those that were final one allowed lateness ago.
            while waiting and waiting[0][0] <= end - self.lateness_ms:
                before, of_it = waiting.popleft()
                self._take_hours(due, history, before)
                history = of_it.into(history, before, self.size_ms)
            if self._affected(end):
                asked.append((estimate, counts.into(history, end, self.size_ms)))
                if len(asked) == _AT_ONCE:
                    yield from self._anew(asked)
                    asked = []
            waiting.append((end, counts))
        for before, of_it in waiting:
            self._take_hours(due, history, before)
            history = of_it.into(history, before, self.size_ms)
        self._take_hours(due, history, self.final + PAST_MS)
        yield from self._anew(asked)

    def _take_hours(self, due: set[int], history: History, following: int) -> None:
        """Keep those of the hours of which all is in, before the window that ends at `following`.

        The last mean that an hour is part of may end with the hour after it.
        """
        for end in [end for end in due if end + HOUR_MS < following]:
            self._hours[end] = history.hour(end)
            due.discard(end)

    def amendment(self) -> Amendment:
        """What the worker has to know anew; ask when `heal` is through."""
        hours = tuple(
            AmendedHour(
                end=from_ms(end),
                means={name: hour_mean(mean) for name, mean in sorted(found.items())},  # type: ignore[misc]
            )
            for end, found in sorted(self._hours.items())
            if self.final - PAST_MS < end <= self._over and end - HOUR_MS >= self.complete_since
        )
        touched = set(self.touched)
        return Amendment(
            station=self.name,
            hours=hours,
            heard={
                name: Heard(value=value, at=from_ms(at))
                for name, (value, at) in sorted(self._last.items())
                if at in touched or name in self.unmeasured
            },
            unheard={
                name: Unheard(since=from_ms(since), until=from_ms(until))
                for name, (since, until) in sorted(self.unmeasured.items())
            },
        )

    @property
    def in_progress(self) -> int:
        """Hours with windows made again that the worker is not through with: they cannot be told yet."""
        return len({hour(end) for end in self.touched if hour(end) > self._over})

    @property
    def _over(self) -> int:
        """End (ms) of the last time of which all windows that count in it are final."""
        return self.final - HOUR_MS if self._reaching else self.final

    def _affected(self, end: int) -> bool:
        before = bisect_right(self.touched, end - max(self.lateness_ms, 1))
        if not before or end - self.touched[before - 1] > PAST_MS:
            place = bisect_left(self.touched, end)
            if self.touched[place : place + 1] != [end]:
                return False
        return end - reach(self.measured) >= self.complete_since

    def _anew(self, asked: Sequence[tuple[Estimate, History]]) -> Iterator[Estimate]:
        standards = standards_of(self.station)
        made = indices([(standards, history, to_ms(one.window.end)) for one, history in asked])
        for (estimate, _), blocks in zip(asked, made, strict=True):
            if tuple(blocks) != estimate.indices:
                yield estimate.model_copy(
                    update={
                        "indices": tuple(blocks),
                        "revision": estimate.revision + 1,
                        "amended": estimate.amended + 1,
                    }
                )

    def _keep_last(self, estimate: Estimate, end: int) -> None:
        for name, pollutant in estimate.pollutants.items():
            if pollutant.kind != "imputed" and pollutant.qc != SUSPECT:
                self._last[name] = pollutant.value, end


def reach(measured: Collection[str]) -> int:
    """How far back (ms) averages reach where these were measured: the NowCast of ozone goes furthest."""
    return max(PAST_MS, (OZONE_KEPT + 1) * HOUR_MS) if "o3" in measured else PAST_MS


class AmendmentsOnLog:
    """What the amendments of a station say, all together."""

    def __init__(self) -> None:
        self._hours: dict[Any, Any] = {}
        self._last: dict[Pollutant, Heard] = {}
        self._unmeasured: dict[Pollutant, Unheard] = {}
        #: Ids of what does not count.
        self.withheld: set[str] = set()

    def add(self, amendment: Amendment) -> None:
        """The next one on the log."""
        self._hours |= {hour.end: hour for hour in amendment.hours}
        self._last |= amendment.heard
        self._unmeasured |= amendment.unheard
        self.withheld |= {one.id for one in amendment.withhold}
        self.withheld -= set(amendment.release)

    def missing_of(self, amendment: Amendment) -> Amendment | None:
        """What of it was not said yet; None: nothing."""
        hours = tuple(hour for hour in amendment.hours if self._hours.get(hour.end) != hour)
        heard = {name: one for name, one in amendment.heard.items() if self._last.get(name) != one}
        unheard = {name: one for name, one in amendment.unheard.items() if self._unmeasured.get(name) != one}
        if not (hours or heard or unheard):
            return None
        return amendment.model_copy(update={"hours": hours, "heard": heard, "unheard": unheard})
