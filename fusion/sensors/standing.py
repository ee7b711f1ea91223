"""Which readings of a window count: its own, else what stands for a period that covers it."""

from collections.abc import Sequence

from fusion.sensors.memory import SeriesKey
from streams.join import DECLARED, RUNNING, Item


def standing_of(items: Sequence[Item], start: int, end: int) -> dict[tuple[str, str], dict[str, list[Item]]]:
    """Per (sensor, parameter) and channel the readings that count, in order of time."""
    own: dict[SeriesKey, list[Item]] = {}
    over: dict[SeriesKey, list[Item]] = {}
    for item in items:
        key = item.payload.sensor, item.payload.parameter, item.payload.channel
        (own if start <= item.time < end else over).setdefault(key, []).append(item)
    chosen: dict[tuple[str, str], dict[str, list[Item]]] = {}
    for key in sorted({*own, *over}):
        standing = sorted(_without_running(own.get(key, []), over.get(key, [])), key=_time)
        if not standing:
            # The mean of a period that has ended since is this window's own; else the newest still stands,
            # if it does, and has not only ended an earlier one.
            after = [item for item in over[key] if item.time >= end]
            after = _without_running(after, after) or after
            newest = min(after, key=_time) if after else max(over[key], key=_time)
            if newest.until <= start:
                continue
            standing = [newest]
        chosen.setdefault(key[:2], {})[key[2]] = standing
    return chosen


def _without_running(items: Sequence[Item], beside: Sequence[Item]) -> list[Item]:
    """The items without the running means, where there is the mean of a period in their place."""
    if any(item.basis == RUNNING for item in items) and any(
        item.basis == DECLARED for item in (*items, *beside)
    ):
        return [item for item in items if item.basis != RUNNING]
    return list(items)


def _time(item: Item) -> int:
    return item.time
