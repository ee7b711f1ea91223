"""Times in answers of servers that may be anybody's."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.http_times import http_date, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)


#: s before and after `NOW`: years of four digits. Those of two digits are read as RFC 5322 has them.
PAST, FUTURE = -1020 * 365 * 86_400, 7973 * 365 * 86_400


@given(st.integers(PAST, FUTURE), st.integers(-1439, 1439))
def test_a_date_is_read_in_its_zone(seconds: int, minutes: int) -> None:
    at = (NOW + timedelta(seconds=seconds)).astimezone(timezone(timedelta(minutes=minutes)))
    assert http_date(format_datetime(at)) == at
    assert retry_after(format_datetime(at), NOW) == max(0, seconds)


@given(st.text())
def test_no_text_is_too_much(text: str) -> None:
    asked = retry_after(text, NOW)
    assert asked is None or asked >= 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        (" 7 ", 7),
        ("9999999999", 9999999999),
        ("9" * 400, float("inf")),
        ("Thu, 01 Jan 2026 00:00:20 GMT", 20),
        ("Thu, 01 Jan 2026 00:00:20", 20),
        ("Thu, 01 Jan 2026 00:00:20 +0001", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 01 Jan 99999999999999 00:00:00 GMT", None),  # more than a clock's integer
        ("Fri, 01 Jan 2026 00:00:00 +9999", None),
    ],
)
def test_what_a_server_asks_for(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds
