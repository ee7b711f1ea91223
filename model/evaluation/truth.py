"""The truth by which an estimate is scored, and from which the head learns: the AQI of a group of frames."""

from collections.abc import Sequence

import numpy as np

from datasets.groups import Group
from datasets.hourly import Hourly
from model.bundle.targets import calculate
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS, window_end

__all__ = ["with_target", "with_true_concentrations"]


def with_target(groups: Sequence[Group], standard_id: str) -> list[Group]:
    """Groups whose AQI is the standard's index of their own readings."""
    readings = np.array([group.readings for group in groups], dtype=np.float32).reshape(-1, len(POLLUTANTS))
    return [
        group._replace(aqi=float(aqi))
        for group, aqi in zip(groups, calculate(standard_id, readings), strict=True)
    ]


def with_true_concentrations(
    groups: Sequence[Group], hourly: Hourly, standard_id: str
) -> tuple[list[Group], int]:
    """Groups with true concentrations where `hourly` has their station and hour, and the AQI that follows
    from them; the others as they were. Also how many were replaced.
    """
    changed, count = [], 0
    for group in groups:
        at = int(group.time.timestamp() * 1000)
        true = hourly.get((group.site.station, window_end(at, HOUR_MS)))
        if true is None:
            changed.append(group)
            continue
        [replaced] = with_target([group._replace(readings=true)], standard_id)
        changed.append(replaced)
        count += 1
    return changed, count
