"""New sensors in a cell: what is learned of them, and that it stays when they fall silent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.cell import Cell, estimate, fresh, learned
from network.conditioning import BIAS, bias_of
from network.kin import among_kin
from network.members import Members
from network.newcomers import DOUBT_HOURS, MovedHour, lasting_difference, moved_covariance, moved_mean
from network.scale import to_log
from tests.network.cities import city, end, members

OF = members(8, ("pm25",))
D = len(OF)
KEPT = 0.001
NEW = np.arange(D) == 0


def spread_like(random: np.random.Generator, d: int) -> np.ndarray:
    root = random.normal(size=(d, d))
    return root @ root.T / d + 0.1 * np.eye(d)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(0, 4))
def test_of_one_age_all_are_one_gaussian(seed: int, age: int, quiet: int) -> None:
    """Oracle: of what is heard the product, of what is silent what is expected and its covariance."""
    random = np.random.default_rng(seed)
    before = spread_like(random, D)
    silent = np.arange(D) < quiet
    beside = np.where(silent[:, None] & silent, spread_like(random, D), 0.0)
    alone = random.normal(size=D)
    taught = np.where(silent, alone, random.normal(size=D))
    around = np.where(silent, np.diagonal(beside), random.uniform(0.1, 1.0, D))
    hour = MovedHour(alone, taught, random.normal(size=D), silent, beside, around, np.zeros(D))
    after = moved_covariance(before, np.full(D, float(age)), hour, 36.0, KEPT)
    gain = max(1.0 / (age + 1.0), KEPT)
    np.testing.assert_allclose(
        after, before + gain * (np.outer(taught, taught) + beside - before), rtol=1e-9, atol=1e-12
    )


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 500))
def test_the_weights_of_a_silent_new_one_stay_as_they_are(seed: int, age: int) -> None:
    random = np.random.default_rng(seed)
    covariance = spread_like(random, D)
    weights = np.linalg.solve(covariance[1:, 1:], covariance[1:, 0])
    since = np.full(D, 1000.0)
    since[0] = age
    silent = np.arange(D) == 0
    for _ in range(5):
        heard = random.normal(size=D)
        told = np.where(silent, weights @ heard[1:], heard)
        hour = MovedHour(told, told, np.zeros(D), silent, np.zeros((D, D)), np.ones(D), np.zeros(D))
        # What the others are taught by themselves is no matter here: they are what they read.
        others = hour._replace(alone=np.where(silent, told, 0.0))
        covariance = moved_covariance(covariance, since, others, 36.0, KEPT)
    np.testing.assert_allclose(
        np.linalg.solve(covariance[1:, 1:], covariance[1:, 0]), weights, rtol=1e-6, atol=1e-9
    )


def played(own_hours: int, apart: float) -> tuple[Cell, np.ndarray]:
    """A town of which the first station is heard for some hours only, after three weeks of the others."""
    air = city(OF, 504 + 240)
    air[:, 0] *= apart
    cell = fresh(OF)
    for hour in range(504):
        row = air[hour].copy()
        if hour < 504 - own_hours:
            row[0] = np.nan
        cell = learned(cell, end(hour), row)
    return cell, air


@pytest.fixture(scope="module")
def errors() -> dict[int, tuple[np.ndarray, float]]:
    """By hours of own data, the errors on the log scale over ten days of silence, and how often it held."""
    found = {}
    for own_hours in (0, 24, 168):
        cell, air = played(own_hours, 1.6)
        error, held = [], []
        for hour in range(504, 744):
            row = air[hour].copy()
            row[0] = np.nan
            said = estimate(cell, end(hour), row)
            truth = air[hour, 0]
            logs = to_log(np.array([said.value[0], truth]), np.zeros(2, dtype=np.int64))
            error.append(logs[0] - logs[1])
            held.append(said.lo[0] <= truth <= said.hi[0])
            cell = learned(cell, end(hour), row)
        found[own_hours] = np.array(error), float(np.mean(held))
    return found


def test_a_day_tells_most_of_what_lasts_and_a_week_the_rest(
    errors: dict[int, tuple[np.ndarray, float]],
) -> None:
    lasting = {hours: abs(float(error.mean())) for hours, (error, _) in errors.items()}
    assert lasting[0] > 0.2
    assert lasting[24] < 0.4 * lasting[0]
    assert lasting[168] < 0.3 * lasting[0]
    assert errors[168][0].std() < 0.7 * errors[0][0].std()
    assert errors[24][1] >= 0.8


def test_a_difference_is_doubted_until_it_is_seen_beside_the_noise() -> None:
    level = np.where(np.arange(D) % 2, 0.2, -0.2)
    heard = np.full(D, 2000.0)

    def doubted(hours: float, noise: float) -> float:
        heard[0] = hours
        found = lasting_difference(OF, level, heard, np.full(D, noise), np.zeros(D), NEW).doubted
        assert (found[1:] == 0.0).all()
        return abs(float(found[0]))

    assert doubted(0.0, 0.1) == doubted(720.0, 0.1) == 0.0  # there is none, and it is known
    apart = doubted(1e-9, 0.1)  # of the first hour nothing is believed
    found = [doubted(hours, 0.1) / apart for hours in (1.0, 10.0, 100.0, 700.0)]
    assert 1.0 > found[0] > found[1] > found[2] > found[3] > 0.0
    half = next(hours for hours in range(1, 700) if doubted(hours, 0.1) <= 0.5 * apart)
    assert doubted(9.0 * half, 0.1) == pytest.approx(0.1 * apart, rel=0.1)
    # Of twice the noise it takes twice the time.
    assert doubted(2.0 * half, 0.2) == pytest.approx(0.5 * apart, rel=0.05)
    assert DOUBT_HOURS < half < 2.0 * DOUBT_HOURS  # such differences are somewhat smaller than that noise


def test_what_a_week_showed_is_believed_the_less_the_longer_it_is_silent() -> None:
    """A season moves a place against its neighbours; of a month of its own nothing is taken back."""
    level = np.where(np.arange(D) % 2, 0.2, -0.2)
    level[0] = 0.5

    def found(hours: float, silent_days: float) -> tuple[float, float]:
        heard = np.full(D, 2000.0)
        heard[0] = hours
        silent = np.full(D, 24.0 * silent_days)
        said = lasting_difference(OF, level, heard, np.full(D, 0.05), silent, NEW)
        assert (said.doubted[1:] == 0.0).all()
        return float(said.doubted[0]), float(said.beyond[0])

    days = (0.0, 7.0, 30.0, 90.0, 240.0)
    doubted, beyond = np.array([found(168.0, day) for day in days]).T
    assert (np.diff(doubted) > 0.0).all()
    assert (np.diff(beyond) > 0.0).all()
    apart = found(1e-9, 0.0)[0]
    believed = (apart - doubted) / (apart - doubted[0])
    # Anchors: 0.87 to 0.95, 0.7 to 0.87, 0.5 to 0.75 in Beijing and Taiwan.
    assert believed.tolist() == pytest.approx([1.0, 0.94, 0.79, 0.64, 0.58], abs=0.02)
    assert found(720.0, 240.0) == found(720.0, 0.0) == (0.0, 0.0)


@pytest.mark.parametrize(("apart", "more"), [(0.02, False), (0.8, True)])
def test_how_far_a_new_one_may_be_off_is_seen_from_those_that_are_known(apart: float, more: bool) -> None:
    level = apart * np.where(np.arange(D) % 2, 1.0, -1.0)
    level[0] = np.nan
    heard = np.full(D, 2000.0)
    heard[0] = 0.0
    beyond = lasting_difference(OF, level, heard, np.full(D, 0.05), np.zeros(D), NEW).beyond
    assert (beyond[1:] == 0.0).all()
    assert (beyond[0] > 0.0) == more
    assert beyond[0] > -(BIAS**2)  # some is left, however alike they are


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("noise", [0.0005, 0.01, 0.2])
def test_the_interval_of_a_new_one_holds_nine_of_ten_of_those_that_are_known(
    share: float, noise: float
) -> None:
    """Oracle: any of forty sensors as if it were new, off by its lasting difference and an hour's noise. Two
    that stand far apart make a variance that is far larger than that interval needs."""
    random = np.random.default_rng(5)
    of = members(40, ("pm25",))
    # Far from all others, each stands apart from their mean.
    of = Members(of.variables, tuple(None for _ in of.places))
    far = np.arange(len(of)) % 20 >= 20 - 20 * share
    level = np.where(far, 0.8, 0.06 * random.normal(size=len(of)))
    heard, level[0] = np.full(len(of), 2000.0), np.nan
    heard[0] = 0.0
    new = np.arange(len(of)) == 0
    found = lasting_difference(of, level, heard, np.full(len(of), noise), np.zeros(len(of)), new).beyond[0]
    variance = noise + bias_of(np.zeros(1))[0] + found
    apart = 39.0 / 38.0 * np.delete(level - np.nanmean(level), 0)  # of each from the mean of the others
    drawn = np.concatenate([random.choice(apart, 39_000), random.normal(0.0, BIAS, 2000)]) + random.normal(
        0.0, np.sqrt(noise), 41_000
    )
    assert np.mean(np.abs(drawn) < 1.645 * np.sqrt(variance)) == pytest.approx(0.9, abs=0.02)
    if share == 0.05 and noise < 0.1:
        assert variance < 0.7 * (noise + np.mean(apart**2))


def test_a_region_of_which_nothing_is_known_goes_by_what_is_believed() -> None:
    nothing = np.full(D, np.nan)
    found = lasting_difference(
        OF, nothing, np.zeros(D), np.full(D, 0.05), np.zeros(D), np.ones(D, dtype=np.bool_)
    )
    np.testing.assert_allclose(found.beyond, 0.0, atol=0.003 * BIAS**2)
    assert bias_of(np.zeros(1))[0] == BIAS**2


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000))
def test_of_one_age_the_mean_is_that_of_what_is_taught(seed: int, age: int) -> None:
    random = np.random.default_rng(seed)
    alone, taught, before = random.normal(size=(3, D))
    none, ones = np.zeros(D), np.ones(D)
    hour = MovedHour(alone, taught, none, none > 0.0, np.zeros((D, D)), ones, none)
    after = moved_mean(before, np.full(D, float(age)), hour, 36.0, KEPT)
    np.testing.assert_allclose(after, before + max(1.0 / (age + 1.0), KEPT) * (taught - before), rtol=1e-9)


def test_a_new_ones_own_kind_is_asked_by_a_covariance_whatever_it_stood_at() -> None:
    """Its variance may be less than the square of where it stood, for both are learned at their own pace."""
    cov, stood = 0.02 * (0.5 * np.eye(D) + 0.5), np.zeros(D)
    stood[0] = 0.4
    kin = among_kin(cov, stood, OF.pollutants, np.arange(D))
    silent = np.arange(D) > 0
    for heard in (np.ones(D, dtype=np.bool_), silent, ~silent):
        given_heard = kin.given(heard)
        assert np.isfinite(given_heard).all()
        assert (np.diagonal(given_heard)[~heard] > 0.0).all()


def test_a_new_station_of_many_sensors_beside_old_ones_is_filled_no_worse_than_one_never_heard() -> None:
    """All its sensors are of one age: what they have in common must not make them unlike their elders, and
    what an episode shows in a day must not move weights by more than it is.
    """
    of = members(5, ("pm25", "pm10", "no2", "so2"))
    new = of.owners == 0
    joins, falls_silent, hours = 500, 668, 740
    air = city(of, hours)
    air[falls_silent - 30 : falls_silent] *= 6.0  # smoke, over all of the town
    errors = {}
    for heard_from in (falls_silent, joins):
        cell, found = fresh(of), []
        for hour in range(hours):
            row = air[hour].copy()
            if not heard_from <= hour < falls_silent:
                row[new] = np.nan
            if hour >= falls_silent + 6:
                said = to_log(estimate(cell, end(hour), row).value, of.pollutants)
                found.append((said - to_log(air[hour], of.pollutants))[new])
            cell = learned(cell, end(hour), row)
        errors[heard_from] = np.sqrt(np.mean(np.square(found), axis=0))
    assert (errors[joins] < errors[falls_silent] + 0.02).all()
    assert errors[joins].mean() < 0.8 * errors[falls_silent].mean()
