"""A station of the fleet, arrival by arrival, and what that means at a moment."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.condition import condition, failing
from fleet.station import Member, expected, received
from schemas.base import from_ms
from schemas.device import DeviceReport, SourceState
from schemas.health import StationHealth
from schemas.limits import SOURCES_PER_STATION
from schemas.times import DAY_MS, HOUR_MS, MINUTE_MS

T0 = 1_787_306_400_000  # an hour begins


def member(**more: object) -> Member:
    return Member("roof", T0, T0, **more)  # type: ignore[arg-type]


def regular(count: int, step: int = MINUTE_MS, ahead: int = 0, delay: int = 1_000) -> Member:
    one = member()
    for number in range(count):
        at = T0 + number * step
        one.take_reading(at + delay, at + ahead, own=True)
    return one


def state(one: Member, now: int) -> tuple[str, tuple[str, ...]]:
    return condition(one.health(), now)


@pytest.mark.parametrize(
    ("step", "late", "silent"),
    [(MINUTE_MS, 3, 11), (15 * MINUTE_MS, 24, 46), (HOUR_MS, 92, 181), (3 * HOUR_MS, 272, 541)],
)
def test_late_and_silent_go_by_its_own_rhythm(step: int, late: int, silent: int) -> None:
    one = regular(12, step)
    last = T0 + 11 * step + 1_000
    assert state(one, last + late * MINUTE_MS - 2 * MINUTE_MS)[0] == "online"
    assert state(one, last + late * MINUTE_MS)[0] == "late"
    assert state(one, last + silent * MINUTE_MS)[0] == "silent"


def test_of_a_new_station_an_hour_is_assumed() -> None:
    one = regular(1)
    assert state(one, T0 + 80 * MINUTE_MS)[0] == "online"
    assert state(one, T0 + 200 * MINUTE_MS)[0] == "silent"


@pytest.mark.parametrize(
    ("ahead", "trouble"),
    [(0, ()), (50_000, ()), (70_000, ("clock",)), (-400_000, ()), (-700_000, ("clock",)),
     (DAY_MS, ("clock",)), (-40 * DAY_MS, ("clock",))],
)  # fmt: skip
def test_a_clock_that_is_off_is_told(ahead: int, trouble: tuple[str, ...]) -> None:
    one = regular(20, ahead=ahead)
    assert one.clock_offset == ahead - 1_000
    assert state(one, T0 + 20 * MINUTE_MS) == ("online", trouble)


def test_a_wrong_clock_hides_nothing_that_comes_after_it_was_set() -> None:
    one = regular(3, ahead=400 * DAY_MS)
    for number in range(3, 10):
        one.take_reading(T0 + number * MINUTE_MS + 1_000, T0 + number * MINUTE_MS, own=True)
    assert received(one.hours, T0 + 10 * MINUTE_MS) == 10


def test_a_days_backlog_says_nothing_of_the_clock_and_counts_hour_by_hour() -> None:
    one = member()
    for day in range(4):
        now = T0 + day * DAY_MS
        for number in range(0, 1440, 10):
            one.take_reading(now + 40, now - (1430 - number) * MINUTE_MS, own=True)
    assert one.clock_offset == -40
    now = T0 + 3 * DAY_MS + MINUTE_MS
    health = one.health()
    assert state(one, now) == ("online", ())
    assert (health.wait_s, health.period_s) == (86_400, 600)
    assert received(one.hours, now) == 139  # of this hour and the 23 before it
    # ... and a day without an upload is no silence yet.
    assert state(one, now + 20 * HOUR_MS)[0] == "online"


def test_history_that_somebody_sends_is_no_clock() -> None:
    one = member()
    for number in range(20):
        one.take_reading(T0 + number * 10_000, T0 - 300 * DAY_MS + number * HOUR_MS)
    assert one.clock_offset is None


def test_stamps_that_begin_their_period_are_not_behind() -> None:
    one = member()
    for number in range(5):
        end = T0 + number * HOUR_MS
        one.take_reading(end + 2_000, end - HOUR_MS, end=end, own=True)
    assert one.clock_offset == -2_000


def test_times_by_a_server_are_no_clock_of_the_device() -> None:
    one = member()
    for number in range(5):
        one.take_reading(T0 + number * MINUTE_MS, T0 + number * MINUTE_MS - 90, own=False)
    assert one.clock_offset is None


def test_what_came_against_what_was_due() -> None:
    one = regular(120)
    for number in range(130, 140):
        one.take_reading(T0 + number * MINUTE_MS, T0 + number * MINUTE_MS, own=True)
    now = T0 + 140 * MINUTE_MS
    assert (received(one.hours, now), expected(one.health(), now)) == (130, 140)
    one.take_reading(now, T0 + 139 * MINUTE_MS, own=True)  # the same again
    assert received(one.hours, now) == 130


def test_what_a_new_station_had_kept_was_due_too() -> None:
    one = member()
    for number in range(60):
        one.take_reading(T0, T0 - (60 - number) * 10_000, own=True)
    one.take_reading(T0 + 5_000, T0, own=True)
    assert (received(one.hours, T0 + 9_000), expected(one.health(), T0 + 9_000)) == (61, 61)


@pytest.mark.parametrize("count", [2, 3, 9, 12])
def test_a_burst_names_no_period(count: int) -> None:
    one = member()
    for number in range(count):
        one.take_reading(T0 + number * 900, T0 + number * 900, own=True)
    health = one.health()
    assert health.period_s == 0
    assert expected(health, T0 + HOUR_MS) is None


def test_who_speaks_every_second_has_a_period_after_a_minute() -> None:
    assert regular(70, 1000).health().period_s == 1


def test_before_a_station_was_heard_nothing_was_due() -> None:
    """One stamp of yesterday, among those of a station that is two minutes old."""
    one = member()
    for minutes in (22 * 60, 45, 30, 15, 0):
        one.take_reading(T0, T0 - minutes * MINUTE_MS, own=True)
    health, now = one.health(), T0 + 2 * MINUTE_MS
    assert health.period_s == 900
    assert (received(one.hours, now), expected(health, now)) == (5, 5)
    # ... and from then on it is.
    assert expected(health, T0 + 3 * HOUR_MS) == 15


def test_battery_last_will_and_two_addresses() -> None:
    one = regular(5)
    at = T0 + 5 * MINUTE_MS
    one.take_report(
        DeviceReport(station="roof", at=from_ms(at), battery_percent=12, firmware="1.2", origins=("a", "b"))
    )
    assert state(one, at) == ("online", ("battery", "two_addresses"))
    one.take_report(DeviceReport(station="roof", at=from_ms(at + 9), online=False))
    assert state(one, at + 10)[0] == "offline"
    one.take_reading(
        at + MINUTE_MS, at + MINUTE_MS, own=True
    )  # it speaks: its broker was wrong, or it is back
    assert state(one, at + MINUTE_MS)[0] == "online"
    assert one.firmware == "1.2"


events = st.lists(
    st.tuples(
        st.integers(0, 5 * HOUR_MS), st.integers(-10**10, 10**10), st.sampled_from([True, False, None]),
        st.sampled_from(["reading", "picture", "report", "gone"]),
    ),
    max_size=60,
)  # fmt: skip


@given(events, st.integers(0, 60))
def test_it_goes_on_from_its_record_as_if_nothing_had_happened(
    came: list[tuple[int, int, bool | None, str]], cut: int
) -> None:
    whole, parted = member(), member()
    now = T0
    for number, (step, ahead, own, kind) in enumerate(came):
        now += step
        if number == cut:
            parted = Member.of(StationHealth.model_validate_json(parted.health().model_dump_json()))
        for one in (whole, parted):
            match kind:
                case "reading":
                    one.take_reading(now, max(now + ahead, 10**12), own=own)
                case "picture":
                    one.take_picture(now)
                case _:
                    one.take_report(
                        DeviceReport(
                            station="roof", at=from_ms(now), battery_percent=5 if ahead % 2 else None,
                            online=False if kind == "gone" else None,
                        )
                    )  # fmt: skip
    assert parted.health() == whole.health()
    assert condition(whole.health(), now).state in ("online", "late", "silent", "offline")


def test_memory_is_bounded() -> None:
    one = member()
    draw = random.Random(1)
    for number in range(3_000):
        one.take_reading(T0 + number * HOUR_MS, T0 + draw.randrange(10**9), own=True)
    assert len(one.health().model_dump_json()) < 2_500


def fetched(one: Member, at: int, state: str, source: str = "camera mast", since: int | None = None) -> None:
    told = SourceState(
        source=source, state=state, well=state == "ok", since=from_ms(at if since is None else since),
        reported_at=from_ms(at),
    )  # fmt: skip
    one.take_report(DeviceReport(station="roof", at=from_ms(at), source=told))


def test_a_camera_that_fails_is_a_trouble_and_not_an_arrival() -> None:
    one = regular(5)
    heard = one.last_arrival
    now = T0 + 5 * MINUTE_MS
    fetched(one, now, "unauthorized")
    fetched(one, now, "server_error", "pull cloud")
    assert one.last_arrival == heard
    assert state(one, now) == ("online", ("camera", "pull"))
    assert [found.state for found in failing(one.health(), now)] == ["unauthorized", "server_error"]
    fetched(one, now + 1, "ok")
    assert state(one, now + 1) == ("online", ("pull",))


def test_since_when_outlives_the_gateway_and_what_nobody_asks_any_more_is_no_trouble() -> None:
    one = regular(5)
    fetched(one, T0, "timeout")
    fetched(one, T0 + 2 * HOUR_MS, "timeout")  # a gateway that was started anew
    again = Member.of(StationHealth.model_validate_json(one.health().model_dump_json()))
    assert again == one
    [found] = failing(one.health(), T0 + 2 * HOUR_MS)
    assert found.since == from_ms(T0)
    assert failing(one.health(), T0 + 6 * HOUR_MS) == []


def test_a_station_of_which_only_a_fault_is_known_was_never_heard() -> None:
    one = member(unheard=True)
    fetched(one, T0, "unreachable")
    assert state(one, T0 + 1) == ("unheard", ("camera",))
    assert not condition(one.health(), T0 + 1).well
    one.take_picture(T0 + MINUTE_MS)
    assert state(one, T0 + MINUTE_MS)[0] == "online"
    assert one.first == T0 + MINUTE_MS


def test_a_station_has_so_many_sources_and_no_more() -> None:
    one = regular(2)
    for number in range(SOURCES_PER_STATION + 5):
        fetched(one, T0 + number, "timeout", f"pull {number}")
    assert len(one.health().sources) == SOURCES_PER_STATION


@pytest.mark.parametrize(
    ("period", "behind", "off"), [(HOUR_MS, 110, False), (HOUR_MS, 130, True), (60_000, 11, True)]
)
def test_means_of_hours_may_be_behind_by_two_of_them(period: int, behind: int, off: bool) -> None:
    one = regular(12, period, ahead=-behind * MINUTE_MS)
    assert ("clock" in state(one, T0 + 12 * period)[1]) is off


def test_what_comes_together_came_once() -> None:
    """Two messages of one moment say nothing of how often it is heard."""
    one = member()
    for number in range(6):
        for second in (0, 2_000):
            at = T0 + number * MINUTE_MS + second
            one.take_reading(at, at, own=True)
    assert set(one.gaps) == {MINUTE_MS}


def test_records_of_other_topics_may_be_older() -> None:
    one = regular(3)
    heard = one.last_arrival
    one.take_picture(heard - 30_000)
    assert one.last_arrival == heard


def test_of_a_day_the_hours_are_remembered_and_none_of_the_future_counts() -> None:
    one = regular(100, HOUR_MS)
    assert len(one.hours) == 24
    now = T0 + 99 * HOUR_MS
    assert received(one.hours, now) == 24
    assert received(one.hours, now - 10 * HOUR_MS) == 14


def test_who_speaks_and_is_not_believed_is_no_silent_station_but_has_a_wrong_clock() -> None:
    one = regular(5)
    now = T0 + 4 * HOUR_MS
    assert state(one, now)[0] == "silent"
    fetched(one, now, "clock_reset", "clock")
    assert state(one, now + 1) == ("online", ("clock",))
    [found] = failing(one.health(), now + 1)
    assert found.state == "clock_reset"
    one.take_reading(now, now, own=True)  # of the same message
    assert state(one, now + 1) == ("online", ("clock",))
    one.take_reading(now + MINUTE_MS, now + MINUTE_MS)  # nobody says by whose clock
    assert state(one, now + MINUTE_MS) == ("online", ("clock",))
    one.take_reading(now + 2 * MINUTE_MS, now + 2 * MINUTE_MS, own=True)
    assert state(one, now + 2 * MINUTE_MS) == ("online", ())


def test_of_whom_nothing_can_be_used_is_no_silent_station_but_has_a_trouble() -> None:
    one = regular(5)
    now = T0 + 4 * HOUR_MS
    fetched(one, now, "no_zone", "payload")
    assert state(one, now + 1) == ("online", ("payload",))
    one.take_reading(now + MINUTE_MS, now + MINUTE_MS)
    assert state(one, now + MINUTE_MS) == ("online", ())
