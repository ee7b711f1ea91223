"""The alerts of one partition: estimates in log order in, events out.

Event time is the end of the latest window seen in the partition, and it moves record by record: the events
are a function of the log alone, not of how it was cut into batches, so a worker that starts again from a
checkpoint tells the same events under the same ids and sequences.

Silence is told when time goes on without a station: while others of the partition speak, their windows show
it. Where all are quiet `pass_time` says how far time has come; whoever calls it sees to it that a successor
calls it with the same time at the same place of the log.
"""

import heapq
from collections.abc import Iterable, Mapping

from alerting.rules import AlertRules
from alerting.station import STRAGGLE_MS, StationAlerts
from schemas.alert import Alert
from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.forecast import Forecast


class Watch:
    """Alert states of the stations of one partition. `horizon`: ms for which windows may be revised."""

    def __init__(
        self, rules: AlertRules, horizon: int, checkpoint: Mapping[str, StationAlerts] | None = None
    ) -> None:
        self.rules = rules
        self._horizon = horizon
        self._states = {
            station: state.with_rhythm()
            for station, state in (checkpoint or {}).items()
            if state != StationAlerts(station)  # of a station that is gone
        }
        self._watermark = max((state.watermark for state in self._states.values()), default=0)
        #: Time that is known to have passed: the watermark, or more.
        self._now = max([self._watermark, *(state.now for state in self._states.values())])
        self._due = [(state.due, name) for name, state in self._states.items() if state.due is not None]
        heapq.heapify(self._due)
        self._changed: set[str] = set()
        self._applied: AlertRules | None = None

    def feed(self, estimates: Iterable[Estimate]) -> list[Alert]:
        """The events that follow from `estimates`, which continue the log."""
        events: list[Alert] = []
        for estimate in estimates:
            if self._applied is not self.rules:
                events += self._under_new_rules()
            end = to_ms(estimate.window.end)
            if estimate.unheard:  # its region speaks for it: time goes on, and it is silent
                events += self._moved(end, None)
                continue
            state = self._states.get(estimate.station) or StationAlerts(estimate.station)
            # First of all: an estimate that raises has then moved nothing.
            watermark, now = max(end, self._watermark), max(end, self._now)
            after, news = state.take(self.rules, estimate, watermark, self._horizon, now)
            events += self._moved(end, estimate.station)
            self._keep(state, after)
            events += news
        return events

    def foresee(self, forecasts: Iterable[Forecast]) -> list[Alert]:
        """The events that follow from `forecasts`, which continue their log; nothing else is fed then."""
        events: list[Alert] = []
        for forecast in forecasts:
            if self._applied is not self.rules:
                events += self._under_new_rules()
            end = to_ms(forecast.issued_at)
            state = self._states.get(forecast.station) or StationAlerts(forecast.station)
            after, news = state.foresee(self.rules, forecast, max(end, self._watermark), self._horizon)
            events += self._moved(end, forecast.station)
            self._keep(state, after)
            events += news
        return events

    def _moved(self, end: int, station: str | None) -> list[Alert]:
        """Time has come to `end` by a window (of `station`, which tells its own in its turn)."""
        if end <= self._watermark:
            return []
        self._watermark = end
        self._now = max(self._now, end)
        return self._silences(station)

    def pass_time(self, now: int) -> list[Alert]:
        """The events when time has come to `now`, ms, and no station has said anything more.

        No window becomes final by it: what was waited for may come yet.
        """
        if now <= self._now:
            return []
        self._now = now
        return self._silences(None)

    def retire(self, station: str, at: int) -> list[Alert]:
        """The events when `station` is taken out of service at `at`, ms: its alerts end, its state goes.

        A station that has been heard since is in service again: nothing happens.
        """
        state = self._states.get(station)
        if state is None or state.rhythm.newest > at + STRAGGLE_MS:
            return []
        after, events = state.retire(at)
        self._keep(state, after)
        return events

    @property
    def now(self) -> int:
        """Time that is known to have passed, ms: the end of the newest window, or more (`pass_time`)."""
        return self._now

    @property
    def watermark(self) -> int:
        """End of the newest window, ms; 0 before the first."""
        return self._watermark

    def due(self) -> int | None:
        """The time above which something is to be told although nothing comes, ms."""
        while self._due and self._stale(*self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    @property
    def unsaved(self) -> bool:
        """Whether states have changed since `changes` was asked."""
        return bool(self._changed)

    def states(self) -> Mapping[str, StationAlerts]:
        """The states, by station."""
        return self._states

    def changes(self) -> dict[str, StationAlerts]:
        """The states that changed since the last call, by station; an empty one of a station that is gone."""
        changed = {
            station: self._states.get(station) or StationAlerts(station) for station in sorted(self._changed)
        }
        self._changed.clear()
        return changed

    def _under_new_rules(self) -> list[Alert]:
        """What new rules change at every station, also at those that are silent."""
        self._applied = self.rules
        events: list[Alert] = []
        for name in sorted(self._states):
            state = self._states[name]
            after, news = state.under(self.rules, self._horizon)
            self._keep(state, after)
            events += news
        return events

    def _silences(self, but: str | None) -> list[Alert]:
        """What the new time shows. The station that just spoke tells its own in its turn."""
        events: list[Alert] = []
        again = []
        while self._due and self._due[0][0] < self._now:
            due, station = heapq.heappop(self._due)
            if self._stale(due, station):
                continue
            if station == but:
                again.append((due, station))
                continue
            state = self._states[station]
            after, news = state.advance(self.rules, self._watermark, self._horizon, self._now)
            self._keep(state, after)
            events += news
        for one in again:
            heapq.heappush(self._due, one)
        return events

    def _stale(self, due: int, station: str) -> bool:
        """Whether the station has been heard since this was put down, or is gone."""
        state = self._states.get(station)
        return state is None or state.due != due

    def _keep(self, before: StationAlerts, after: StationAlerts | None) -> None:
        if after is before:
            return
        self._changed.add(before.station)
        if after is None:
            del self._states[before.station]
            return
        self._states[after.station] = after
        if after.due is not None and after.due != before.due:
            heapq.heappush(self._due, (after.due, after.station))
