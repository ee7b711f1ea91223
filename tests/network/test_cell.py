"""A cell: what is silent follows from what is heard, with an interval that holds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.cell import Cell, estimate, fresh, learned
from network.intervals import OF_REAL_SILENCE
from network.members import Members, Position, Silence, Variable
from network.past import AGES
from network.region import Region
from network.region import fresh as fresh_region
from network.scale import to_log
from network.stored import REGION
from schemas.errors import ArrayError
from schemas.parameters import POLLUTANTS
from schemas.state import pack, unpack
from tests.network.cities import city, end, members

OF = members(4)


def taught(values: np.ndarray, of: Members = OF) -> Cell:
    cell = fresh(of)
    for hour, row in enumerate(values):
        cell = learned(cell, end(hour), row)
    return cell


@pytest.fixture(scope="module")
def played() -> tuple[np.ndarray, Cell]:
    air = city(OF, 900)
    return air, taught(air[:700])


@pytest.fixture(scope="module")
def both_played(played: tuple[np.ndarray, Cell]) -> list[tuple[np.ndarray, Cell]]:
    """Two cities: of one the silent hours are a week, and too few to count nine in ten."""
    air = city(OF, 900, seed=2)
    return [played, (air, taught(air[:700]))]


def silenced(row: np.ndarray, *variables: int) -> np.ndarray:
    result = row.copy()
    result[list(variables)] = np.nan
    return result


# The last: one pollutant everywhere, for longer than a week, of which a month has taught little.
@pytest.mark.parametrize(
    ("silent", "least"), [((0,), 0.8), ((0, 1), 0.8), ((0, 1, 2), 0.8), ((0, 3, 6, 9), 0.6)], ids=str
)
def test_a_silent_sensor_is_filled_better_than_by_its_last_value(
    both_played: list[tuple[np.ndarray, Cell]], silent: tuple[int, ...], least: float
) -> None:
    held = []
    for air, cell in both_played:
        truth, said = [], []
        for hour in range(700, 900):
            row = silenced(air[hour], *silent)
            guess = estimate(cell, end(hour), row)
            truth.append(air[hour, 0])
            said.append(guess.value[0])
            held.append(guess.lo[0] <= air[hour, 0] <= guess.hi[0])
            assert not guess.trusted[list(silent)].any()
            cell = learned(cell, end(hour), row)
        error = np.array(said) - truth
        last = air[699, 0] - np.array(truth)
        assert np.sqrt((error**2).mean()) < 0.6 * np.sqrt((last**2).mean())
    assert least <= np.mean(held) <= 0.98


def test_in_the_first_hour_of_silence_the_own_past_counts(played: tuple[np.ndarray, Cell]) -> None:
    """The last value is known an hour later; the others alone know less than with it."""
    air, cell = played
    with_past, without = [], []
    for hour in range(700, 900):
        row = silenced(air[hour], 0, 1, 2)
        with_past.append(estimate(cell, end(hour), row).value[0] - air[hour, 0])
        stranger = replace(cell, last_ms=np.zeros_like(cell.last_ms))
        without.append(estimate(stranger, end(hour), row).value[0] - air[hour, 0])
        cell = learned(cell, end(hour), air[hour])
    assert np.square(with_past).mean() < 0.9 * np.square(without).mean()


def test_dust_lasts_when_those_come_back_that_know_nothing_of_it() -> None:
    """In the hour in which dust comes nobody measures PM2.5, in the next nobody PM10."""
    of = members(3, ("pm25", "pm10"))
    values = city(of, 500)
    coarse = of.pollutants == POLLUTANTS.index("pm10")
    cell = fresh(of)
    for hour, row in enumerate(values[:-2]):
        cell = learned(cell, end(hour), row)
    dust = np.where(coarse, 8.0 * values[-2], np.nan)
    cell = learned(cell, end(498), dust)
    said = estimate(cell, end(499), np.where(coarse, np.nan, values[-1])).value[coarse]
    assert (said > 0.6 * dust[coarse]).all()


def test_a_state_that_was_stored_goes_on_to_the_same_bytes() -> None:
    """Whenever it dies: with sensors that are silent, not yet heard, and new."""
    of = members(3)
    air = city(of, 260, seed=5)
    air[:100, 0] = np.nan
    air[:, 4] = np.nan
    air[150:200, 3:6] = np.nan
    cell = fresh(of)
    reread = fresh(of)
    for hour, row in enumerate(air):
        cell = learned(cell, end(hour), row)
        reread = learned(unpack(Cell, pack(reread)) if hour % 7 == 3 else reread, end(hour), row)
        if hour % 20 == 0:
            assert pack(cell) == pack(reread)
            one, other = estimate(cell, end(hour + 1), row), estimate(reread, end(hour + 1), row)
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)
    assert pack(cell) == pack(reread)


def test_a_region_is_stored_with_version_and_checksum() -> None:
    region = fresh_region(OF)
    again = REGION.decode(REGION.encode(region))
    assert isinstance(again, Region)
    assert REGION.encode(again) == REGION.encode(region)


def test_an_hour_comes_once_and_whole(played: tuple[np.ndarray, Cell]) -> None:
    air, cell = played
    with pytest.raises(ArrayError, match="whole hours in order"):
        learned(cell, cell.t_ms, air[0])
    with pytest.raises(ArrayError, match="whole hours in order"):
        learned(cell, cell.t_ms + 1, air[0])
    with pytest.raises(ArrayError, match="shape"):
        estimate(cell, cell.t_ms, air[0, :3])


@pytest.mark.parametrize("lie", [0.0, 900.0, 20_000.0])
def test_a_sensor_that_lies_moves_no_neighbour_beyond_its_interval(
    played: tuple[np.ndarray, Cell], lie: float
) -> None:
    air, cell = played
    for hour in range(700, 730):
        honest = silenced(air[hour], 0)
        lied = honest.copy()
        lied[3] = lie
        without = estimate(cell, end(hour), silenced(honest, 3))
        with_it = estimate(cell, end(hour), lied)
        moved = abs(with_it.value[0] - without.value[0])
        assert moved <= without.hi[0] - without.lo[0]
        cell = learned(cell, end(hour), lied)
    assert lie == 0.0 or not with_it.trusted[3]  # nought is near to a clean hour


def test_what_all_show_is_believed(played: tuple[np.ndarray, Cell]) -> None:
    """A fire: everything thirty times as high within an hour, and the silent one is filled as high."""
    air, cell = played
    row = 30.0 * air[700]
    guess = estimate(cell, end(700), silenced(row, 0))
    assert guess.trusted[1:].all()
    assert guess.value[0] > 0.4 * row[0]


@pytest.mark.parametrize(("silent", "kind"), [((0, 3), Silence.HALF), ((0, 3, 6, 9), Silence.POLLUTANT)])
def test_a_real_silence_is_less_certain_than_the_pretended_ones_that_the_intervals_learn_from(
    played: tuple[np.ndarray, Cell],
    monkeypatch: pytest.MonkeyPatch,
    silent: tuple[int, ...],
    kind: Silence,
) -> None:
    """The longer, the more; what is heard, and who was never heard, is not silent."""
    air, cell = played
    never = replace(cell, last_ms=np.where(np.arange(len(OF)) == 3, 0, cell.last_ms))

    def reach(hour: int) -> np.ndarray:
        said = estimate(never, end(hour), silenced(air[700], *silent))
        assert (said.kind[[0, silent[-1]]] == kind).all()
        return to_log(said.hi, OF.pollutants) - to_log(said.value, OF.pollutants)

    wide = {hour: reach(hour) for hour in (700, 699 + 72, 699 + 720)}
    monkeypatch.setattr("network.cell.OF_REAL_SILENCE", np.ones((len(Silence), len(AGES))))
    for (hour, found), more in zip(wide.items(), OF_REAL_SILENCE[kind, [0, 5, 7]], strict=True):
        is_silent = np.isin(np.arange(len(OF)), silent) & (never.last_ms > 0)
        np.testing.assert_allclose(found / reach(hour), np.where(is_silent, more, 1.0), rtol=1e-9)


def test_the_longer_a_real_silence_the_less_certain_it_is() -> None:
    assert (np.diff(OF_REAL_SILENCE) >= 0.0).all()
    assert (OF_REAL_SILENCE > 1.0).all()


def test_a_place_never_measured_follows_those_that_are() -> None:
    of = members(6, ("pm25",))
    air = city(of, 500, seed=3)
    air_heard = air.copy()
    air_heard[:, 2] = np.nan
    cell = taught(air_heard[:300], of)
    said, held = [], []
    for hour in range(300, 500):
        guess = estimate(cell, end(hour), air_heard[hour])
        said.append(guess.value[2])
        held.append(guess.lo[2] <= air[hour, 2] <= guess.hi[2])
        cell = learned(cell, end(hour), air_heard[hour])
    assert np.corrcoef(said, air[300:, 2])[0, 1] > 0.85
    assert np.mean(held) > 0.8


def test_its_first_day_teaches_its_bias_without_a_step() -> None:
    of = members(6, ("pm25",))
    air = city(of, 500, seed=3)
    air[:, 2] *= 1.5  # its own lasting difference
    heard = air.copy()
    heard[:300, 2] = np.nan
    cell = taught(heard[:300], of)
    errors = []
    before = estimate(cell, end(300), silenced(air[300], 2)).value[2]
    for hour in range(300, 380):
        guess = estimate(cell, end(hour), silenced(air[hour], 2)).value[2]
        errors.append(np.log(guess / air[hour, 2]))
        assert abs(np.log(guess / before)) < 0.9
        before = guess
        cell = learned(cell, end(hour), heard[hour])
    assert abs(errors[0]) > 0.25
    assert abs(np.mean(errors[24:])) < 0.1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.floats(0.0, 0.95))
def test_whatever_is_silent_what_is_said_is_a_concentration(seed: int, stations: int, gone: float) -> None:
    of = members(stations, ("pm25", "o3"))
    random = np.random.default_rng(seed)
    air = city(of, 16, seed) * random.choice([0.0, 1.0, 50.0], (16, len(of)), p=[0.05, 0.9, 0.05])
    air[random.random(air.shape) < gone] = np.nan
    cell = fresh(of)
    for hour, row in enumerate(air):
        guess = estimate(cell, end(hour), row)
        there = ~np.isnan(guess.value)
        known = {of.pollutants[k] for k in range(len(of)) if not np.isnan([cell.level[k], row[k]]).all()}
        assert there.tolist() == [of.pollutants[k] in known for k in range(len(of))]
        assert (guess.lo[there] >= 0).all()
        assert (guess.lo[there] <= guess.value[there]).all()
        assert (guess.value[there] <= guess.hi[there]).all()
        assert np.isfinite(guess.hi[there]).all()
        if not np.isnan(row).all():
            cell = learned(cell, end(hour), row)


def test_members_are_distinct() -> None:
    twice = (Variable("a", "pm25"), Variable("a", "pm25"))
    with pytest.raises(ArrayError, match="distinct"):
        Members(twice, (Position(0, 0), None))
