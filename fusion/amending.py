"""Changes of the past: what a station knows after one, and readings that do not count. Pure.

Taken in a second time, or later than the first, a change leaves what is known as it is (streams/join.py).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from aqi.history import History
from aqi.slots import Mean
from camera.virtual_sensor import silenced
from fusion.learning import Air
from schemas.amendment import Amendment, HourMean, Withheld
from schemas.base import to_ms
from schemas.reading import Quantity
from schemas.times import HOUR_MS, end_of
from streams.join import Item, WindowView

#: Spans withheld at a station at a time; of more, the newest count.
MOST_WITHHELD: Final = 100
#: A reading stands for an hour at most: behind that, a span that is over withholds nothing of a window.
_PERIOD_MS: Final = HOUR_MS


class LeftOut(NamedTuple):
    """Readings that do not count: those with times in [since, until) (ms), by annotation.

    `sensor` and `parameter`: the only one meant; empty: all.
    """

    id: str
    since: int
    until: int
    sensor: str = ""
    parameter: str = ""

    def covers(self, time: int, value: Quantity) -> bool:
        """Whether a value observed then (ms) is one of them."""
        return (
            self.since <= time < self.until
            and self.sensor in ("", value.sensor)
            and self.parameter in ("", value.parameter)
        )


def amended(air: Air, amendment: Amendment) -> Air:
    """What is known of the air after the change."""
    history, last, virtual, gathered = air.history, dict(air.last), dict(air.virtual), air.gathered
    history = history_after(history, amendment)
    for name, span in sorted(amendment.unheard.items()):
        since, until = to_ms(span.since), to_ms(span.until)
        if name in last and since < last[name][1] <= until:
            del last[name]
        if gathered is not None and since < gathered.through and gathered.end - HOUR_MS < until:
            gathered = replace(
                gathered, measured={kept: sums for kept, sums in gathered.measured.items() if kept != name}
            )
        if name in virtual:
            before = silenced(virtual[name], since, end_of(until, HOUR_MS))
            if before is None:
                del virtual[name]
            else:
                virtual[name] = before
    for name, heard in sorted(amendment.heard.items()):
        at = to_ms(heard.at)
        if name not in last or last[name][1] < at:
            last[name] = heard.value, at
    return replace(air, history=history, last=last, virtual=virtual, gathered=gathered)


def history_after(history: History, amendment: Amendment) -> History:
    """The averages after the change."""
    for hour in amendment.hours:
        history = history.with_hour(
            to_ms(hour.end), {name: _mean(mean) for name, mean in sorted(hour.means.items())}
        )
    return history


def withheld_after(
    withheld: tuple[LeftOut, ...], amendment: Amendment, horizon_ms: int
) -> tuple[LeftOut, ...]:
    """What does not count after the change. `horizon_ms`: windows that end before are over."""
    kept = {one.id: one for one in withheld}
    kept |= {one.id: left_out(one) for one in amendment.withhold}
    for name in amendment.release:
        kept.pop(name, None)
    alive = [one for _, one in sorted(kept.items()) if one.until + _PERIOD_MS > horizon_ms]
    return tuple(alive[-MOST_WITHHELD:])


class WhatCounts(NamedTuple):
    """A window without the readings that do not count, and how many those are by annotation."""

    view: WindowView
    withheld: dict[str, int]


def not_withheld(view: WindowView, withheld: Iterable[LeftOut]) -> WhatCounts:
    """What of a window counts.

    Its revision stays: what was left out was an input. A reading that several withhold counts for the first.
    """
    spans = sorted(withheld)
    if not spans or "readings" not in view.inputs:
        return WhatCounts(view, {})
    kept: list[Item] = []
    gone: dict[str, int] = {}
    for item in view.inputs["readings"]:
        value: Quantity = item.payload
        by = next((one.id for one in spans if one.covers(item.time, value)), None)
        if by is None:
            kept.append(item)
        else:
            gone[by] = gone.get(by, 0) + 1
    if not gone:
        return WhatCounts(view, {})
    return WhatCounts(replace(view, inputs={**view.inputs, "readings": tuple(kept)}), gone)


def left_out(one: Withheld) -> LeftOut:
    """What is told to be withheld, as it is kept."""
    return LeftOut(one.id, to_ms(one.since), to_ms(one.until), one.sensor or "", one.parameter or "")


def hour_mean(mean: Mean) -> HourMean:
    """A mean as it travels; every digit is kept."""
    return HourMean(
        value=mean.value, measured_s=mean.measured_s, imputed_s=mean.imputed_s, below=mean.below,
        above=mean.above, persistence=mean.persistence,
    )  # fmt: skip


def _mean(mean: HourMean) -> Mean:
    return Mean(mean.value, mean.measured_s, mean.imputed_s, mean.below, mean.above, mean.persistence)


def latest_time(amendment: Amendment) -> int:
    """The latest event time (ms) that it speaks of: just before its last hour ends."""
    return max((to_ms(hour.end) - 1 for hour in amendment.hours), default=0)
