"""Changes of the past, taken in once, twice and late."""

from dataclasses import replace

import numpy as np
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from aqi.history import History
from aqi.slots import Mean
from camera.virtual_sensor import VirtualSensor, silenced, update
from fusion.amending import (
    MOST_WITHHELD,
    LeftOut,
    amended,
    hour_mean,
    latest_time,
    not_withheld,
    withheld_after,
)
from fusion.learning import Air, Gathered
from schemas.amendment import AMENDMENT_TYPE, AmendedHour, Amendment, Heard, HourMean, Unheard, Withheld
from schemas.base import from_ms
from schemas.errors import Refused
from schemas.parameters import POLLUTANTS
from schemas.reading import Quantity
from streams.accept import Keys, amendment_of, is_amendment
from streams.join import Item, WindowView

NOON = 1_750_248_000_000  # on the hour
HOUR = 3_600_000

MEANS = st.builds(
    Mean,
    st.floats(0, 5e3), st.integers(1, 1800), st.integers(0, 1800), st.floats(0, 1e3, width=32),
    st.floats(0, 1e3, width=32), st.just(1.0),
)  # fmt: skip


@given(
    st.dictionaries(st.integers(1, 30), st.dictionaries(st.sampled_from(POLLUTANTS), MEANS), max_size=8),
    st.dictionaries(st.integers(1, 30), st.dictionaries(st.sampled_from(POLLUTANTS), MEANS), max_size=8),
)
def test_hours_travel_without_loss_and_taken_in_twice_they_change_nothing(
    before: dict[int, dict[str, Mean]], after: dict[int, dict[str, Mean]]
) -> None:
    history = expected = History.empty(48)
    for hour, means in sorted(before.items()):
        history = history.with_hour(NOON + hour * HOUR, means)
    expected = history
    for hour, means in sorted(after.items()):
        expected = expected.with_hour(NOON + hour * HOUR, means)
    sent = Amendment(
        station="a",
        hours=tuple(
            AmendedHour(
                end=from_ms(NOON + hour * HOUR),
                means={name: hour_mean(mean) for name, mean in means.items()},  # type: ignore[misc]
            )
            for hour, means in sorted(after.items())
        ),
    )
    read = Amendment.model_validate_json(sent.model_dump_json())
    once = amended(Air(history), read)
    assert once.history == expected
    assert amended(once, read) == once


def learned(hours: dict[int, float | None]) -> VirtualSensor:
    state = None
    for hour, value in hours.items():
        state = update(state, NOON + hour * HOUR, None, value)
    assert state is not None
    return state


def test_a_level_that_was_heard_while_it_was_wrong_gives_way_to_one_that_had_not_heard_it() -> None:
    good: dict[int, float | None] = dict.fromkeys(range(1, 60), 20.0)
    state = learned({**good, 60: 500.0, 61: 500.0})
    before = silenced(state, NOON + 59 * HOUR, NOON + 61 * HOUR)
    assert before is not None
    assert np.expm1(before.level.x) == pytest.approx(20, rel=0.3)
    assert all(shadow.sensor_ms <= NOON + 59 * HOUR for shadow in before.shadows)
    assert silenced(before, NOON + 59 * HOUR, NOON + 61 * HOUR) is before
    # What was heard since is right, and stays.
    assert silenced(state, NOON + 50 * HOUR, NOON + 60 * HOUR) is state
    # Where all that was ever heard is wrong, there is nothing to fall back on.
    assert silenced(learned({1: 500.0, 2: 500.0}), NOON, NOON + 2 * HOUR) is None


def test_last_values_and_the_hour_in_progress() -> None:
    gathered = Gathered(NOON + HOUR, NOON + 600_000, measured={"pm25": (900.0, 10), "o3": (40.0, 10)})
    air = Air(
        History.empty(48), {"pm25": (90.0, NOON + 600_000), "o3": (4.0, NOON + 600_000)}, gathered,
        {"pm25": learned({-1: 500.0})},
    )  # fmt: skip
    change = Amendment(
        station="a",
        heard={
            "pm25": Heard(value=7.0, at=from_ms(NOON - HOUR)),
            "o3": Heard(value=5.0, at=from_ms(NOON)),  # newer is known
            "no2": Heard(value=3.0, at=from_ms(NOON)),
        },
        unheard={"pm25": Unheard(since=from_ms(NOON - 2 * HOUR), until=from_ms(NOON + 2 * HOUR))},
    )
    after = amended(air, change)
    assert after.last == {"pm25": (7.0, NOON - HOUR), "o3": (4.0, NOON + 600_000), "no2": (3.0, NOON)}
    assert after.gathered is not None
    assert after.gathered.measured == {"o3": (40.0, 10)}
    assert after.virtual == {}
    assert amended(after, change) == after
    later = replace(gathered, end=NOON + 4 * HOUR, through=NOON + 4 * HOUR)
    assert amended(replace(air, gathered=later), change).gathered == later


