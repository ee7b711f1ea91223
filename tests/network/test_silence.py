"""Kinds of silence, against words for them, and what the others say, against the textbook."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.members import PARTICLES, Members, Silence
from network.silence import expected, kinds_of
from network.sweep import swept
from schemas.arrays import Bool, Float64
from schemas.times import DAY_MS
from tests.network.cities import members

CITY = members(4)  # pm25, pm10 and no2 at each


def heard_but(*silent: tuple[int, int]) -> Bool:
    """All but some of (station, column of pm25, pm10, no2)."""
    heard = np.ones(len(CITY), dtype=bool)
    heard[[3 * station + column for station, column in silent]] = False
    return heard


@pytest.mark.parametrize(
    ("silent", "of", "kind"),
    [
        ([], (0, 0), Silence.SENSOR),
        ([(0, 2)], (0, 2), Silence.SENSOR),
        ([(0, 0), (0, 1)], (0, 0), Silence.PARTICLES),
        ([(0, 0), (0, 1)], (0, 2), Silence.STATION),  # nothing else of its station is heard
        ([(0, 0), (0, 1), (0, 2)], (0, 1), Silence.STATION),
        ([(station, 2) for station in range(4)], (1, 2), Silence.POLLUTANT),
        ([(station, 0) for station in range(1, 4)], (0, 0), Silence.POLLUTANT),
        ([(station, 0) for station in range(2)], (0, 0), Silence.HALF),
        ([(station, column) for station in range(4) for column in range(3)], (2, 1), Silence.ALL),
    ],
)
def test_the_kind_is_what_a_person_would_say(
    silent: list[tuple[int, int]], of: tuple[int, int], kind: Silence
) -> None:
    assert Silence(kinds_of(CITY, heard_but(*silent))[3 * of[0] + of[1]]) is kind


@given(st.lists(st.booleans(), min_size=len(CITY), max_size=len(CITY)))
def test_whether_it_is_heard_itself_changes_nothing(heard: list[bool]) -> None:
    """A kind says which others are missing."""
    there = np.array(heard)
    for variable in range(len(CITY)):
        other = there.copy()
        other[variable] = not other[variable]
        assert kinds_of(CITY, there)[variable] == kinds_of(CITY, other)[variable]


def covariance(d: int, seed: int) -> Float64:
    random = np.random.default_rng(seed)
    factor = random.normal(size=(d, d + 3))
    result: Float64 = factor @ factor.T / d + 0.3 * np.eye(d)
    return result


def textbook(matrix: Float64, told: Float64, of: int, by: list[int]) -> tuple[float, float]:
    """Mean and variance of one variable given others."""
    weights = np.linalg.solve(matrix[np.ix_(by, by)], matrix[by, of])
    return float(weights @ told[by]), float(matrix[of, of] - weights @ matrix[by, of])


def silent_with(of: Members, variable: int, kind: Silence) -> list[int]:
    """What is silent with a variable, by its kind."""
    station, pollutant = of.owners[variable], of.pollutants[variable]
    match kind:
        case Silence.SENSOR:
            return [variable]
        case Silence.PARTICLES if pollutant in PARTICLES:
            return [i for i in range(len(of)) if of.owners[i] == station and of.pollutants[i] in PARTICLES]
        case Silence.STATION:
            return [i for i in range(len(of)) if of.owners[i] == station]
        case Silence.POLLUTANT:
            return [i for i in range(len(of)) if of.pollutants[i] == pollutant]
    return []


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sets(st.integers(0, len(CITY) - 1), max_size=5), st.integers(0, 400))
def test_what_the_others_say_is_the_textbook_s(seed: int, unheard: set[int], day: int) -> None:
    d = len(CITY)
    matrix = covariance(d, seed)
    told = np.random.default_rng(seed + 1).normal(size=d)
    heard = np.ones(d, dtype=bool)
    heard[list(unheard)] = False
    said = expected(
        CITY, lambda mask: swept(matrix, np.flatnonzero(mask)), told, np.diagonal(matrix), heard, day * DAY_MS
    )
    for kind in (Silence.SENSOR, Silence.PARTICLES, Silence.STATION, Silence.POLLUTANT):
        for variable in np.flatnonzero(heard).tolist():
            silent = silent_with(CITY, variable, kind)
            if not silent:
                continue
            by = [other for other in np.flatnonzero(heard).tolist() if other not in silent]
            mean, variance = textbook(matrix, told, variable, by)
            assert said.mean[kind, variable] == pytest.approx(mean, rel=1e-6, abs=1e-8)
            assert said.variance[kind, variable] == pytest.approx(variance, rel=1e-6)
    np.testing.assert_array_equal(said.mean[Silence.ALL, heard], 0.0)
    np.testing.assert_array_equal(said.variance[Silence.ALL, heard], np.diagonal(matrix)[heard])
    # Half of all: less is known than by all others, and never more than with nobody.
    half, alone = said.variance[Silence.HALF, heard], said.variance[Silence.SENSOR, heard]
    assert (half >= alone * (1 - 1e-9)).all()
    assert (half <= np.diagonal(matrix)[heard] * (1 + 1e-9)).all()
    assert np.isnan(said.mean[:, ~heard]).all()
    assert np.isnan(said.variance[:, ~heard]).all()
