"""What a station teaches: against plain least squares, and what it does to a forecast that is wrong here."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.calibration import as_published
from forecast.contest import Contest
from forecast.features import LOOKBACK, OriginFeatures
from forecast.local import HIGHEST, KEPT, TERMS, Lessons, LocalRows, corrected, local_rows, solved
from forecast.models import ANCHORS
from forecast.panel import CHANNELS, Panel
from forecast.rehearsal import rehearsed
from forecast.taught import LocalRecord
from schemas.parameters import POLLUTANTS
from tests.forecast.test_outlook import BEGINS, air, typical

P, A = len(POLLUTANTS), len(ANCHORS)
COUNT = len(TERMS)
USUAL = (50.0,) * P


def nothing_known(stations: int, last: float = 50.0) -> LocalRows:
    return LocalRows(np.zeros((stations, P, COUNT - 1), np.float32), np.full((stations, P), last, np.float32))


def fan(stations: int, mean: float) -> np.ndarray:
    """(stations, 1, pollutants, 8)"""
    levels = np.array([0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.5, 1.0], np.float32) * np.float32(mean)
    return np.broadcast_to(levels, (stations, 1, P, 8)).copy()


def one_horizon(rows: LocalRows) -> LocalRows:
    return LocalRows(rows.terms[:, None], rows.last[:, None])


def test_the_lines_are_those_of_ridge_regression() -> None:
    random = np.random.default_rng(2)
    terms, change = random.normal(0, 5, (300, COUNT)), random.normal(0, 5, 300)
    terms[:, 4] = 0.0  # never known
    first, second = np.triu_indices(COUNT)
    sums = np.concatenate([(terms[:, first] * terms[:, second]).sum(0), change @ terms])
    found = solved(np.stack([sums, 1e6 * sums, 0 * sums]), np.array([0.4, 0.4, 0.4]))
    squares = np.square(terms).sum(0)
    drawn = 0.4 * (squares + 1e-3 * squares.mean())
    prior = np.eye(COUNT)[0]
    wanted = np.linalg.solve(terms.T @ terms + np.diag(drawn), terms.T @ change + drawn * prior)
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)
    np.testing.assert_allclose(found[1], wanted, atol=1e-6)
    np.testing.assert_array_equal(found[2], prior)
    assert found[0, 4] == 0


def test_where_nothing_has_come_a_fifth_of_a_change_is_believed() -> None:
    """From 50 to 80 it is 56, from 50 to 24 it is 44.8; the fan holds what the mix has, too."""
    base = fan(2, 80.0)
    base[1] = base[1] * 0.3
    said, kept = corrected(base, one_horizon(nothing_known(2)), Lessons.of(2, 1).correction((24,)))
    np.testing.assert_allclose(said[0, 0, :, :4], fan(1, 56.0)[0, 0, :, :4], rtol=1e-6)
    np.testing.assert_allclose(said[0, 0, :, 6], 120, rtol=1e-6)
    np.testing.assert_allclose(said[0, 0, :, 7], 56, rtol=1e-6)
    np.testing.assert_allclose(said[1, 0, :, 3], 44.8, rtol=1e-6)
    np.testing.assert_allclose(said[1, 0, :, 7], 44.8, rtol=1e-6)
    np.testing.assert_allclose(said[1, 0, :, 6], 44.8 + 12, rtol=1e-6)
    np.testing.assert_allclose(said[1, 0, :, 0], 12, rtol=1e-6)
    np.testing.assert_allclose(kept[0, 0, 0], [80, 80, 80, 80, 80], rtol=1e-3)


def test_a_new_station_leans_as_its_region_has_seen_and_a_lone_one_on_what_it_saw_itself() -> None:
    """Three weeks in which all that was foretold came: of the neighbour, not of the stranger."""
    lessons, rows = Lessons.of(3, 1), nothing_known(3)
    for hour in range(24 * 21):
        base = fan(3, 100.0 if hour % 2 else 30.0)
        _, kept = corrected(base, one_horizon(rows), lessons.correction((1,)))
        came = np.full((3, P), np.nan, np.float32)
        came[0] = base[0, 0, :, -1]
        lessons.learn(0, rows, kept[:, 0], came, USUAL)
    found = lessons.leaning((1,), (7, 7, 9))[:, 0]
    assert (found[0] > 0.95).all()
    assert (found[1] > 0.75).all()
    assert (found[1] < found[0]).all()
    np.testing.assert_allclose(found[2], 0.2)
    np.testing.assert_array_equal(found[2], lessons.leaning((1,), (0, 1, 2))[2, 0])


def test_after_months_the_lines_alone_decide_what_came_of_a_change() -> None:
    """Half of what was foretold has come for a day, a week, a year."""
    found = []
    for hours in (24, 168, 6000):
        lessons = Lessons.of(1, 1)
        lessons.tallies[..., 0] = hours
        lessons.sums[..., 0], lessons.sums[..., COUNT * (COUNT + 1) // 2] = 100.0 * hours, 50.0 * hours
        found.append(float(lessons.leaning((24,), (0,))[0, 0, 0, 0]))
    # Drawn by 192 hours to the region, and that to a fifth; then by 960 hours towards all of it.
    for hours, one in zip((24, 168, 6000), found, strict=True):
        came = 0.5 - 0.3 * (192 / (hours + 192)) ** 2
        assert one == pytest.approx(1 - (1 - came) * 960 / (960 + hours))
    assert found[-1] > 0.9


def taught(hours: int, foretold: float, came: float, noise: float = 0.0) -> tuple[Lessons, LocalRows]:
    """A mix that says one thing of air in which another one comes, give or take."""
    random = np.random.default_rng(4)
    lessons, rows = Lessons.of(1, 1), nothing_known(1)
    for _ in range(hours):
        base = fan(1, foretold)
        _, kept = corrected(base, one_horizon(rows), lessons.correction((1,)))
        outcome = (came + noise * random.standard_normal((1, P))).astype(np.float32)
        lessons.learn(0, rows, kept[:, 0], outcome, USUAL)
    return lessons, rows


def test_a_change_that_never_comes_is_not_believed() -> None:
    off = []
    for hours in (0, 24, 24 * 7, 24 * 60):
        lessons, rows = taught(hours, 100.0, 55.0, 2.0)
        said, _ = corrected(fan(1, 100.0), one_horizon(rows), lessons.correction((1,)))
        off.append([said[0, 0, 0, -1], said[0, 0, 0, 3], said[0, 0, 0, 6] - said[0, 0, 0, 0]])
    means, medians, wide = np.transpose(off)
    assert (means < 75).all()  # next to nothing of the change was believed in the first place
    assert (medians < 75).all()
    assert wide[0] == pytest.approx(120)  # from half of 60 to half more than 100: whoever is right
    assert wide[1] > 0.9 * wide[0]  # the mix was far off, and it knows it
    assert wide[-1] < 0.65 * wide[0]
    assert means[0] == medians[0] == pytest.approx(60)
    assert means[-1] == pytest.approx(55, abs=8)
    assert medians[-1] == pytest.approx(55, abs=8)


def test_what_was_not_measured_teaches_nothing_and_what_is_far_off_not_much() -> None:
    lessons, rows = taught(24 * 30, 60.0, 55.0, 2.0)
    before = Lessons(lessons.sums.copy(), lessons.tallies.copy())
    kept = np.full((1, P, KEPT), 60.0, np.float16)
    lessons.learn(0, rows, kept, np.full((1, P), np.nan, np.float32), USUAL)
    np.testing.assert_array_equal(lessons.sums, before.sums)
    np.testing.assert_array_equal(lessons.tallies, before.tallies)
    lessons.learn(0, rows, kept, np.full((1, P), 1e5, np.float32), USUAL)
    said = [
        corrected(fan(1, 60.0), one_horizon(rows), one.correction((1,))).said[0, 0, 0]
        for one in (before, lessons)
    ]
    assert abs(said[1][3] - said[0][3]) < 0.2
    assert abs(said[1][7] - said[0][7]) < 1.0


def test_a_month_of_air_that_stood_still_does_not_outweigh_what_comes_after() -> None:
    lessons, rows = taught(24 * 30, 50.0, 50.0)
    for _ in range(24 * 30):
        _, kept = corrected(fan(1, 100.0), one_horizon(rows), lessons.correction((1,)))
        lessons.learn(0, rows, kept[:, 0], np.full((1, P), 55.0, np.float32), USUAL)
    said, _ = corrected(fan(1, 100.0), one_horizon(rows), lessons.correction((1,)))
    assert said[0, 0, 0, 3] == pytest.approx(55, abs=10)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_quantiles_never_cross_and_a_station_has_the_same_bits_alone_and_among_others(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = 10.0 ** random.integers(0, 6)

    def drawn(*shape: int) -> np.ndarray:
        return (size * random.gamma(1.0, 1.0, shape)).astype(np.float32)

    lessons, alone = Lessons.of(3, 2), Lessons.of(1, 2)
    for _ in range(5):
        base = np.sort(drawn(3, 2, P, 8), axis=-1)
        rows = LocalRows(drawn(3, 2, P, COUNT - 1) - np.float32(size), drawn(3, 2, P))
        said, kept = corrected(base, rows, lessons.correction((1, 72)))
        one = corrected(base[1:2], LocalRows(*(part[1:2] for part in rows)), alone.correction((1, 72)))
        np.testing.assert_array_equal(said[1:2], one.said)
        assert np.isfinite(said).all()
        assert (np.diff(said[..., :-1]) >= 0).all()
        assert (said >= 0).all()
        assert (said <= HIGHEST).all()
        outcome = drawn(3, P)
        outcome[random.random(outcome.shape) < 0.2] = np.nan
        for place in (0, 1):
            of = LocalRows(rows.terms[:, place], rows.last[:, place])
            lessons.learn(place, of, kept[:, place], outcome, USUAL)
            alone.learn(place, LocalRows(*(part[1:2] for part in of)), kept[1:2, place], outcome[1:2], USUAL)


def test_rows_are_of_what_was_known_then_and_the_same_from_a_week_as_from_all() -> None:
    values = air(3, 400)
    long = Panel(("a", "b", "c"), BEGINS, (8.0, 8.0, 8.0), values)
    week = long.between(BEGINS + 300 - LOOKBACK, BEGINS + 300)
    altered = values.copy()
    altered[:, 300 - 72 :, :P] = 999.0
    later = Panel(long.stations, BEGINS, long.offsets, altered)
    for ahead in (1, 25, 72):
        now = local_rows(OriginFeatures(long), typical(), np.array([299 - 72]), ahead)
        for other, origin in ((week, LOOKBACK - 1 - 72), (later, 299 - 72)):
            then = local_rows(OriginFeatures(other), typical(), np.array([origin]), ahead)
            np.testing.assert_array_equal(now.terms, then.terms)
            np.testing.assert_array_equal(now.last, then.last)


def test_the_terms_are_what_they_are_called() -> None:
    """Of an hour foretold at 39 and of its station's clock, each from the plain series."""
    values = air(2, 120)
    values[0, 100:104, 1] = np.nan
    panel = Panel(("a", "b"), BEGINS, (8.0, 5.0), values)
    for row, origin, ahead, pollutant in ((0, 110, 5, 0), (1, 100, 30, 2), (0, 110, 8, 1)):
        rows = local_rows(OriginFeatures(panel), typical(), np.array([origin]), ahead)
        own, near = values[row, :, pollutant], values[1 - row, :, pollutant]
        target = origin + ahead
        same = [target - 24 * days for days in range(1, 6) if target - 24 * days <= origin][:2]
        day_before, two_before = (own[hour] for hour in same)
        last = own[origin]
        level = np.nanmean(own[origin - 71 : origin + 1])
        day = 2 * np.pi * ((BEGINS + target + panel.offsets[row]) % 24) / 24
        wanted = [
            (two_before if np.isnan(day_before) else day_before) - last, two_before - last,
            *(np.nanmean(own[origin - hours + 1 : origin + 1]) - last for hours in (3, 24, 72)),
            last - own[origin - 1], near[origin] - last,
            level, *(level * part for part in (np.sin(day), np.cos(day), np.sin(2 * day), np.cos(2 * day))),
        ]  # fmt: skip
        assert len(wanted) == len(TERMS) - 1
        np.testing.assert_allclose(rows.terms[row, 0, pollutant], np.nan_to_num(wanted), rtol=2e-3, atol=2e-3)
        assert rows.last[row, 0, pollutant] == last


