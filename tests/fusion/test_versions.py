"""Records that count for a time: a change acts on windows that begin then or later, however it was read."""

import pytest

from schemas.base import from_ms
from schemas.reading import Observation, Quantity
from schemas.station import Sensor, Station
from streams.cadences import Cadences
from streams.standing import Periods
from tests.fusion.town import DAY, HOUR, MINUTE, Town, reading, value

NOON = DAY + 12 * HOUR


def station(correction: str) -> Station:
    return Station(station="s", sensors=(Sensor(sensor="main", parameters=("pm25",), correction=correction),))


OLD, NEW = station("identity"), station("linear:slope=2,offset=0")
CHANGED = NEW.model_copy(update={"valid_from": from_ms(NOON), "earlier": (OLD,)})
MESSAGES = [reading("s", NOON + number * MINUTE, value("pm25", 10.0)) for number in range(-30, 31)]


def by_end(record: Station, poll: int = 7) -> dict[int, float]:
    town = Town({"s": record})
    town.hear(MESSAGES, poll)
    town.until(NOON + 2 * HOUR)
    return {end: one.pollutants["pm25"].value for (_, end), one in town.estimates.items() if one.pollutants}


@pytest.mark.parametrize("poll", [1, 7, 500])
def test_a_correction_changes_with_the_window_that_begins_then(poll: int) -> None:
    found = by_end(CHANGED, poll)
    assert found
    before, after = by_end(OLD), by_end(NEW)
    for end, number in found.items():
        assert number == (before if end - MINUTE < NOON else after)[end]
    assert {found[end] for end in found if end <= NOON} == {10.0}
    assert {found[NOON + number * MINUTE] for number in range(2, 20)} == {20.0}


def test_a_record_without_a_history_is_as_it_was() -> None:
    assert by_end(OLD) == by_end(OLD.model_copy(update={"valid_from": from_ms(NOON)}))


def test_a_declared_period_counts_for_what_was_stamped_since() -> None:
    def declared(period: int | None) -> Station:
        sensor = Sensor(sensor="main", parameters=("pm25",), period=period)
        return Station(station="s", sensors=(sensor,))

    record = declared(600).model_copy(update={"valid_from": from_ms(NOON), "earlier": (declared(None),)})
    periods = Periods(MINUTE, Cadences(), {"s": record}.get)
    values = [Quantity("pm25", 10.0, "ug/m3", "main", "value")]
    found = [
        periods.of(Observation("s", at, values), NOON + HOUR, number)[0].period
        for number, at in enumerate((NOON - 1, NOON))
    ]
    assert found == [0, 600_000]
