"""Scores and calibration hour by hour: what an evaluation over all of them gives."""

import math

import numpy as np
import pytest

from forecast.calibration import calibrated
from forecast.models import ANCHORS, moved, ordered
from forecast.running import RunningRecord
from schemas.parameters import POLLUTANTS

P, A = len(POLLUTANTS), len(ANCHORS)
HOURS = 230


def test_an_hour_at_a_time_it_learns_what_an_evaluation_learns() -> None:
    random = np.random.default_rng(3)
    raw = ordered(random.gamma(2, 20, (1, HOURS, A, P, 8)).astype(np.float32))
    values = random.gamma(2, 20, (HOURS + 72, P)).astype(np.float32)
    values[random.random(values.shape) < 0.1] = np.nan
    values[HOURS:] = np.nan
    truth = np.stack([values[anchor : anchor + HOURS] for anchor in ANCHORS], axis=1)[None]
    wanted = calibrated(raw, truth, ANCHORS, 1)[0]
    record, published = RunningRecord(), np.empty((HOURS, A, P, 8), np.float32)
    last = random.gamma(2, 20, (HOURS, P)).astype(np.float32)
    for hour in range(HOURS):
        record.come(hour + 1000, values[hour])
        record.come(hour + 1000, values[hour])  # once more changes nothing
        published[hour] = moved(raw[0, hour], record.offsets)
        record.say(hour + 1000, raw[0, hour], published[hour], last[hour])
    np.testing.assert_array_equal(published, wanted)
    # And the scores, against a plain sum.
    for place, anchor in ((0, 1), (8, 24), (12, 72)):
        column, total, count, inside, floor = 2, 0.0, 0.0, 0.0, 0.0
        for hour in range(anchor, HOURS):
            outcome, said = values[hour, column], published[hour - anchor, place, column]
            if np.isfinite(outcome):
                fade = math.exp(-1 / 720)
                total = total * fade + abs(outcome - said[3])
                inside = inside * fade + (said[0] <= outcome <= said[6])
                floor = floor * fade + abs(outcome - last[hour - anchor, column])
                count = count * fade + 1
        found = record.scores(lambda anchor, pollutant: {"ridge": anchor + pollutant})[POLLUTANTS[column]][
            str(anchor)
        ]
        assert found.models == {"ridge": place + column}
        assert found.count == pytest.approx(count, abs=1e-3)
        assert found.mae == pytest.approx(total / count, rel=1e-3)
        assert found.coverage == pytest.approx(inside / count, abs=0.01)
        assert found.skill == pytest.approx(1 - total / floor, abs=2e-3)