def item(time: int, sensor: str, parameter: str) -> Item:
    value = Quantity(parameter, 5.0, "ug/m3", sensor, "value")
    return Item("a", time, time, (sensor, parameter, "value", time), None, value, 0)


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from("mn"), st.sampled_from(["pm25", "o3"])), max_size=12
    ),
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 9), st.sampled_from(["", "m", "n"]),
                  st.sampled_from(["", "pm25"])), max_size=4,
    ),
)  # fmt: skip
def test_what_counts_is_what_nothing_withholds(
    values: list[tuple[int, str, str]], spans: list[tuple[int, int, str, str]]
) -> None:
    items = tuple(item(NOON + at, sensor, name) for at, sensor, name in dict.fromkeys(values))
    withheld = [
        LeftOut(f"a/{number}", NOON + since, NOON + since + length, sensor, name)
        for number, (since, length, sensor, name) in enumerate(spans)
    ]
    view = WindowView("a", NOON, NOON + 60_000, len(items), {"readings": items, "features": ()})
    left, gone = not_withheld(view, withheld)
    expected = [
        one for one in items
        if not any(
            span.since <= one.time < span.until
            and span.sensor in ("", one.payload.sensor) and span.parameter in ("", one.payload.parameter)
            for span in withheld
        )
    ]  # fmt: skip
    assert list(left.inputs["readings"]) == expected
    assert sum(gone.values()) == len(items) - len(expected)
    assert left.revision == len(items)


def withhold(id: str, until: int) -> Withheld:
    return Withheld(id=id, since=from_ms(NOON), until=from_ms(until))


def test_what_is_withheld_ends_by_release_or_by_time_and_is_bounded() -> None:
    both = Amendment(station="a", withhold=(withhold("a/1", NOON + HOUR), withhold("a/2", NOON + 9 * HOUR)))
    kept = withheld_after((), both, NOON)
    assert [one.id for one in kept] == ["a/1", "a/2"]
    assert withheld_after(kept, both, NOON) == kept
    assert [one.id for one in withheld_after(kept, Amendment(station="a"), NOON + 3 * HOUR)] == ["a/2"]
    assert not withheld_after(kept, Amendment(station="a", release=("a/1", "a/2")), NOON)
    for number in range(4):
        more = tuple(withhold(f"a/{number}{place:02}", NOON + 9 * HOUR) for place in range(100))
        kept = withheld_after(kept, Amendment(station="a", withhold=more), NOON)
    assert len(kept) == MOST_WITHHELD


def record(body: bytes, timestamp: int = NOON + HOUR, key: bytes = b"a") -> ConsumerRecord:
    headers = (("ce_type", AMENDMENT_TYPE),)
    return ConsumerRecord("aq.readings.v1", 0, 5, timestamp, 1, key, body, None, 1, len(body), headers)


def test_an_amendment_is_told_from_readings_and_a_bad_one_is_refused() -> None:
    hour = AmendedHour(end=from_ms(NOON + HOUR), means={"pm25": HourMean(value=3.0, measured_s=60)})
    good = Amendment(station="a", hours=(hour,))
    body = good.model_dump_json().encode()
    assert is_amendment(record(body))
    assert amendment_of(record(body), Keys(1)) == good
    assert latest_time(good) == NOON + HOUR - 1
    assert latest_time(Amendment(station="a")) == 0
    for bad, code in (
        (record(b"{"), "not_json"),
        (record(body, key=b"b"), "key_mismatch"),
        (record(body, timestamp=NOON), "future_time"),
        (record(body.replace(b"12:00:00Z", b"12:30:00Z").replace(b"13:00:00Z", b"13:30:00Z")), "not_an_hour"),
        (record(body.replace(b'"measured_s":60', b'"measured_s":3601')), "less_than_equal"),
        (record(body.replace(b'"imputed_s":0', b'"imputed_s":3600')), "not_an_hour"),
        (record(body + b" " * 1_100_000), "too_large"),
    ):
        with pytest.raises(Refused) as refused:
            amendment_of(bad, Keys(1))
        assert refused.value.code == code
