"""The virtual sensor on made stations: learns, beats the last value, refuses, is calibrated, survives a
crash.
"""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera import virtual_sensor as virtual
from camera.error_moments import DOUBT, MARGIN, MEMORY, STRAIN
from camera.far_band import Strip
from camera.haze import contrast, haze
from camera.readout import RIDGE
from camera.sight import CAMERA_SIZE, COMPONENTS, Sight, camera_vector, layout
from camera.virtual_sensor import MIN_PAIRS, SWITCH_HOURS, VirtualSensor, predict, update
from schemas.errors import ArrayError, DamagedState
from schemas.state import pack, unpack
from tests.camera.cameras import HOUR, MadeStation, scene


def learned(station: MadeStation, hours: int, name: str = "whole") -> VirtualSensor:
    state = None
    for _ in range(hours):
        end, value, vector, day = station.step()
        state = update(state, end, Sight(name, vector) if day else None, value)
    assert state is not None
    return state


def rmse(pairs: list[tuple[float, float]]) -> float:
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(pairs))


def test_beats_the_last_value_in_outages_of_hours_and_days() -> None:
    station = MadeStation(1)
    state = learned(station, 24 * 30)
    for silent, times in ((6, 60), (24, 20), (168, 5)):
        ours, last = [], []
        for _ in range(times):
            now, value = state, state.level.x
            for _ in range(silent):
                end, truth, vector, day = station.step()
                sight = Sight("whole", vector) if day else None
                guess = predict(now, end, sight)
                assert guess is not None
                if day:
                    ours.append((truth, guess.value))
                    last.append((truth, math.expm1(value)))
                moved = update(now, end, sight, None)
                assert moved is not None
                now = moved
            for _ in range(30):
                end, truth, vector, day = station.step()
                again = update(now, end, Sight("whole", vector) if day else None, truth)
                assert again is not None
                now = again
            state = now
        assert rmse(ours) < (0.9 if silent < 24 else 0.7) * rmse(last), (
            silent,
            rmse(ours),
            rmse(last),
            len(ours),
        )


def test_weights_move_from_the_last_value_to_the_camera() -> None:
    station = MadeStation(2)
    state = learned(station, 24 * 20)
    while True:
        end, _, vector, day = station.step()
        if day:
            break
        state = update(state, end, None, 20.0) or state
    young = predict(state, end, Sight("whole", vector))
    assert young is not None
    old = predict(state, end + 48 * HOUR, Sight("whole", vector))
    assert old is not None
    blind = predict(state, end)
    assert blind is not None
    assert young.weights["camera"] < old.weights["camera"]
    assert old.method == "camera"
    assert blind.method == "last"
    assert blind.weights["camera"] == 0.0
    for guess in (young, old, blind):
        assert sum(guess.weights.values()) == pytest.approx(1.0)
        assert 0 <= guess.lo <= guess.value <= guess.hi


def test_an_interval_is_as_wide_as_the_threshold_of_its_condition_says() -> None:
    """What was learned of the errors under this condition, not the factor of a Gaussian."""
    station = MadeStation(6)
    state = learned(station, 40)
    end, *_ = station.step()
    before = predict(state, end)
    assert before is not None
    wide = math.log1p(before.hi) - math.log1p(before.value)
    trackers = tuple(
        (name, replace(one, threshold=3.0 * one.threshold)) for name, one in state.conformal.trackers
    )
    assert trackers
    after = predict(replace(state, conformal=replace(state.conformal, trackers=trackers)), end)
    assert after is not None
    assert after.value == before.value
    assert math.log1p(after.hi) - math.log1p(after.value) == pytest.approx(3.0 * wide)


