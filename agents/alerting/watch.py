"""The alerts of one partition: estimates in log order in, events out.

Event time is the end of the latest window seen in the partition, and it moves record by record: the events
are a function of the log alone, not of how it was cut into batches, so a worker that starts again from a
checkpoint tells the same events under the same ids and sequences.

Silence is told when *other* stations of the partition go on. When all of them fall silent event time stands
still; that is an outage of the pipeline, and the pipeline's own metrics alert on it.
"""

import heapq
from collections.abc import Iterable, Mapping

from agents.alerting.rules import Rules
from agents.alerting.station import StationAlerts
from schemas.alert import Alert
from schemas.base import to_ms
from schemas.estimate import Estimate


class Watch:
    """Alert states of the stations of one partition. `horizon`: ms for which windows may be revised."""

    def __init__(
        self, rules: Rules, horizon: int, checkpoint: Mapping[str, StationAlerts] | None = None
    ) -> None:
        self.rules = rules
        self._horizon = horizon
        self._states = dict(checkpoint or {})
        self._watermark = max((state.watermark for state in self._states.values()), default=0)
        self._due = [(state.due, name) for name, state in self._states.items() if state.due is not None]
        heapq.heapify(self._due)
        self._changed: set[str] = set()
        self._applied: Rules | None = None

    def feed(self, estimates: Iterable[Estimate]) -> list[Alert]:
        """The events that follow from `estimates`, which continue the log."""
        events: list[Alert] = []
        for estimate in estimates:
            if self._applied is not self.rules:
                events += self._without_the_removed()
            end = to_ms(estimate.window.end)
            state = self._states.get(estimate.station) or StationAlerts(estimate.station)
            # First of all: an estimate that raises has then moved nothing.
            after, told = state.take(self.rules, estimate, max(end, self._watermark), self._horizon)
            if end > self._watermark:
                self._watermark = end
                events += self._silences(estimate.station)
            self._keep(state, after)
            events += told
        return events

    def states(self) -> Mapping[str, StationAlerts]:
        """The states, by station."""
        return self._states

    def changes(self) -> dict[str, StationAlerts]:
        """The states that changed since the last call, by station."""
        changed = {station: self._states[station] for station in sorted(self._changed)}
        self._changed.clear()
        return changed

    def _without_the_removed(self) -> list[Alert]:
        """End the alerts of rules that are no more, also of stations that are silent."""
        self._applied = self.rules
        events: list[Alert] = []
        for name in sorted(self._states):
            state = self._states[name]
            after, told = state.without(self.rules)
            self._keep(state, after)
            events += told
        return events

    def _silences(self, but: str) -> list[Alert]:
        """Silence that the new watermark shows. The station that just spoke tells its own in its turn."""
        events: list[Alert] = []
        again = []
        while self._due and self._due[0][0] < self._watermark:
            due, station = heapq.heappop(self._due)
            state = self._states[station]
            if state.due != due:
                continue  # the station has been heard since
            if station == but:
                again.append((due, station))
                continue
            after, told = state.advance(self.rules, self._watermark, self._horizon)
            self._keep(state, after)
            events += told
        for one in again:
            heapq.heappush(self._due, one)
        return events

    def _keep(self, before: StationAlerts, after: StationAlerts) -> None:
        if after is before:
            return
        self._states[after.station] = after
        self._changed.add(after.station)
        if after.due is not None and after.due != before.due:
            heapq.heappush(self._due, (after.due, after.station))
