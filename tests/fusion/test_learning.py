"""What an estimate takes in of the hour that it lies in: nothing, until that hour is over."""

from dataclasses import replace

from aqi.history import History
from fusion.learning import Air, learned, virtual_estimate
from schemas.times import HOUR_MS

MINUTE = 60_000
MIDNIGHT = 1_750_204_800_000


def air(hours: list[float], minutes: int, level: float) -> Air:
    """After whole hours at these levels of PM2.5, and `minutes` of the next one at `level`."""
    known = Air(History.empty(48))
    values = [value for value in hours for _ in range(60)] + [level] * minutes
    for minute, value in enumerate(values, 1):
        known = learned(known, MIDNIGHT + minute * MINUTE, None, None, {"pm25": value}, {})
    return known


def test_the_hour_in_progress_is_not_taken_in_and_one_that_is_over_is() -> None:
    known = air([20.0] * 5, 30, 300.0)
    assert known.gathered is not None
    without = replace(known, gathered=None)
    for minute in (31, 60):
        now = MIDNIGHT + 5 * HOUR_MS + minute * MINUTE
        assert virtual_estimate(known, "pm25", now, None, None) == virtual_estimate(
            without, "pm25", now, None, None
        )
    later = MIDNIGHT + 6 * HOUR_MS + MINUTE
    assert virtual_estimate(known, "pm25", later, None, None) != virtual_estimate(
        without, "pm25", later, None, None
    )