def test_without_a_picture_the_first_hours_factor_fades_into_the_day_s() -> None:
    """Where it is the larger one; with a picture, and where it is smaller, each condition has its own."""
    state = learned(MadeStation(6), 24 * 20)
    end = state.t_ms

    def factors(young: float, day: float, hours: int) -> float:
        def threshold(name: str) -> float:
            return {"blind 3h": young, "blind 24h": day}.get(name, 1.0)

        trackers = tuple(
            (name, replace(one, threshold=threshold(name))) for name, one in state.conformal.trackers
        )
        changed = replace(state, conformal=replace(state.conformal, trackers=trackers))
        narrow = replace(state, conformal=replace(state.conformal, trackers=tuple(
            (name, replace(one, threshold=1.0)) for name, one in state.conformal.trackers
        )))  # fmt: skip
        wide, one = (predict(each, end + hours * HOUR) for each in (changed, narrow))
        assert wide is not None
        assert one is not None
        return (math.log1p(wide.hi) - math.log1p(wide.value)) / (math.log1p(one.hi) - math.log1p(one.value))

    assert factors(2.0, 1.0, 3) == pytest.approx(2.0)
    assert [factors(2.0, 1.0, hours) for hours in (10, 17)] == pytest.approx([1 + 14 / 21, 1 + 7 / 21])
    assert factors(2.0, 1.0, 24) == pytest.approx(1.0)
    assert factors(1.0, 2.0, 10) == pytest.approx(2.0)


def test_intervals_cover_nine_in_ten_in_an_outage_of_a_day() -> None:
    held = []
    for seed in range(4):
        station = MadeStation(100 + seed)
        state = learned(station, 24 * 40)
        for _ in range(20):
            now = state
            steps = [station.step() for _ in range(24)]
            for end, truth, vector, day in steps:
                sight = Sight("whole", vector) if day else None
                guess = predict(now, end, sight)
                assert guess is not None
                if day:
                    held.append(guess.lo <= truth <= guess.hi)
                now = update(now, end, sight, None) or now
            for end, truth, vector, day in steps:
                state = update(state, end, Sight("whole", vector) if day else None, truth) or state
    assert 0.86 <= np.mean(held) <= 0.94


def test_readout_equals_batch_ridge() -> None:
    """The recursion is ridge regression on all pairs, forgotten and doubted as stated, to the precision of
    its float32 state.
    """
    station = MadeStation(3)
    state: VirtualSensor | None = None
    vectors, values, trusts = [], [], []
    weight = np.empty(0)
    for hour in range(200):
        end, value, vector, day = station.step()
        if hour % 25 == 24:
            value *= 4.0  # an outlier
        sight = Sight("whole", vector) if day else None
        if day:
            # Two places know how a pair counts: the module, and here, from the formula in its description.
            trust, kept = 1.0, MEMORY
            early = virtual._observed(state, sight, settled=True) if state else None
            if state and early is not None:
                off = early[0] - math.log1p(value)
                variance = state.errors.camera * early[1] * (1 + (5 / math.exp(early[0])) ** 2)
                trust = min(1.0, DOUBT**2 * variance / off**2)
                kept = min(MEMORY, max(0.7, MEMORY - 0.1 * (state.errors.strain - STRAIN)))
            weight = np.append(weight * kept, trust)
            trusts.append(trust)
            vectors.append(vector.astype(float))
            values.append(math.log1p(value))
        state = update(state, end, sight, value)
    assert state is not None
    assert state.readout is not None
    assert 0.01 < min(trusts) < 0.5
    inputs = np.column_stack((np.stack(vectors), np.zeros(len(vectors))))
    mean = weight @ inputs / weight.sum()
    level = weight @ np.array(values) / weight.sum()
    spread = np.sqrt(weight @ (inputs - mean) ** 2 / weight.sum()) + 1e-3
    standard = (inputs - mean) / spread
    gram = standard.T @ (weight[:, None] * standard) + RIDGE * np.eye(CAMERA_SIZE + 1)
    slope = np.linalg.solve(gram, standard.T @ (weight * (np.array(values) - level)))
    probe = np.append(vectors[3], 0.0)
    assert state.readout(probe) == pytest.approx(level + slope @ ((probe - mean) / spread), abs=2e-3)


def test_a_sensor_that_drifts_and_is_repaired_leaves_little_behind() -> None:
    """Two days of 3 % more an hour (four times too much in the end), then right again: what the camera says
    by itself over the ten days after is nearly what it says without the fault.
    """
    errors = []
    for drift in (1.03, 1.0):
        pairs = []
        for seed in range(3):
            station = MadeStation(200 + seed)
            state = learned(station, 24 * 20)
            for hour in range(24 * 12):
                end, value, vector, day = station.step()
                sight = Sight("whole", vector) if day else None
                if day and hour >= 48:
                    guess = predict(state, end + 96 * HOUR, sight)
                    assert guess is not None
                    pairs.append((math.log1p(value), math.log1p(guess.value)))
                shown = value * drift**hour if hour < 48 else value
                state = update(state, end, sight, shown) or state
        errors.append(rmse(pairs))
    assert errors[0] < 1.04 * errors[1], errors


