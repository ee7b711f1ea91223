"""Tables of local times through the hour that comes twice, however their rows are ordered and cut."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from sources.adapters import adapters
from sources.adapters.core.source_format import Context
from sources.adapters.core.translation import Translation, translate
from tests.sources.adapters.golden import FOLDER

#: Where clocks are put back by an hour, in the south, and by half an hour; and the day when they are.
CHANGES = [
    ("Europe/Rome", datetime(2026, 10, 25, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
    ("Australia/Sydney", datetime(2026, 4, 4, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)),
]
LATER = datetime(2026, 12, 1, tzinfo=UTC)


def become(rows: list[tuple[str, str, int]], zone: str, received_at: datetime = LATER) -> Translation:
    lines = [f"roof,{time},{parameter},{value},ug/m3" for time, parameter, value in rows]
    data = "\n".join(["station,time,parameter,value,unit", *lines]).encode()
    return translate(adapters()["skyfuse-csv"], data, Context(received_at, zone=ZoneInfo(zone)))


def moments(made: Translation) -> dict[tuple[str, float], datetime]:
    return {(v.parameter, v.value): reading.observed_at for reading in made.readings for v in reading.values}


@given(
    st.sampled_from(CHANGES), st.sampled_from([300, 600, 900, 1800, 3600]), st.integers(0, 59),
    st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_table_through_the_change_says_what_was_however_it_is_ordered(
    change: tuple[str, datetime], step: int, offset: int, newest_first: bool, blocks: bool, two: bool
) -> None:
    zone, begin = change
    # Steps longer than what comes twice do not tell which time it is.
    step = min(step, 1800) if zone.endswith("Lord_Howe") else step
    begin += timedelta(seconds=offset * 60 % step)
    true = [begin + timedelta(seconds=step * index) for index in range(24 * 3600 // step)]
    rows = [
        (at.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M"), "pm25", n) for n, at in enumerate(true)
    ]
    if newest_first:
        rows.reverse()
    if two:
        other = [(time, "pm10", value) for time, _, value in rows]
        rows = rows + other if blocks else [row for pair in zip(rows, other, strict=True) for row in pair]
    made = become(rows, zone)
    assert made.refused == ()
    assert moments(made) == {(parameter, value): true[value] for _, parameter, value in rows}


@given(st.sampled_from(CHANGES), st.sampled_from([300, 900, 1800]), st.data(), st.booleans())
def test_a_piece_of_it_says_the_same_or_nothing(
    change: tuple[str, datetime], step: int, draw: st.DataObject, newest_first: bool
) -> None:
    zone, begin = change
    true = [begin + timedelta(seconds=step * index) for index in range(24 * 3600 // step)]
    first = draw.draw(st.integers(0, len(true) - 2))
    rows = [
        (at.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M"), "pm25", n)
        for n, at in enumerate(true)
        if n >= first
    ][: draw.draw(st.integers(2, len(true)))]
    if newest_first:
        rows.reverse()
    made = become(rows, zone)
    found = moments(made)
    assert all(true[int(value)] == at for (_, value), at in found.items())
    local = ZoneInfo(zone)
    plain = {
        value for time, _, value in rows
        if (at := datetime.fromisoformat(time).replace(tzinfo=local)).utcoffset()
        == at.replace(fold=1).utcoffset()
    }  # fmt: skip
    # A row whose hour came once tells the twofold ones on both sides of it.
    assert len(found) == len(rows) or not plain


def test_rows_in_no_order_tell_nothing_of_a_twofold_hour() -> None:
    times = ["2026-10-26 01:00", "2026-10-25 01:30", "2026-10-26 03:00", "2026-10-25 02:30"]
    made = become([(time, "pm25", n) for n, time in enumerate(times)], "Europe/Rome")
    assert {part.code for part in made.refused} == {"repeated_hour", "no_time"}
    assert len(made.readings) == 3


def test_a_portal_s_table_says_the_same_from_its_newest_row_on() -> None:
    """A row that begins its period is as long as the way to the next one, which may stand above it."""
    folder = FOLDER / "cpcb"
    head, *rows = (folder / "bulk-15min.csv").read_text().splitlines()
    context = Context(LATER, station="delhi")
    made, again = (
        translate(adapters()["cpcb"], "\n".join([head, *order]).encode(), context)
        for order in (rows, rows[::-1])
    )
    assert len(made.readings) > 1
    assert made.readings[0].period == 900
    assert sorted(made.readings, key=str) == sorted(again.readings, key=str)
