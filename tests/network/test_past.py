"""A silent sensor's own past: what lasts of its difference from the others."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.members import Silence
from network.past import AGES, SHADOWS, Past, ShadowAnswer, age_class, observed
from schemas.arrays import Float64

D = 40
OF = np.zeros(D, dtype=np.int64)
ONES = np.ones((len(Silence), D))


def played(
    differences: list[Float64], told: list[Float64] | None = None
) -> tuple[Past, list[list[ShadowAnswer]]]:
    past, answers = Past.fresh(D), []
    for number, difference in enumerate(differences):
        both = difference, told[number] if told else np.zeros(D)
        others, own = (np.tile(one, (len(Silence), 1)) for one in reversed(both))
        past, asked = observed(past, 1000 + number, others, own, ONES, OF)
        answers.append(asked)
    return past, answers


@given(st.floats(0.0, 5000.0))
def test_the_class_of_an_age_is_the_first_that_holds_it(hours: float) -> None:
    wanted = next((number for number, oldest in enumerate(AGES) if hours <= oldest), len(AGES) - 1)
    assert age_class(np.array(hours)) == wanted


def test_shadows_are_asked_at_the_ages_that_are_theirs() -> None:
    _, answers = played([np.zeros(D)] * 800)
    ages = [answer.age for asked in answers for answer in asked]
    assert set(ages) == set(range(1, max(oldest for oldest, _ in SHADOWS) + 1))
    # The youngest shadow answers every hour but the one in which it begins anew: it is then too old.
    young = [[answer.age for answer in asked if answer.age <= 6] for asked in answers[1:]]
    assert young == [[hour % 7 + 1] if hour % 7 < 6 else [] for hour in range(len(young))]
    # So each age is asked for at all hours of the day: what is seen at noon alone is no rule of the night.
    of_a_day = [[answer.age for answer in asked if answer.age <= 24] for asked in answers[1:]]
    for age in (1, 6, 12, 24):
        assert {hour % 24 for hour, asked in enumerate(of_a_day) if age in asked} == set(range(24))
    for asked in answers:
        classes = [number for answer in asked for number, (oldest, youngest) in enumerate(SHADOWS)
                   if youngest <= answer.age <= oldest]  # fmt: skip
        assert len(classes) == len(set(classes)) == len(asked)


def test_a_bias_that_lasts_is_expected_whole() -> None:
    bias = np.random.default_rng(2).normal(size=D)
    past, answers = played([bias] * 1500)
    # Both parts together explain it; the last difference alone would not.
    remains = past.lasting.remains[0, 0]
    assert (remains[:5] < 0.05).all()
    # Of forty sensors each has been silent for a month once or twice: what was believed before counts, too.
    assert (remains[5:] < (0.1, 0.1, 0.25)).all()
    for answer in answers[-1]:
        np.testing.assert_allclose(answer.said[0], bias, rtol=0.15, atol=0.05)
        np.testing.assert_allclose(answer.error, np.tile(bias, (len(Silence), 1)) - answer.said)


def test_noise_is_not_expected_to_last() -> None:
    random = np.random.default_rng(3)
    past, _ = played([random.normal(size=D) for _ in range(1500)])
    assert np.abs(past.lasting.last[0, 0]).max() < 0.1
    assert (past.lasting.remains[0, 0] > 0.9).all()


def test_what_forgets_itself_in_a_day_lasts_for_hours() -> None:
    random, now, seen = np.random.default_rng(5), np.zeros(D), []
    for _ in range(1500):
        now = 0.95 * now + np.sqrt(1 - 0.95**2) * random.normal(size=D)
        seen.append(now)
    last = played(seen)[0].lasting.last[0, 0]
    # The day's mean has a part of what is left: the last difference alone counts for less than the power.
    for number, hours in ((0, 1), (1, 3), (3, 12)):
        assert last[number] == pytest.approx(0.95**hours, abs=0.12)
    assert last[0] > last[1] > last[3] > last[6] - 0.05


def test_who_is_not_heard_neither_learns_nor_teaches() -> None:
    random = np.random.default_rng(6)
    differences = [random.normal(size=D) for _ in range(400)]
    alone, _ = played(differences)
    with_gaps = [difference.copy() for difference in differences]
    for difference in with_gaps:
        difference[7] = np.nan
    gaps, _ = played(with_gaps)
    assert np.isnan(gaps.day[:, 7]).all()
    others = [number for number in range(D) if number != 7]
    np.testing.assert_array_equal(gaps.day[:, others], alone.day[:, others])
    assert np.isfinite(gaps.moments).all()
    assert (gaps.moments[0] <= alone.moments[0]).all()


def test_a_past_is_not_changed_by_what_follows() -> None:
    before, _ = played([np.full(D, 0.5)] * 30)
    kept = [before.day.copy(), before.last.copy(), before.mean.copy(), before.moments.copy()]
    observed(before, 1030, ONES * 3, ONES * 9, ONES, OF)
    for array, copy in zip((before.day, before.last, before.mean, before.moments), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_an_hour_of_fireworks_is_no_rule_of_what_lasts() -> None:
    """Differences of a hundred deviations for an hour, in one of which the shadows stand anew."""
    random = np.random.default_rng(8)
    differences = [random.normal(size=D) for _ in range(1500)]
    for hour in range(1300, 1306):
        differences[hour] = 100.0 * random.normal(size=D)
    lasting = played(differences)[0].lasting
    for coefficients in (lasting.last, lasting.day):
        assert (coefficients >= 0.0).all()
        assert (coefficients <= 1.0).all()
    assert (lasting.remains[0, 0, 4:] > 0.8).all()


def test_a_difference_of_one_silence_is_one_however_many_hours_it_is_asked_for() -> None:
    """In 40 days one sensor is silent for a month once: that is no reason to go by it alone."""
    past = Past.fresh(1)
    one = np.ones((len(Silence), 1))
    for hour in range(1000, 1000 + 40 * 24):
        past, _ = observed(past, hour, 0.0 * one, 2.0 * one, one, np.zeros(1, dtype=np.int64))
    both = past.lasting.last[0, 0, -1] + past.lasting.day[0, 0, -1]
    assert 1 / 3 < both < 0.8


def test_where_the_others_know_nothing_what_was_read_last_stays() -> None:
    """What others say wanders, and what is read does not follow: for hours the last value is best."""
    random, air, word, read, told = np.random.default_rng(9), np.zeros(D), np.zeros(D), [], []
    for _ in range(800):
        air, word = (0.97 * one + np.sqrt(1 - 0.97**2) * random.normal(size=D) for one in (air, word))
        read.append(air)
        told.append(word)
    past, answers = played([own - others for own, others in zip(read, told, strict=True)], told)
    stayed = past.lasting.stayed[0, 0]
    assert (stayed[:3] > 0.7).all()
    # From a day on nothing is held back: it could not be told from a difference.
    assert (stayed[4:] == 0.0).all()
    # Of an hour's silence about as much is left as the air itself changes by in an hour.
    errors = [answer.error[0] for asked in answers[400:] for answer in asked if answer.age == 1]
    assert np.std(errors) < 1.15 * np.sqrt(2 * (1 - 0.97))


def test_where_the_others_know_all_one_goes_along_with_them() -> None:
    random, word, told = np.random.default_rng(10), np.zeros(D), []
    for _ in range(800):
        word = 0.9 * word + np.sqrt(1 - 0.9**2) * random.normal(size=D)
        told.append(word)
    past, _ = played([0.1 * random.normal(size=D) for _ in told], told)
    assert past.lasting.stayed[0, 0].max() < 0.05


def test_a_past_of_before_goes_on_as_it_was_and_learns_what_it_lacks() -> None:
    """It had three shadows, and did not know what the others had said."""
    random = np.random.default_rng(11)
    whole, _ = played([random.normal(size=D) for _ in range(100)])
    before = replace(
        whole,
        at=whole.at[:3],
        last=whole.last[:3],
        mean=whole.mean[:3],
        told=np.zeros(0),
        turned=np.zeros(0),
    )
    completed = before.completed()
    np.testing.assert_array_equal(completed.moments, whole.moments)
    np.testing.assert_array_equal(completed.last[:3], whole.last[:3])
    assert np.isfinite(before.lasting.remains).all()
    after = before
    for hour in range(1100, 1120):
        after, asked = observed(after, hour, ONES * hour, ONES, ONES, OF)
        for answer in asked:
            assert answer.said.shape == ONES.shape
    assert np.isfinite(after.told[-1]).all()
    assert (after.turned[0] > 0.0).any()
    assert after.completed() is after


def test_what_goes_far_within_hours_is_no_reason_to_stay_behind() -> None:
    """The others are hardly ever wrong, and go by ten deviations in an hour; a fifth is not followed."""
    random, word, told = np.random.default_rng(12), np.zeros(D), []
    for _ in range(800):
        word = 0.5 * word + 10.0 * random.normal(size=D)
        told.append(word)
    read = [told[0]]
    for before, now in pairwise(told):
        read.append(now + 0.2 * (before - now) + 0.1 * random.normal(size=D))
    past, _ = played([own - others for own, others in zip(read, told, strict=True)], told)
    assert past.lasting.stayed[0, 0, 0] == pytest.approx(0.2, abs=0.06)
