"""What time a record may vouch for."""

import pytest
from aiokafka import ConsumerRecord

from schemas.dead_letter import DeadLetter
from schemas.errors import Refused
from schemas.limits import MAX_AHEAD_MS
from streams.accept import check_time, dead_letter

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
    assert MAX_AHEAD_MS == 5 * 60_000, "docs/architecture.md says five minutes"


def test_a_time_that_cannot_be_is_refused() -> None:
    with pytest.raises(Refused, match="ahead of the broker's clock"):
        check_time(NOON + MAX_AHEAD_MS + 1, record(NOON))
    with pytest.raises(Refused, match="no timestamp"):
        check_time(NOON, record(-1))


@pytest.mark.parametrize(("length", "whole"), [(2_000, True), (2_001, False)])
def test_a_reason_is_no_longer_than_a_person_reads(length: int, whole: bool) -> None:
    letter = dead_letter("aq.dlq.v1", "fusion", record(NOON), Refused("odd", "x" * length))
    said = DeadLetter.from_headers(letter.headers).reason
    assert said == ("x" * length if whole else "x" * 2_000 + " …")
