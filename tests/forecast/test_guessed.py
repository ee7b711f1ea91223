"""What stands in for a pollutant that is not measured: where a forecast begins."""

import numpy as np
import pytest

from forecast.guessed import GuessedHours, continued
from forecast.hours import StationHours
from schemas.parameters import POLLUTANTS


@pytest.mark.parametrize(
    ("present", "last", "wanted"),
    [
        (30.0, 10.0, 25.0),
        (5.0, 10.0, 2.5),
        (10.0, 10.0, 5.0),
        (0.0, 10.0, 0.0),
        (0.0, 0.0, 5.0),
        (4.0, 0.0, 9.0),
    ],
)
def test_a_forecast_goes_on_from_the_present_estimate_whatever_the_two_are(
    present: float, last: float, wanted: float
) -> None:
    guessed = GuessedHours()
    guessed.means[-1, : len(POLLUTANTS)] = present
    said = np.full((72, len(POLLUTANTS), 8), 5.0, np.float32)
    with np.errstate(all="raise"):
        found = continued(said, np.full(len(POLLUTANTS), last, np.float32), StationHours(), guessed)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
