"""What an estimate takes in of the hour that it lies in: the last value; the rest once that hour is over."""

from dataclasses import replace

from aqi.history import History
from camera.virtual_sensor import update
from fusion.learning import Air, learned, virtual_estimate
from schemas.state import pack
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


def test_virtual_sensors_move_once_an_hour_by_its_mean() -> None:
    """At the first window of a later hour, as of the last window of their own; it ends at its last value."""
    known = air([20.0] * 4, 1, 30.0)
    virtual, end = known.virtual, MIDNIGHT + 5 * HOUR_MS
    for minute in range(2, 61):
        value = 30.0 if minute <= 30 else 50.0
        known = learned(known, end - HOUR_MS + minute * MINUTE, None, None, {"pm25": value}, {})
        assert known.virtual is virtual
    known = learned(known, end + MINUTE, None, None, {"pm25": 900.0}, {})
    assert pack(known.virtual["pm25"]) == pack(update(virtual["pm25"], end, None, 40.0, closing=(50.0, end)))
    assert known.virtual_at == end + MINUTE
