"""Who speaks: against plain sums, and in the stream, where a model that does better takes over."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.bundle import ForecastBundle
from forecast.contest import Contest, leaders
from forecast.mix import Mix, said_by_each
from forecast.models import ANCHORS, ForecastInputs
from forecast.outlook import Outlook
from forecast.panel import CHANNELS, Panel
from forecast.stored import OUTLOOKS, read_outlook
from schemas.parameters import POLLUTANTS
from tests.forecast.small import small_bundle
from tests.forecast.test_outlook import BEGINS, air, play, typical

P, A = len(POLLUTANTS), len(ANCHORS)


@cache
def bundle() -> ForecastBundle:
    return ForecastBundle.load(small_bundle())


def test_errors_are_plain_sums_of_what_was_said_for_the_hour() -> None:
    random = np.random.default_rng(5)
    said = random.gamma(2, 20, (200, A, P, 3)).astype(np.float32)
    values = random.gamma(2, 20, (200, P)).astype(np.float32)
    values[random.random(values.shape) < 0.1] = np.nan
    record = Contest.of(("a", "b", "c"))
    for hour in range(200):
        record.come(hour + 1000, values[hour])
        record.come(hour + 1000, values[hour])  # once more changes nothing
        record.say(hour + 1000, said[hour])
    fade = math.exp(-1 / 720)
    for place, anchor in ((0, 1), (8, 24), (12, 72)):
        column, total, count = 2, 0.0, 0.0
        for hour in range(anchor, 200):
            if np.isfinite(values[hour, column]):
                total = total * fade + abs(values[hour, column] - said[hour - anchor, place, column, 1])
                count = count * fade + 1
        assert record.mean_errors(place, column)["b"] == pytest.approx(total / count, rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=7), st.floats(0, 800), st.integers(0, 72))
def test_another_speaks_only_where_it_is_clearly_better_the_clearer_the_fewer_hours_there_are(
    mean: list[float], hours: float, ahead: int
) -> None:
    found = leaders(np.array(mean) * hours, np.array(hours), np.array(ahead)).item()
    usual = len(mean) - 1
    # Three days ahead four days tell as much as one does of the next hour.
    hours /= 1 + ahead / 24
    share = 0.8 if hours >= 150 else 0.7 if hours >= 68 else 0.5
    if found != usual:
        assert hours >= 23
        assert mean[found] == min(mean)
        assert mean[found] < 1.001 * share * mean[usual]
    elif hours >= 23:
        assert min(mean) > 0.999 * share * mean[usual]


@pytest.mark.parametrize(
    ("hours", "error", "speaks"),
    [(22, 1, 1), (24, 4.9, 0), (60, 5.1, 1), (70, 6.9, 0), (140, 7.1, 1), (160, 7.9, 0), (700, 8.1, 1)],
)
def test_how_much_better_by_the_hours_that_have_come(hours: float, error: float, speaks: int) -> None:
    errors, now = np.array([error, 10.0]) * hours, np.array(0)
    assert leaders(errors, np.array(float(hours)), now).item() == speaks


def test_a_model_that_does_better_takes_over_and_the_state_goes_on_with_the_same_bytes() -> None:
    """Air that never changes: persistence is right to the digit, what is usual in Beijing is not."""
    persistence, _, climatology, *_ = bundle().models()

    def fresh(stations: object = None) -> Outlook:
        return Outlook([persistence, climatology], "m", typical(), ("us-epa-2024",), stations or {})  # type: ignore[arg-type]

    values = np.full((1, 40, len(CHANNELS)), np.nan, np.float32)
    values[..., :2] = 300.0
    whole = play(fresh(), values)
    said = [one.pollutants["pm25"].models.get("1", "climatology") for one in whole]
    turn = said.index("persistence")
    assert 23 <= turn <= 26
    assert set(said[:turn]) == {"climatology"}
    assert set(said[turn:]) == {"persistence"}
    assert whole[turn].pollutants["pm25"].quantiles[3][0] == pytest.approx(300, rel=0.05)
    assert whole[turn - 1].pollutants["pm25"].quantiles[3][0] < 290
    # Three days ahead fewer have come; what is not measured is never taken from the usual one.
    assert "72" not in whole[turn].pollutants["pm25"].models
    assert whole[-1].pollutants["o3"].models == {}
    assert whole[-1].scores["pm25"]["1"].models["persistence"] < 1.0
    assert whole[-1].scores["pm25"]["1"].models["climatology"] > 100.0
    first = fresh()
    before = play(first, values[:, :28])
    kept = {name: read_outlook(name, OUTLOOKS.encode(one)) for name, one in first.stations.items()}
    after = play(fresh(kept), values, 28)
    assert [one.model_dump_json() for one in whole] == [one.model_dump_json() for one in [*before, *after]]
    # Of other models nothing is known.
    other = Outlook([climatology], "m", typical(), ("us-epa-2024",), kept)
    assert other.stations["s0"].contest.models == ("climatology", "local")
    assert not other.stations["s0"].contest.hours.any()


def test_a_mix_is_made_of_what_its_members_said() -> None:
    models = bundle().models()
    panel = Panel(("s0", "s1"), BEGINS, (0.0, 0.0), air(2, 30))
    inputs, origins, horizons = ForecastInputs(panel), np.array([29]), (1, 24, 72)
    each = list(said_by_each(models, inputs, origins, horizons))
    assert isinstance(models[-1], Mix)
    np.testing.assert_array_equal(each[-1], models[-1].predict(inputs, origins, horizons))
    np.testing.assert_array_equal(each[0], models[0].predict(inputs, origins, horizons))
