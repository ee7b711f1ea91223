"""A line through altered copies: what it is made of, and that it is the mix's."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from forecast.bundle import ForecastBundle
from forecast.explanation import last_values
from forecast.features import weather_ahead
from forecast.mix import Mix
from forecast.models import ForecastInputs, Origins
from forecast.panel import CHANNELS
from forecast.surrogate import examples, surrogate
from schemas.arrays import Float32
from tests.forecast.small import small_bundle
from tests.forecast.test_features import made

#: The hour from whose end it is foretold, and of whom.
ORIGIN, STATION = 220, 1
_WIND, _TEMPERATURE = CHANNELS.index("wind_speed"), 0


class Additive:
    """Half the last value, a third of the neighbours', twice the wind now and half the warmth 12 h ahead."""

    name = "additive"

    def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
        (horizon,) = horizons
        features, values = inputs.features, inputs.panel.values[:, origins]
        mean = features.last(0, 0.0)[:, origins] / 2 + features.neighbours[:, origins, 0] / 3
        mean = mean + 2 * values[..., _WIND]
        if inputs.weather is not None:
            mean = mean + inputs.weather[:, origins + horizon, _TEMPERATURE] / 2
        said = np.zeros((*mean.shape, 1, 6, 8), np.float32)
        said[..., 0, 0, :] = mean[..., None]
        return said


@pytest.mark.parametrize("told", [False, True])
def test_a_model_that_is_a_sum_is_found_again(told: bool) -> None:
    whole, panel = ForecastBundle.load(small_bundle()).mix(), made(3, 300, gaps=0.0)
    ridge = whole.members[0]
    weights = np.zeros((2, 6, 13, 2, 3), np.float32)
    weights[..., 1, :] = 1
    mix = Mix((ridge, Additive()), weights, np.zeros_like(whole.offsets))
    weather = weather_ahead(panel)
    found = surrogate(mix, ForecastInputs(panel, weather if told else None), STATION, ORIGIN, 0, 12)
    assert found.fidelity == pytest.approx(1, abs=1e-3)
    now, usual = panel.values[:, ORIGIN], np.nanmedian(panel.values, axis=1)
    around = [0, 2]
    want = {
        "own": -(now[STATION, 0] - usual[STATION, 0]) / 2,  # of the change since the last value
        "neighbours": (np.median(now[around, 0]) - np.median(usual[around, 0])) / 3,
        "wind": 2 * (now[STATION, _WIND] - usual[STATION, _WIND]),
    }
    if told:
        come = weather[STATION, ORIGIN + 12, _TEMPERATURE]
        want["heat to come"] = (come - np.nanmedian(weather[STATION, :, _TEMPERATURE])) / 2
    scale = float(max(map(abs, want.values())))
    assert scale > 1
    for subject, share in found.shares.items():
        assert share == pytest.approx(float(want.get(subject, 0.0)), abs=0.02 * scale), subject


def test_the_mix_s_own_examples_are_explained_both_ways() -> None:
    bundle, panel = ForecastBundle.load(small_bundle()), made(2, 230, gaps=0.1)
    mix, inputs, origins = bundle.mix(256), ForecastInputs(panel), np.array([180, 190, 200, 220])
    found = examples(mix, inputs, origins, 0, 6)
    change = mix.predict(inputs, origins, (6,))[:, :, 0, 0, -1] - last_values(mix, inputs, 0)[:, origins]
    assert [one.exact.mean - one.exact.last for one in found[:2]] == pytest.approx(
        [change.max(), change.min()]
    )
    assert len(found) == 3
    for one in found:
        assert one.local.fidelity <= 1
        assert set(one.local.shares) <= set(one.exact.shares)
        assert np.isfinite(list(one.local.shares.values())).all()
    assert any(abs(share) > 0.1 for one in found for share in one.local.shares.values())


def test_only_what_a_forecast_sees_is_altered() -> None:
    """Hours before the last 168, and stations of another region, are no part of a copy."""
    mix, panel = ForecastBundle.load(small_bundle()).mix(256), made(3, 300, gaps=0.0)
    apart = replace(panel, regions=(0, 0, 1))
    found = surrogate(mix, ForecastInputs(apart), 0, 290, 0, 6)
    assert found == surrogate(mix, ForecastInputs(panel.only(panel.stations[:2])), 0, 290, 0, 6)
