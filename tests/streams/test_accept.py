"""What time a record may vouch for."""

import pytest
from aiokafka import ConsumerRecord

from schemas.errors import Refused
from streams.accept import MAX_AHEAD_MS, check_time

NOON = 1_750_248_000_000


def record(arrival: int) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord("aq.readings.v1", 0, 0, arrival, 0, b"s", b"", None, 1, 0, ())


@pytest.mark.parametrize(
    ("time", "vouched"),
    [(NOON - 5_000, NOON - 5_000), (NOON, NOON), (NOON + 1, NOON), (NOON + MAX_AHEAD_MS, NOON)],
)
def test_a_record_vouches_for_its_own_time_and_never_beyond_its_arrival(time: int, vouched: int) -> None:
    """A clock that runs ahead must not make what others still have to say late."""
    assert check_time(time, record(NOON)) == vouched


def test_a_time_that_cannot_be_is_refused() -> None:
    with pytest.raises(Refused, match="ahead of the broker's clock"):
        check_time(NOON + MAX_AHEAD_MS + 1, record(NOON))
    with pytest.raises(Refused, match="no timestamp"):
        check_time(NOON, record(-1))
