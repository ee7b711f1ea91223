"""The judge of the drift watch: what it makes, counts and says, on a made city."""

import numpy as np

from model.evaluation.drift import FAULTS, evaluate_drift
from model.evaluation.region_hours import RegionHours
from schemas.times import DAY_MS, HOUR_MS
from tests.network.cities import START_MS, city, members

DAYS, LEARNING = 64, 34


def test_faults_are_found_and_a_calm_city_has_none() -> None:
    """A wrong unit is named within days and called so; nobody else is, and nobody before."""
    of = members(5, ("pm25",))
    first = -START_MS % DAY_MS // HOUR_MS + 1
    data = RegionHours(of, START_MS + HOUR_MS * np.arange(1, 24 * DAYS + 25), city(of, 24 * DAYS + 24))
    assert first < 25
    unit = [fault for fault in FAULTS if fault.name == "other unit"]
    seen: list[str] = []
    (none, *found), beside = evaluate_drift(
        data, faults=unit, learning=LEARNING, progress=lambda what, *_: seen.append(what)
    )
    assert (none.fault, none.pollutant, none.others) == ("none", "pm25", 0.0)
    assert abs(none.faults - 5 * (DAYS - LEARNING) / 365.25) < 0.05
    assert {(one.fault, one.pollutant) for one in found} == {("other unit", "pm25"), ("other unit", None)}
    for one in found:
        assert one.faults == len(one.delays) == 2
        assert one.quantile(0.5) <= 4
        assert one.kinds == {"unit": 2}
        assert one.right == 1.0
        assert one.others == 0.0
        assert one.to_plain()["missed"] == 0.0
    assert set(seen) == {"none", "other unit", "beside a CUSUM"}
    assert {one.rule for one in beside} == {"cusum", "watch"}
