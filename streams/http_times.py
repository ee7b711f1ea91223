"""Times in the headers of HTTP answers (RFC 9110). Pure: whoever answers may be anybody."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def http_date(text: str | None) -> datetime | None:
    """The moment of a date as HTTP writes it, in UTC where it names no zone; None where it is none."""
    if text is None:
        return None
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a server asks for by Retry-After, a number of seconds or a date; None where it is neither.

    As the server has it, never below 0: how long is too long is for whoever waits to say.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    at = http_date(text)
    return None if at is None else max(0.0, (at - now).total_seconds())