def test_a_camera_that_was_moved_is_learned_anew() -> None:
    """The readout forgets what is contradicted: ten to twenty days after, it is as good as before."""
    before: list[tuple[float, float]] = []
    after: list[tuple[float, float]] = []
    for seed in range(2):
        station = MadeStation(300 + seed)
        state = learned(station, 24 * 40)
        for hour in range(24 * 30):
            if hour == 24 * 10:
                station.move()
            end, value, vector, day = station.step()
            sight = Sight("whole", vector) if day else None
            guess = predict(state, end + 96 * HOUR, sight)
            assert guess is not None
            if day and (hour < 24 * 10 or hour >= 24 * 20):
                (before if hour < 24 * 10 else after).append((math.log1p(value), math.log1p(guess.value)))
            state = update(state, end, sight, value) or state
    assert rmse(after) < 1.5 * rmse(before), (rmse(after), rmse(before))


def test_humidity_is_learned_where_it_is_measured() -> None:
    random = np.random.default_rng(4)
    errors = {}
    for measured in (True, False):
        station, state, pairs = MadeStation(5, noise=0.05), None, []
        for hour in range(24 * 40):
            end, value, vector, day = station.step()
            humidity = float(random.uniform(30, 95))
            # Wet particles scatter more: the picture shows more than there is.
            wet = -math.log(1 - humidity / 100)
            shown = (vector + station._slopes * 0.4 * (wet - 1.0)).astype(np.float32)
            sight = Sight("whole", shown, humidity if measured else None) if day else None
            if hour > 24 * 25 and sight is not None and state is not None:
                guess = predict(state, end + 96 * HOUR, sight)
                assert guess is not None
                pairs.append((math.log1p(value), math.log1p(guess.value)))
            state = update(state, end, sight, value)
        errors[measured] = rmse(pairs)
    assert errors[True] < 0.8 * errors[False]


def test_says_nothing_of_the_camera_before_enough_pairs() -> None:
    station, state, pairs = MadeStation(6), None, 0
    while pairs < MIN_PAIRS - 1:
        end, value, vector, day = station.step()
        state = update(state, end, Sight("whole", vector) if day else None, value)
        pairs += day
    guess = predict(state, end + 48 * HOUR, Sight("whole", vector))  # type: ignore[arg-type]
    assert guess is not None
    assert guess.weights["camera"] == 0.0


def test_a_picture_unlike_all_seen_is_not_listened_to() -> None:
    state = learned(MadeStation(7), 24 * 20)
    odd = Sight("whole", np.full(CAMERA_SIZE, 300.0, np.float32))
    with_it, without = predict(state, state.t_ms + 24 * HOUR, odd), predict(state, state.t_ms + 24 * HOUR)
    assert with_it == without


def test_refuses_when_nothing_was_heard_for_more_than_a_week() -> None:
    state = learned(MadeStation(8), 24 * 20)
    assert predict(state, state.t_ms + 167 * HOUR) is not None
    assert predict(state, state.t_ms + 169 * HOUR) is None


def test_starts_with_the_first_measurement() -> None:
    assert update(None, HOUR, Sight("whole", np.zeros(CAMERA_SIZE, np.float32)), None, 12.0) is None
    state = update(None, HOUR, None, 12.0)
    assert state is not None
    guess = predict(state, HOUR)
    assert guess is not None
    assert guess.value == pytest.approx(12.0)


def test_a_value_within_the_hour_is_used() -> None:
    state = learned(MadeStation(9), 48)
    end = state.t_ms + HOUR
    guess = predict(state, end, None, (80.0, end - 5 * 60_000))
    assert guess is not None
    assert guess.value == pytest.approx(80.0, rel=0.15)


