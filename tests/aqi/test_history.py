"""The hourly history: folding windows into hours, pruning, idempotence, lossless state."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aqi.errors import HistoryError
from aqi.history import History, HistoryState
from aqi.older_ozone import OZONE_KEPT, OzoneState
from aqi.slots import Mean, SlotsState
from schemas.parameters import POLLUTANTS
from schemas.state import pack, unpack
from schemas.times import HOUR_MS, QUARTER_MS

T0 = 1_700_000_000_000 // HOUR_MS * HOUR_MS
MINUTE_MS = 60_000

windows = st.lists(
    st.tuples(
        st.integers(0, 30 * 60),  # minutes after T0, made unique and ordered below
        st.dictionaries(
            st.sampled_from(POLLUTANTS), st.tuples(st.floats(0, 1000), st.booleans()), min_size=0, max_size=6
        ),
    ),
    max_size=60,
    unique_by=lambda window: window[0],
).map(sorted)


def stored(history: History) -> History:
    return History.from_state(unpack(HistoryState, pack(history.to_state())))


def means_of(values: dict[str, tuple[float, bool]]) -> dict[str, Mean]:
    return {p: Mean(v, 0, 60) if imputed else Mean(v, 60, 0) for p, (v, imputed) in values.items()}


def fold(history: History, given_windows: list[tuple[int, dict[str, tuple[float, bool]]]]) -> History:
    for minute, values in given_windows:
        history = history.with_window(T0 + (minute + 1) * MINUTE_MS, MINUTE_MS, means_of(values))
    return history


@given(windows)
def test_hours_are_the_means_of_their_windows(given_windows: Any) -> None:
    history = fold(History.empty(48), given_windows)
    for hour in range(31):
        end_ms = T0 + (hour + 1) * HOUR_MS
        inside = [values for minute, values in given_windows if minute // 60 == hour]
        found = history.hour(end_ms)
        for parameter in POLLUTANTS:
            parts = [values[parameter] for values in inside if parameter in values]
            if not parts:
                assert parameter not in found
                continue
            mean = found[parameter]
            assert mean.value == pytest.approx(sum(v for v, _ in parts) / len(parts), rel=1e-9, abs=1e-9)
            assert mean.imputed_s == 60 * sum(imputed for _, imputed in parts)
            assert mean.measured_s == 60 * len(parts) - mean.imputed_s


@given(
    st.lists(
        st.tuples(
            st.integers(0, 59), st.floats(0, 1000), st.floats(0, 400), st.floats(0, 400), st.booleans()
        ),
        min_size=1, max_size=40, unique_by=lambda window: window[0],
    ).map(sorted)
)  # fmt: skip
def test_the_ends_of_a_mean_are_the_means_of_the_ends(given_windows: Any) -> None:
    history, kept = History.empty(48), []
    for minute, value, below, above, imputed in given_windows:
        mean = Mean(value, 0, 60, below, above) if imputed else Mean(value, 60)
        history = history.with_window(T0 + (minute + 1) * MINUTE_MS, MINUTE_MS, {"pm25": mean})
        kept.append(mean)
    hour = history.hour(T0 + HOUR_MS)["pm25"]
    assert hour.below == pytest.approx(sum(mean.below for mean in kept) / len(kept), rel=1e-5, abs=1e-5)
    assert hour.above == pytest.approx(sum(mean.above for mean in kept) / len(kept), rel=1e-5, abs=1e-5)
    assert min(hour.below, hour.above) >= 0
    assert (history.to_state().hours.below is not None) == (hour.below > 0)
    assert stored(history) == history


@given(windows, st.integers(0, 59))
def test_reading_windows_again_changes_nothing(given_windows: Any, start: int) -> None:
    once = fold(History.empty(30), given_windows)
    assert fold(once, given_windows[start:]) == once
    assert pack(fold(once, given_windows[start:]).to_state()) == pack(once.to_state())


@given(windows)
def test_state_is_lossless_and_the_same_for_equal_values(given_windows: Any) -> None:
    history = fold(History.empty(26, 20.0), given_windows)
    again = stored(history)
    assert again == history
    assert pack(again.to_state()) == pack(history.to_state())
    assert again.reference_celsius == 20.0
    later = T0 + 31 * HOUR_MS
    more = {"pm25": Mean(7.0, 60)}
    assert again.with_window(later, MINUTE_MS, more) == history.with_window(later, MINUTE_MS, more)


def test_what_is_older_than_the_horizon_is_gone() -> None:
    history = History.empty(26)
    for hour in range(1, 41):
        history = history.with_hour(T0 + hour * HOUR_MS, {"o3": Mean(float(hour), 3600)})
    assert history.hour(T0 + 14 * HOUR_MS) == {}
    assert history.hour(T0 + 15 * HOUR_MS) == {"o3": Mean(15.0, 3600)}
    assert history.with_hour(T0 + 14 * HOUR_MS, {"o3": Mean(1.0, 3600)}) == history
    far = history.with_hour(T0 + 1000 * HOUR_MS, {"o3": Mean(1.0, 3600)})
    assert [h for h in range(1, 41) if far.hour(T0 + h * HOUR_MS)] == []
    assert far.to_state().hours.mean.shape == (1, 1)


def test_an_hour_is_replaced_a_window_is_added() -> None:
    history = History.empty(48).with_hour(T0, {"co": Mean(400.0, 1800), "no2": Mean(9.0, 3600)})
    replaced = history.with_hour(T0, {"co": Mean(500.0, 3600)})
    assert replaced.hour(T0) == {"co": Mean(500.0, 3600)}
    assert history.hour(T0) == {"co": Mean(400.0, 1800), "no2": Mean(9.0, 3600)}  # the old value is untouched
    added = history.with_window(T0 + MINUTE_MS, MINUTE_MS, {"co": Mean(1.0, 30, 30)})
    assert added.hour(T0 + HOUR_MS) == {"co": Mean(1.0, 30, 30)}


def test_as_of_forgets_what_came_after() -> None:
    before = fold(History.empty(48), [(m, {"pm25": (5.0, False)}) for m in range(60)])
    after = fold(before, [(m, {"pm25": (9.0, False)}) for m in range(60, 200)])
    past = after.as_of(T0 + HOUR_MS)
    assert past.hour(T0 + HOUR_MS) == {"pm25": Mean(5.0, 3600)}
    assert past.hour(T0 + 2 * HOUR_MS) == {}
    assert past.through_ms == T0 + HOUR_MS
    assert past.quarters.end_ms <= T0 + HOUR_MS
    assert after.as_of(T0 + 10 * HOUR_MS) == after


ozone_hours = st.dictionaries(
    st.integers(1, 420),
    st.tuples(st.floats(-5, 400, width=32), st.sampled_from([60, 3600]), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(ozone_hours, st.sampled_from([26, 48, 330]), st.integers(0, 60))
def test_ozone_is_kept_for_as_long_as_its_nowcast_asks(by_hour: Any, horizon: int, later: int) -> None:
    """Hour by hour, through a checkpoint in the middle, whatever gaps there are."""
    history = History.empty(horizon).having_measured(["o3"])
    for number, hour in enumerate(sorted(by_hour)):
        value, seconds, imputed = by_hour[hour]
        mean = Mean(value, 0, seconds, 1.0, 2.0) if imputed else Mean(value, seconds)
        history = history.with_hour(T0 + hour * HOUR_MS, {"o3": mean, "no2": Mean(1.0, 60)})
        if number % 2:
            history = History.from_state(unpack(HistoryState, pack(history.to_state())))
    end = max(by_hour) + later
    series = history.ozone(T0 + end * HOUR_MS)
    assert {len(array) for array in series} == {OZONE_KEPT}
    for back in range(OZONE_KEPT):
        found = tuple(array[-1 - back] for array in series)
        value, seconds, imputed = by_hour.get(end - back, (0.0, 0, False))
        # An hour in progress at the time of the newest one is of the horizon, whatever the horizon is.
        if end - back > max(by_hour) - OZONE_KEPT:
            assert found[1:3] == ((0, seconds) if imputed else (seconds, 0))
            if seconds:
                assert found[0] == pytest.approx(value, rel=1e-6)
                assert found[3:] == ((1.0, 2.0) if imputed else (0.0, 0.0))


def test_two_weeks_of_ozone_cost_a_checkpoint_two_kilobytes_and_the_others_nothing() -> None:
    with_ozone = without = imputed = History.empty(48)
    for hour in range(1, 400):
        end, value = T0 + hour * HOUR_MS, 40.0 + hour % 24
        without = without.with_hour(end, {"pm25": Mean(value, 3600)})
        with_ozone = with_ozone.with_hour(end, {"pm25": Mean(value, 3600), "o3": Mean(value, 3600)})
        imputed = imputed.with_hour(end, {"pm25": Mean(value, 3600), "o3": Mean(value, 0, 3600, 1.0, 1.0)})
    assert len(pack(without.to_state().older_ozone)) < 100
    assert pack(imputed.to_state().older_ozone) == pack(without.to_state().older_ozone)  # nobody measured it
    assert 1500 < len(pack(with_ozone.to_state().older_ozone)) < 2000
    assert with_ozone.ever_measured == {"pm25", "o3"}
    assert imputed.ever_measured == {"pm25"}


def test_the_state_of_an_earlier_version_is_read() -> None:
    """Without what was added since: what was measured is known from its hours, ozone is yet to grow old."""
    history = History.empty(48)
    for hour in range(1, 61):
        end = T0 + hour * HOUR_MS
        history = history.with_hour(end, {"o3": Mean(60.0, 3600), "co": Mean(300.0, 0, 3600)})
    read = History.from_state(replace(history.to_state(), ever_measured=None, older_ozone=OzoneState()))
    assert read.ever_measured == {"o3"}
    assert (read.hours, read.quarters, read.through_ms) == (
        history.hours, history.quarters, history.through_ms,
    )  # fmt: skip
    assert read.ozone_hours == 48
    assert history.ozone_hours == 60
    again = read.with_hour(T0 + 61 * HOUR_MS, {"o3": Mean(60.0, 3600)})
    assert again.ozone_hours == 49


def test_a_long_window_makes_no_quarter_hours() -> None:
    hourly = History.empty(48).with_window(T0 + HOUR_MS, HOUR_MS, {"so2": Mean(100.0, 3600)})
    assert hourly.hour(T0 + HOUR_MS) == {"so2": Mean(100.0, 3600)}
    assert not hourly.quarters.measured_s.any()
    quarterly = History.empty(48).with_window(T0 + QUARTER_MS, QUARTER_MS, {"so2": Mean(100.0, 900)})
    assert quarterly.quarters.measured_s.sum() == 900


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.with_window(T0 + 30_000, MINUTE_MS, {}), "does not lie within one hour"),
        (lambda h: h.with_window(T0 + 60_000, 0, {}), "does not lie within one hour"),
        (
            lambda h: h.with_window(T0 + 90_000, MINUTE_MS, {}).with_window(T0 + 120_000, MINUTE_MS, {}),
            "overlaps",
        ),
        (lambda h: h.with_hour(T0 + 1, {}), "does not end an hour"),
        (lambda h: h.as_of(T0 + 1), "does not end an hour"),
        (lambda h: h.with_hour(T0, {"no": Mean(1.0, 60)}), "'no' is no pollutant"),
        (lambda h: h.with_hour(T0, {"co": Mean(float("nan"), 60)}), "nan is no concentration"),
        (lambda h: h.with_hour(T0, {"co": Mean(1.0, -60)}), "cannot be negative"),
        (lambda h: h.with_hour(T0, {"co": Mean(1.0, 0, 60, -1.0)}), "reaches 0 or more"),
        (lambda h: h.with_hour(T0, {"co": Mean(1.0, 0, 60, 0.0, float("inf"))}), "reaches 0 or more"),
        (lambda h: h.with_hour(T0, {"co": Mean(1.0, 3600, 1)}), "3601 s of data for a period of 3600 s"),
        (lambda _: History.empty(25), "too short"),
        (lambda _: History.from_state(HistoryState(hours=SlotsState(mean=np.zeros((99, 0))))), "99 rows"),
        (
            lambda _: History.from_state(
                HistoryState(older_ozone=OzoneState(mean=np.zeros(999, np.float32)))
            ),
            "999 older hours of ozone, 291 are kept",
        ),
        (
            lambda _: History.from_state(
                HistoryState(older_ozone=OzoneState(measured_s=np.zeros(2, np.int16)))
            ),
            r"measured_s of shape \(2,\), not \(0,\)",
        ),
        (
            lambda _: History.from_state(HistoryState(hours=SlotsState(parameters=("no",)))),
            "pollutants that there are not: no",
        ),
        (
            lambda h: History.from_state(
                replace(h.to_state(), hours=replace(h.to_state().hours, mean=np.zeros((1, 1))))
            ),
            r"measured_s of shape \(6, 1\), not \(1, 1\)",
        ),
    ],
)
def test_refusals_say_what_and_where(change: Any, message: str) -> None:
    history = History.empty(48).with_hour(T0 - 5 * HOUR_MS, {"co": Mean(1.0, 60)}).with_hour(T0, {})
    with pytest.raises(HistoryError, match=message):
        change(history)