def test_half_of_what_was_learned_is_gone_after_half_a_year_and_a_step_counts_as_its_hours() -> None:
    lessons, kept = Lessons.of(1, 1), np.full((1, P, KEPT), 60.0, np.float16)
    outcome, half_a_year = np.full((1, P), 55.0, np.float32), 24 * 180
    lessons.learn(0, nothing_known(1), kept, outcome, USUAL, half_a_year)
    first = lessons.sums.copy()
    assert first.any()
    np.testing.assert_allclose(lessons.tallies[..., 0], half_a_year)
    lessons.learn(0, nothing_known(1), kept, outcome, USUAL, half_a_year)
    np.testing.assert_allclose(lessons.sums, 1.5 * first, rtol=1e-3)
    np.testing.assert_allclose(lessons.tallies[..., 0], 1.5 * half_a_year)


def test_far_ahead_a_line_and_how_far_it_is_believed_follow_later() -> None:
    lessons = Lessons.of(1, 2)
    kept = np.broadcast_to(np.array([100, 100, 50, 70, 70], np.float16), (1, P, KEPT))
    for _ in range(200):
        for place in (0, 1):
            lessons.learn(place, nothing_known(1), kept, np.full((1, P), 60.0, np.float32), USUAL)
    by = lessons.correction((1, 72))
    assert (by.lines[0, 0, :, :, 0] < by.lines[0, 1, :, :, 0] - 0.05).all()
    assert (by.trust[0, 0] > by.trust[0, 1] + 0.05).all()


