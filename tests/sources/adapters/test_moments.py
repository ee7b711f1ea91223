"""Moments: clocks good and bad, zones and their changes, units of numbers."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Refused
from sources.adapters.core.moments import check_clock, moment

ROME = ZoneInfo("Europe/Rome")
NOW = datetime(2026, 8, 21, 10, 0, 30, tzinfo=UTC)
#: Half hours, changes of half an hour, of the south, at midnight, and none.
ZONES = [
    ZoneInfo(name)
    for name in (
        "Europe/Rome",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "America/Havana",
        "Pacific/Chatham",
        "UTC",
    )
]
instants = st.datetimes(datetime(2001, 1, 1), datetime(2030, 1, 1)).map(  # noqa: DTZ001 (hypothesis wants naive ones)
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)


def refused(
    text: object, zone: ZoneInfo | None = None, now: datetime = NOW, after: datetime | None = None
) -> str:
    with pytest.raises(Refused) as caught:
        moment(text, zone, now, after)
    return caught.value.code


@given(instants, st.sampled_from(ZONES), st.integers(0, 840))
def test_a_local_time_that_comes_soon_is_always_told(at: datetime, zone: ZoneInfo, late_s: int) -> None:
    stated = at.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S")
    assert moment(stated, zone, at + timedelta(seconds=late_s)).at == at


@given(
    st.sampled_from([datetime(2026, 10, 24, 18, tzinfo=UTC), datetime(2026, 3, 28, 18, tzinfo=UTC)]),
    st.sampled_from([300, 900, 1800, 3600]),
    st.sampled_from(ZONES),
)
def test_a_backlog_in_order_goes_through_a_change_of_clocks(
    begin: datetime, step: int, zone: ZoneInfo
) -> None:
    true = [begin + timedelta(seconds=step * index) for index in range(24 * 3600 // step)]
    later = true[-1] + timedelta(hours=6)
    last = None
    for at in true:
        last = moment(at.astimezone(zone).strftime("%Y-%m-%d %H:%M"), zone, later, last).at
        assert last == at


def test_a_repeated_hour_alone_and_late_is_refused_and_a_missing_one_always() -> None:
    late = datetime(2026, 10, 26, tzinfo=UTC)
    assert refused("2026-10-25T02:30:00", ROME, late) == "repeated_hour"
    # Rows that do not follow one another tell nothing either.
    assert refused("2026-10-25T02:30:00", ROME, late, datetime(2026, 10, 20, tzinfo=UTC)) == "repeated_hour"
    assert moment("2026-10-25T02:30:00+02:00", ROME, late).at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert refused("2026-03-29T02:30:00", ROME) == "missing_hour"
    # The second time has not been yet.
    assert moment("2026-10-25T02:30:00", ROME, datetime(2026, 10, 25, 0, 31, tzinfo=UTC)).at.hour == 0


@given(instants)
def test_numbers_are_told_apart_by_their_size(at: datetime) -> None:
    seconds = int(at.timestamp())
    for number in (seconds, float(seconds), seconds * 1000, seconds * 10**6, seconds * 10**9, str(seconds)):
        found = moment(number, None, NOW)
        assert found.at == at
        assert found.remark is not None
    assert "milliseconds" in (moment(seconds * 1000, None, NOW).remark or ("", ""))[1]


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2024/08/20T18:59:56z", "2024-08-20T18:59:56+00:00"),
        ("2026-08-21 10:00:00 UTC", "2026-08-21T10:00:00+00:00"),
        ("2026-08-21T15:30:00+0530", "2026-08-21T10:00:00+00:00"),
        ("2026-08-21T15:45+05:45", "2026-08-21T10:00:00+00:00"),
        ("2026-12-31T24:00:00Z", "2027-01-01T00:00:00+00:00"),
        ("2026-08-21T10:00:00.1239Z", "2026-08-21T10:00:00.123+00:00"),
        ("2026-08-21T10:00:00.123456789Z", "2026-08-21T10:00:00.123+00:00"),
    ],
)
def test_text_as_it_is_written(text: str, iso: str) -> None:
    assert moment(text, None, NOW).at.isoformat(timespec="auto").replace("123000", "123") == iso


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("2026-08-21T10:00:00", "no_zone"), ("2026-02-30T10:00:00Z", "not_a_time"), ("soon", "not_a_time"),
        ("2026-08-21T24:01:00Z", "not_a_time"), ("", "not_a_time"), (True, "not_a_time"),
        (None, "not_a_time"),
        (float("nan"), "not_a_time"), (float("inf"), "not_a_time"), (10**400, "not_a_time"),
        (4711, "clock_reset"), (-5, "clock_reset"), (0, "clock_reset"),
        ("1970-01-01T00:00:09Z", "clock_reset"),
        ("0001-01-01T00:00:00+14:00", "not_a_time"), ("9999-12-31T24:00:00Z", "not_a_time"),
        ("9999-12-31T23:59:59-10:00", "not_a_time"),
    ],
)  # fmt: skip
def test_what_is_no_moment_is_refused_by_name(raw: object, code: str) -> None:
    assert refused(raw) == code


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (datetime(2000, 1, 3, 4, 5, tzinfo=UTC), "clock_reset"),
        (datetime(2010, 1, 20, tzinfo=UTC), "clock_reset"),
        (datetime(2036, 2, 7, 7, tzinfo=UTC), "clock_reset"),
        (NOW - timedelta(weeks=1024, minutes=1), "gps_rollover"),
        (NOW + timedelta(minutes=5, seconds=1), "future_time"),
        (datetime(2226, 8, 21, tzinfo=UTC), "future_time"),
    ],
)
def test_clocks_that_were_reset_are_named(at: datetime, code: str) -> None:
    with pytest.raises(Refused) as caught:
        check_clock(at, NOW)
    assert caught.value.code == code


def test_seconds_since_the_start_are_told_as_such() -> None:
    with pytest.raises(Refused, match="no date in seconds since 1970: the device's clock was never set"):
        moment(4711, None, NOW)


def test_a_clock_that_is_right_is_not_named() -> None:
    for at in (
        NOW,
        NOW + timedelta(minutes=5),
        NOW - timedelta(days=1),
        NOW - timedelta(weeks=60),
        datetime(2012, 1, 1, tzinfo=UTC),
    ):
        check_clock(at, NOW)
    # In January 2010 it was January 2010.
    check_clock(datetime(2010, 1, 20, tzinfo=UTC), datetime(2010, 1, 20, 1, tzinfo=UTC))