def test_global_head_is_heard_only_where_it_follows_the_sensor() -> None:
    for follows in (True, False):
        station, random, state = MadeStation(10), np.random.default_rng(10), None
        for _ in range(24 * 15):
            end, value, _, _ = station.step()
            guess = 5 * value**0.5 if follows else float(random.uniform(5, 300))
            state = update(state, end, None, value, guess)
        assert state is not None
        answer = predict(state, state.t_ms + 24 * HOUR, None, None, 5 * 60.0**0.5)
        assert answer is not None
        if follows:
            assert answer.method == "global"
            assert answer.value == pytest.approx(60.0, rel=0.2)
        else:
            assert answer.weights["global"] < 0.1


def test_an_hour_of_frames_is_one_observation_however_often_asked() -> None:
    station = MadeStation(11)
    state = learned(station, 24 * 20 - 4)
    _, _, vector, _ = station.step()
    sight = Sight("whole", vector)
    hourly, minutely = state, state
    for minute in range(1, 61):
        minutely = update(minutely, state.t_ms + minute * HOUR // 60, sight, None) or minutely
    hourly = update(hourly, state.t_ms + HOUR, sight, None) or hourly
    assert minutely.level.camera == pytest.approx(hourly.level.camera, abs=0.25)


def test_new_layout_falls_back_then_takes_over() -> None:
    station = MadeStation(12)
    state = learned(station, 24 * 20)
    other = np.random.default_rng(0).permutation(CAMERA_SIZE)
    seen = 0
    while seen < MIN_PAIRS + SWITCH_HOURS + 30:
        end, value, vector, day = station.step()
        sight = Sight("far", vector[other], None, Sight("whole", vector)) if day else None
        if sight is not None:
            seen += 1
            guess = predict(state, end + 48 * HOUR, sight)
            assert guess is not None
            assert guess.method == "camera" or seen <= SWITCH_HOURS
        state = update(state, end, sight, value) or state
    assert (state.layout, state.former_layout) == ("far", "whole")
    bare = predict(state, state.t_ms + 48 * HOUR, Sight("far", vector[other]))
    assert bare is not None
    assert bare.method == "camera"


def test_a_stray_layout_costs_nothing() -> None:
    station = MadeStation(13)
    state = learned(station, 24 * 20)
    pairs = state.pairs
    for _ in range(SWITCH_HOURS - 1):
        end, value, vector, _ = station.step()
        state = update(state, end, Sight("far", vector), value) or state
    assert (state.layout, state.pairs) == ("whole", pairs)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 400), st.integers(1, 60))
def test_a_crash_changes_nothing(seed: int, before: int, after: int) -> None:
    station = MadeStation(seed)
    whole = learned(station, before)
    back = unpack(VirtualSensor, pack(whole))
    assert pack(back) == pack(whole)
    for _ in range(after):
        end, value, vector, day = station.step()
        sight = Sight("whole", vector) if day else None
        assert predict(whole, end, sight, None, 30.0) == predict(back, end, sight, None, 30.0)
        measured = value if end % 7 else None
        whole, back = (update(state, end, sight, measured, 30.0) or state for state in (whole, back))
        back = unpack(VirtualSensor, pack(back))
    assert pack(back) == pack(whole)


def test_update_leaves_the_old_state_alone() -> None:
    station = MadeStation(14)
    state = learned(station, 24 * 10)
    before = pack(state)
    end, value, vector, _ = station.step()
    update(state, end, Sight("whole", vector), value)
    assert pack(state) == before


@pytest.mark.parametrize("part", ["moments", "settled", "former", "shadows"])
def test_stored_parts_of_another_size_are_refused(part: str) -> None:
    state = learned(MadeStation(16), 24)
    parts = {one.name: getattr(state, one.name) for one in fields(state)}
    assert pack(unpack(VirtualSensor, pack(parts))) == pack(state)
    with pytest.raises(DamagedState, match=part):
        unpack(VirtualSensor, pack(parts | {part: getattr(state, part)[:-1]}))


