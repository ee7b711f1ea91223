"""Shapley shares against the definition over all orders of joining."""

import itertools

import numpy as np
import pytest

from model.bundle.bundle import Bundle
from model.bundle.runtime import Head, trusted_readings
from model.bundle.shapley import PLAYERS, shapley_shares
from schemas.errors import ArrayError
from tests.model.bundle.test_runtime import Inputs


@pytest.fixture(scope="module")
def head() -> Head:
    return Head(Bundle.load())


def test_shares_equal_the_mean_gain_over_all_orders(head: Head) -> None:
    inputs = Inputs(3, seed=11)
    inputs.image[:] = [True, True, False]
    inputs.sensors[0] = [80, 120, 20, 5, 300, 40]
    inputs.sensors[2, :2] = [40, 60]
    got = shapley_shares(head, inputs.embedding, inputs.image, inputs.sensors, inputs.haze, inputs.hour)
    for row in range(3):
        heard = trusted_readings(head.bundle, inputs.sensors[[row]])[0]
        known = [*~np.isnan(heard), inputs.image[row]]
        value: dict[frozenset[int], float] = {}
        for size in range(8):
            for players in itertools.combinations(range(7), size):
                effective = [p for p in players if known[p]]
                if not effective:
                    value[frozenset(players)] = got.reference
                    continue
                shown = [inputs.sensors[row, p] if p in effective else np.nan for p in range(6)]
                output = head.predict(
                    inputs.embedding[[row]],
                    np.array([6 in effective]),
                    np.array([shown], np.float32),
                    inputs.haze[[row]],
                    inputs.hour[[row]],
                )
                value[frozenset(players)] = float(output.aqi[0])
        gain = np.zeros(7)
        for order in itertools.permutations(range(7)):
            for place, player in enumerate(order):
                gain[player] += value[frozenset(order[: place + 1])] - value[frozenset(order[:place])]
        assert np.allclose(got.shares[row], gain / 5040, atol=1e-6)


def test_shares_sum_to_estimate_minus_reference_and_missing_inputs_have_none(head: Head) -> None:
    inputs = Inputs(64, seed=12)
    unheard = ~inputs.image & np.isnan(trusted_readings(head.bundle, inputs.sensors)).all(axis=1)
    inputs.sensors[unheard, 1] = 40.0
    got = shapley_shares(head, inputs.embedding, inputs.image, inputs.sensors, inputs.haze, inputs.hour)
    assert np.allclose(got.reference + got.shares.sum(axis=1), got.aqi, atol=1e-4)
    alone = inputs.predict(head).aqi
    assert np.array_equal(got.aqi[~np.isnan(alone)], alone[~np.isnan(alone)])
    heard = trusted_readings(head.bundle, inputs.sensors)
    known = np.concatenate([~np.isnan(heard), inputs.image[:, None]], axis=1)
    assert np.abs(got.shares[~known]).max() < 1e-9
    assert got.shares.shape == (64, len(PLAYERS))


def test_an_empty_row_has_nothing_to_share(head: Head) -> None:
    inputs = Inputs(3, seed=13)
    inputs.image[1], inputs.sensors[1] = False, np.nan
    with pytest.raises(ArrayError, match="row 1"):
        shapley_shares(head, inputs.embedding, inputs.image, inputs.sensors, inputs.haze, inputs.hour)