def test_the_medians_line_is_of_the_median_and_the_means_of_the_mean() -> None:
    lessons = Lessons.of(1, 1)
    kept = np.broadcast_to(np.array([100, 60, 50, 100, 60], np.float16), (1, P, KEPT))
    for _ in range(300):
        lessons.learn(0, nothing_known(1), kept, np.full((1, P), 60.0, np.float32), USUAL)
    lines = lessons.correction((1,)).lines[0, 0, :, :, 0]
    np.testing.assert_allclose(lines[:, 1], 1.0, atol=1e-3)  # right as it is
    assert (lines[:, 0] < 0.7).all()


@pytest.mark.parametrize("horizon", [1, 24])
def test_a_rehearsal_learns_from_an_hour_that_has_come_and_seldom_as_fast_as_often(horizon: int) -> None:
    def reached(step: int, altered: int | None = None) -> np.ndarray:
        origins = np.arange(96, 96 + 24 * 30, step)
        values = np.full((1, origins[-1] + horizon + 1, len(CHANNELS)), 50.0, np.float32)
        said = np.broadcast_to(fan(1, 100.0)[:, None], (1, len(origins), 1, P, 8)).copy()
        truth = values[:, origins + horizon, None, :P].copy()
        if altered is not None:
            truth[:, altered] = 400.0
        features = OriginFeatures(Panel(("a",), BEGINS, (0.0,), values))
        local, _ = rehearsed([said], truth, features, origins, (horizon,), typical(), step)
        return local[0, :, 0, 0, 3]

    often, seldom = reached(1), reached(5)
    assert abs(seldom[-1] - often[-1]) < 0.1 * abs(100 - often[-1])
    changed = int(np.flatnonzero(reached(5, altered=20) != seldom)[0])
    assert changed == 20 + -(-horizon // 5)


def test_in_a_rehearsal_the_corrected_mix_is_scored_by_what_it_says_itself() -> None:
    """The mix errs by 50, another model by 30; corrected it soon errs by less, and the other is silent."""
    origins = np.arange(96, 96 + 24 * 20, 3)
    values = np.full((1, origins[-1] + 2, len(CHANNELS)), 50.0, np.float32)
    other, mix = (
        np.broadcast_to(fan(1, mean)[:, None], (1, len(origins), 1, P, 8)).copy() for mean in (80.0, 100.0)
    )
    truth = values[:, origins + 1, None, :P].copy()
    features = OriginFeatures(Panel(("a",), BEGINS, (0.0,), values))
    local, published = rehearsed([other, mix], truth, features, origins, (1,), typical(), 3)
    np.testing.assert_array_equal(published[:, -1], local[:, -1])
    assert local[0, -1, 0, 0, 3] < 70


def test_an_hour_counts_once() -> None:
    record = LocalRecord()
    outcome = np.array([1.0, np.nan, 3.0, np.nan, np.nan, np.nan], np.float32)
    assert np.isfinite(record.fresh(7, outcome)).tolist() == [True, False, True, False, False, False]
    outcome[1] = 2.0
    assert np.isfinite(record.fresh(7, outcome)).tolist() == [False, True, False, False, False, False]


def test_a_contest_of_before_goes_on_with_the_local_one_beside_the_mix() -> None:
    before = Contest.of(("persistence", "mix"))
    before.errors[..., 0], before.errors[..., 1], before.hours[:] = 1000.0, 2000.0, 500.0
    before.medians[..., 1] = 7.0
    after = before.joined_by("local")
    assert after.models == ("persistence", "mix", "local")
    assert (after.leaders() == 0).all()
    assert (after.errors[..., 2] == 2000.0).all()
    assert (after.medians[..., 2] == 7.0).all()
    assert as_published(np.full((1, 8), 1e6, np.float32)).max() < np.inf


def test_what_was_learned_of_another_model_counts_for_little_and_is_kept() -> None:
    """A station that learned for forty days that nothing comes, and is then told by somebody else."""
    record, random = LocalRecord(), np.random.default_rng(5)
    record.sums[:] = random.random(record.sums.shape)
    record.tallies[:] = random.random(record.tallies.shape)
    record.tallies[..., 0] = 960.0
    record.tallies[0, 0, 0] = 20.0
    record.made[:] = 5
    before = copy.deepcopy(record)
    record.of("mix-1")  # a state of before does not know whose it is
    record.of("mix-1")
    np.testing.assert_array_equal(record.sums, before.sums)
    np.testing.assert_array_equal(record.tallies, before.tallies)
    assert (record.made == 5).all()
    record.of("mix-2")
    assert (record.made == 0).all()
    assert (record.tallies[1:, :, 0] == 72.0).all()
    np.testing.assert_allclose(record.sums[1:], before.sums[1:] * 0.075, rtol=1e-6)
    np.testing.assert_allclose(record.tallies[1:], before.tallies[1:] * 0.075)
    np.testing.assert_array_equal(record.sums[0, 0], before.sums[0, 0])
    np.testing.assert_array_equal(record.tallies[0, 0], before.tallies[0, 0])
    once = copy.deepcopy(record)
    record.of("mix-2")
    np.testing.assert_array_equal(record.sums, once.sums)
    assert record.model == "mix-2"
