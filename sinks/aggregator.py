"""Writes the aggregates that are due into the database, each kind into its own bucket."""

from collections.abc import Callable, Sequence

from schemas.base import to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate
from sinks.aggregates import KINDS, Period, aggregate
from sinks.influx import InfluxSink, Rejection
from sinks.points import Point
from sinks.store import Store
from streams.boundary import guarded

#: Periods computed at a time: bounds what is held while a backfill makes many due.
_AT_ONCE = 200


class Aggregator:
    """Aggregates of the stations of one partition, told from others by `mine`.

    The bucket of a kind is the sink's own name with the kind behind it: aq, aq_hourly, aq_daily.
    """

    def __init__(self, store: Store, influx: InfluxSink, bucket: str, mine: Callable[[str], bool]) -> None:
        self._store = store
        self._influx = influx
        self._bucket = bucket
        self._mine = mine
        self._watermark = 0

    def after(self, estimates: Sequence[Estimate]) -> list[Rejection]:
        """Write what has become due by `estimates`, which are in the store; blocks as `InfluxSink.write`.

        Returns the points that the server will not take; they are not due any more.
        """
        ends = (to_ms(estimate.window.end) for estimate in estimates)
        self._watermark = max(self._watermark, *ends, 0)
        due = [period for period in self._store.due(self._watermark) if self._mine(period.station)]
        rejections: list[Rejection] = []
        for start in range(0, len(due), _AT_ONCE):
            periods = due[start : start + _AT_ONCE]
            for kind in KINDS:
                points: list[Point] = []
                for period in periods:
                    if period.kind == kind:
                        made = guarded(lambda period=period: self._points(period))  # type: ignore[misc]
                        if isinstance(made, Refused):
                            rejections.append(Rejection(-1, "", f"no aggregate of {period}: {made}"))
                        else:
                            points += made
                if points:
                    rejections += self._influx.write_points(points, f"{self._bucket}_{kind}")
            self._store.computed(periods)
        return rejections

    def _points(self, period: Period) -> list[Point]:
        tally = self._store.tally(period)
        # Where windows have left that the store cannot tell any more, what was written before is better.
        return [] if tally is None or not tally.windows else aggregate(period, tally)
