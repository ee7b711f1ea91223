"""The watch beside a plain CUSUM: bars of so many alarms, and the same slides for both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.drift_beside import _crossings, _cusum, _laid_on, _resets, beside_cusum
from network.drift_sums import Sum
from network.members import Variable
from schemas.arrays import Float32

VARIABLES = tuple(Variable(f"s{number}", name) for number in range(4) for name in ("pm25", "o3"))
FIRST, DAYS, LEARNING = 19_000, 165, 60


def calm_days(seed: int = 5) -> Float32:
    """(days, sums, d) of sensors whose days differ from what the others let expect, by 0.06 more or less, and
    the next day by half as much."""
    random = np.random.default_rng(seed)
    differ = random.normal(0.0, 0.06, (DAYS, 1, len(VARIABLES)))
    for day in range(1, DAYS):
        differ[day] += 0.5 * differ[day - 1]
    hours = differ[:, :, None, :] + random.normal(0.0, 0.1, (DAYS, 1, 24, len(VARIABLES)))
    slope = 0.7
    sums = np.zeros((DAYS, len(Sum), len(VARIABLES)), dtype=np.float32)
    sums[:, Sum.HOURS] = 24.0
    sums[:, Sum.PULL] = slope * hours.sum(axis=2)[:, 0]
    sums[:, Sum.LEVER] = 24.0 * slope**2
    sums[:, Sum.APART] = hours.sum(axis=2)[:, 0]
    sums[:, Sum.SQUARES] = (hours**2).sum(axis=2)[:, 0]
    return sums


def test_both_rules_get_the_same_slides_and_more_alarms_are_never_slower() -> None:
    found = beside_cusum(VARIABLES, FIRST, calm_days(), LEARNING)
    of = {(one.rule, one.pollutant, one.per_day, one.alarms): one for one in found}
    assert len(of) == len(found) == 2 * 2 * 2 * 2
    for rule in ("cusum", "watch"):
        for name in ("pm25", "o3"):
            slow, rare = of[rule, name, 0.01, 1.0], of[rule, name, 0.01, 0.5]
            fast = of[rule, name, 0.02, 1.0]
            assert (slow.slides, fast.slides) == (5, 6)
            assert slow.median is not None
            assert fast.median is not None
            assert 5 <= fast.median < slow.median <= 30
            assert rare.median is None or rare.median >= slow.median
    assert slow.to_plain()["fault"] == "1% a day, laid on"


def test_a_slide_is_laid_on_as_if_it_had_been_read() -> None:
    """At one sensor alone: the mean grows by the slide times the slope, hour by hour alike."""
    sums = calm_days()[:10]
    spoilt = _laid_on(sums, [3], 0.02)
    assert np.delete(spoilt, 3, axis=2) == pytest.approx(np.delete(sums, 3, axis=2))
    gain = np.log(1.02) * (np.arange(10) + 0.5)
    assert spoilt[:, Sum.APART, 3] - sums[:, Sum.APART, 3] == pytest.approx(24 * 0.7 * gain, rel=1e-3)
    assert spoilt[:, Sum.PULL, 3] - sums[:, Sum.PULL, 3] == pytest.approx(24 * 0.49 * gain, rel=1e-3)
    within = spoilt[:, Sum.SQUARES] / 24 - (spoilt[:, Sum.APART] / 24) ** 2
    assert within[:, 3] == pytest.approx(
        (sums[:, Sum.SQUARES] / 24 - (sums[:, Sum.APART] / 24) ** 2)[:, 3], rel=1e-2
    )


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=30), st.floats(0.5, 6))
def test_a_cusum_is_what_the_book_says(days: list[float], bar: float) -> None:
    up = down = upper = lower = 0.0
    alarms = 0
    said = _cusum(np.array(days)[:, None])[:, 0]
    for day, one in enumerate(days):
        up, down = max(0.0, up + one - 0.5), max(0.0, down - one - 0.5)
        assert said[day] == pytest.approx(max(up, down))
        upper, lower = max(0.0, upper + one - 0.5), max(0.0, lower - one - 0.5)
        if max(upper, lower) >= bar:
            alarms += 1
            upper = lower = 0.0
    assert _resets(np.array(days)[:, None], bar) == alarms


def test_a_score_that_stays_up_is_one_alarm_until_it_was_calm_or_long_ago() -> None:
    score = np.array([0.0, 5.0, 5.0, 4.0, 5.0, 2.0, 5.0] + [5.0] * 50)[:, None]
    assert _crossings(score, 4.5) == 3
    assert _crossings(score, 5.5) == 0