def test_state_is_small() -> None:
    """With a layout behind it and names as long as a camera's id may be."""
    station, camera = MadeStation(15), "c" * 64
    state = learned(station, 24 * 20, f"{camera}/far:0.278-0.556,0.000-1.000")
    for _ in range(24 * 20):
        end, value, vector, day = station.step()
        sight = Sight(f"{camera}/far:0.235-0.515,0.000-1.000", vector) if day else None
        state = update(state, end, sight, value, 9.0) or state
    assert state.former_layout
    assert len(pack(state)) <= 11_000


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_irregular_hours_and_any_values_stay_finite_and_ordered(data: st.DataObject) -> None:
    state, at = None, 0
    values = st.one_of(st.none(), st.floats(0, 1e5))
    for _ in range(data.draw(st.integers(1, 30))):
        at += data.draw(st.integers(1, 10 * 24 * HOUR))
        vector = data.draw(st.none() | st.floats(-1e3, 1e3))
        sight = None if vector is None else Sight("whole", np.full(CAMERA_SIZE, vector, np.float32))
        state = update(state, at, sight, data.draw(values), data.draw(values))
        if state is not None:
            guess = predict(
                state, at + data.draw(st.integers(0, 8 * 24 * HOUR)), sight, None, data.draw(values)
            )
            if guess is not None:
                assert math.isfinite(guess.hi)
                assert 0 <= guess.lo <= guess.value <= guess.hi
                assert all(0 <= share <= 1 + 1e-9 for share in guess.weights.values())


def test_a_head_that_hardly_moves_cannot_throw_the_estimate() -> None:
    """What it says is scaled to the level: if it moves a tenth as far, each step is taken for ten."""
    rng = np.random.default_rng(23)
    state, level = None, 0.0
    told = []
    for hour in range(200):
        level = 0.9 * level + 0.4 * rng.normal()
        value = 30.0 * math.exp(level)
        told.append(value)
        state = update(state, (hour + 1) * HOUR, None, value, 50.0 * math.exp(level / 10))
    assert state is not None
    for silent in range(1, 100):
        state = update(state, (200 + silent) * HOUR, None, None, 500.0)
        assert state is not None
    guess = predict(state, 300 * HOUR, None, None, 500.0)
    assert guess is not None
    assert guess.weights["global"] > 0.5
    assert 1.0 + guess.value <= math.exp(MARGIN) * (1.0 + max(told))


def test_nonsense_is_refused() -> None:
    state = learned(MadeStation(17), 10)
    with pytest.raises(ArrayError, match="forward"):
        update(state, state.t_ms, None, 1.0)
    with pytest.raises(ArrayError):
        update(state, state.t_ms + HOUR, None, -1.0)
    with pytest.raises(ArrayError):
        update(state, state.t_ms + HOUR, Sight("whole", np.zeros(3, np.float32)), 1.0)
    with pytest.raises(ArrayError):
        predict(state, state.t_ms, Sight("whole", np.full(CAMERA_SIZE, np.nan, np.float32)))


def test_camera_vector_and_layout() -> None:
    picture, projection = scene(size=(448, 96)), np.arange(64, dtype=np.float32)
    vector = camera_vector(picture, projection)
    assert vector.dtype == np.float32
    assert np.array_equal(vector, np.concatenate((projection[:COMPONENTS], contrast(picture), haze(picture))))
    assert len(vector) == CAMERA_SIZE
    assert layout(None) == "whole"
    assert layout(Strip(0.25, 0.5)) != layout(Strip(0.25, 0.51))
    with pytest.raises(ArrayError):
        camera_vector(picture, projection[:4])


def test_parameters_are_within_reach_of_each_other() -> None:
    """The ages at which shadows are scored join without gap from 0 to the week after which nothing is
    said.
    """
    ends = [age for span in virtual._AGES for age in span]
    assert ends[0] == 0.0
    assert ends[1:-1:2] == ends[2::2]
    assert ends[-1] == 168.0


def test_an_estimate_says_how_often_such_intervals_held_lately() -> None:
    station = MadeStation(7)
    young = learned(station, 6)
    assert predict(young, young.t_ms + HOUR) is not None
    assert predict(young, young.t_ms + HOUR).coverage is None  # type: ignore[union-attr]
    state = learned(MadeStation(7), 24 * 60)
    told = {
        hours: predict(state, state.t_ms + hours * HOUR).coverage  # type: ignore[union-attr]
        for hours in (1, 12)
    }
    kept = {name: tracker.rolling for name, tracker in state.conformal.trackers}
    assert told == {1: kept["blind 3h"], 12: kept["blind 24h"]}
    assert all(coverage is not None and 0.8 <= coverage <= 1.0 for coverage in told.values())
    assert predict(unpack(VirtualSensor, pack(state)), state.t_ms + HOUR) == predict(state, state.t_ms + HOUR)
