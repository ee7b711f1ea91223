"""Which stretch of time an address is asked for next, and how that is written into it. Pure."""

from typing import Final, Literal, NamedTuple
from urllib.parse import quote

from schemas.base import format_time, from_ms
from sources.entries import SINCE, UNTIL

Times = Literal["iso", "s", "ms"]
#: From this on what is asked for is a gap that is made up for, in periods of the entry.
_GAP_PERIODS: Final = 3


class Stretch(NamedTuple):
    """Times, ms since 1970: what has been answered up to `since_ms` is known."""

    since_ms: int
    until_ms: int


def next_stretch(
    cursor_ms: int | None, now_ms: int, *, every_ms: int, span_ms: int, overlap_ms: int, back_ms: int
) -> Stretch:
    """From where the last answer ended, less an overlap, for a span at most, and not beyond now.

    `cursor_ms`: up to when all has been answered; None: nothing was yet, and one period is asked for. Of what
    is older than `back_ms` nothing is made up for.
    """
    start = now_ms - every_ms if cursor_ms is None else max(cursor_ms, now_ms - back_ms)
    start = min(start, now_ms)
    # The span counts from there: an overlap longer than it must not stand in the way.
    return Stretch(start - overlap_ms, min(now_ms, start + span_ms))


def is_gap(cursor_ms: int | None, now_ms: int, every_ms: int) -> bool:
    """Whether so much was not asked for that somebody should know."""
    return cursor_ms is not None and now_ms - cursor_ms > _GAP_PERIODS * every_ms


def written(url: str, stretch: Stretch, times: Times) -> str:
    """The address with a stretch in it."""

    def text(ms: int) -> str:
        if times == "iso":
            return quote(format_time(from_ms(ms)), safe="")
        return str(ms if times == "ms" else ms // 1000)

    return url.replace(SINCE, text(stretch.since_ms)).replace(UNTIL, text(stretch.until_ms))
