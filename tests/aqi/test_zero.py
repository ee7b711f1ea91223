"""A zero that is lost, told from noise about it; and air so clean that its unit is in doubt."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqi.flags import GOOD, SUSPECT, UNIT
from aqi.limits import Limits
from aqi.quality import FRESH, judge
from aqi.quality_defaults import defaults
from aqi.zero import MEMORY_MS, ZeroLevel, followed, is_lost

MINUTE, HOUR = 60_000, 3_600_000


def after(values: list[float], step: int = MINUTE, lowest: float = -4.0) -> list[bool]:
    """After each reading, whether the zero is lost."""
    level: ZeroLevel | None = None
    found = []
    for number, value in enumerate(values):
        level = followed(level, number * step, value, lowest)
        found.append(is_lost(level, lowest))
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([MINUTE, 10 * MINUTE, HOUR]), st.floats(-1.0, 60.0), st.floats(0.1, 3.0), st.integers()
)
def test_noise_in_air_of_any_level_has_a_zero(step: int, mean: float, spread: float, seed: int) -> None:
    dice = random.Random(seed)
    spread = min(spread, 2.0) if step == HOUR else spread
    assert not any(after([dice.gauss(mean, spread) for _ in range(100)], step))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([MINUTE, 10 * MINUTE, HOUR]), st.floats(-14.0, -6.0), st.integers())
def test_a_mean_far_below_it_is_found_in_hours(step: int, mean: float, seed: int) -> None:
    dice = random.Random(seed)
    clean = [dice.gauss(20.0, 2.0) for _ in range(30)]
    broken = [dice.gauss(mean, 1.0) for _ in range(8 * HOUR // step)]
    found = after([*clean, *broken], step)
    assert all(found[-(2 * HOUR // step) :])
    assert not any(found[: len(clean)])


def test_one_deep_reading_is_none_and_neither_is_a_quarter_of_an_hour() -> None:
    assert not any(after([1.0] * 120 + [-14.0] + [1.0] * 60))
    assert not any(after([-9.0] * 60)), "less than an hour is known of it"
    assert not any(after([1.0] * 120 + [-14.0] * 15 + [1.0] * 60))
    assert after([-9.0] * 4, HOUR) == [False, False, False, True], "of fewer hours the noise is large"


def test_it_comes_back_with_the_zero_and_a_long_gap_begins_anew() -> None:
    found = after([-9.0] * 120 + [3.0] * 180)
    assert found[119]
    assert not any(found[-90:])
    level = followed(None, 0, -9.0, -4.0)
    assert followed(level, MEMORY_MS + 1, -9.0, -4.0).readings == 1
    assert followed(level, MEMORY_MS, -9.0, -4.0).readings == 2
    assert followed(level, 0, 5.0, -4.0) is level, "not after the last"


TINY = Limits(tiny_below=0.3, tiny_s=3600)


def doubted(values: list[float], limits: Limits = TINY, step: int = 10 * MINUTE) -> list[bool]:
    verdicts, _ = judge(limits, FRESH, [(number * step, value) for number, value in enumerate(values)])
    assert all((verdict.flag == SUSPECT) == bool(verdict.tests & UNIT) for verdict in verdicts)
    return [bool(verdict.tests & UNIT) for verdict in verdicts]


def test_readings_that_stay_tiny_are_in_doubt_of_their_unit() -> None:
    assert doubted([0.03, 0.05] * 6) == [False] * 6 + [True] * 6
    assert doubted([0.03, 0.0] * 6) == [False] * 6 + [True] * 6, "rounded to none"
    assert not any(doubted([0.0] * 12)), "a zero that stands still is another test's"
    assert not any(doubted([0.03] * 6 + [-0.01] + [0.03] * 6)), "noise about zero"
    assert not any(doubted([0.03] * 6 + [0.3] + [0.03] * 6))
    assert doubted([0.03] * 7 + [9.0, 0.03]) == [False] * 6 + [True, False, False]


@pytest.mark.parametrize("parameter", ["pm25", "pm10", "no2", "so2", "co", "o3"])
def test_every_pollutant_in_the_next_larger_unit(parameter: str) -> None:
    """An ordinary day, a thousandth of it; and noise of clean air, which is none."""
    limits = defaults().limits[parameter]
    usual = {"pm25": 35.0, "pm10": 80.0, "no2": 60.0, "so2": 20.0, "co": 600.0, "o3": 120.0}[parameter]
    day = [usual * (1.0 + 0.5 * math.sin(number / 20)) for number in range(144)]
    verdicts, _ = judge(limits, FRESH, [(k * 10 * MINUTE, value / 1000) for k, value in enumerate(day)])
    assert (verdicts[0].flag, verdicts[-1]) == (GOOD, (SUSPECT, UNIT))
    dice = random.Random(1)
    level, spread = (150.0, 80.0) if parameter == "co" else (0.4, 1.0)
    noise = [(k * 10 * MINUTE, dice.gauss(level, spread)) for k in range(144)]
    assert not any(verdict.tests & UNIT for verdict in judge(limits, FRESH, noise)[0])
