"""Series as many points as a plot can show: means of each kind are kept apart, and no extreme is lost."""

import random

from hypothesis import given
from hypothesis import strategies as st

from web.thinning import SeriesPoint, thin


def points(seed: int, count: int) -> list[SeriesPoint]:
    dice = random.Random(seed)
    at, made = dice.randrange(10**9) * 1000, []
    for _ in range(count):
        at += 1000 * dice.randrange(1, 500)
        value = None if dice.random() < 0.2 else dice.uniform(0, 1000)
        imputed = dice.choice([0.0, 0.0, 0.002, 0.01, 0.5, 0.99, 1.0])
        low, high = (value - 1, value + 1) if imputed and value is not None else (None, None)
        made.append(SeriesPoint(at, value, imputed, low, high, value, value, dice.choice([None, 1, 4])))
    return made


SERIES = st.builds(points, st.integers(0, 2**32), st.integers(0, 300))


@given(SERIES, st.integers(10, 100))
def test_there_are_no_more_than_asked_and_nothing_stands_out_less(series, most):
    span, spans = thin(series, most)
    assert len(spans) <= most + 1
    assert (span == 0) == (len(series) <= most)
    there = [one.value for one in series if one.value is not None]
    least = [one.least for one in spans if one.least is not None]
    greatest = [one.most for one in spans if one.most is not None]
    assert min(there, default=None) == min(least, default=None)
    assert max(there, default=None) == max(greatest, default=None)
    for one in spans:
        inside = [p for p in series if (p.at == one.at if not span else one.at - span < p.at <= one.at)]
        for grade in (1, 4):
            share = sum(p.grade == grade for p in inside) / len(inside)
            assert abs(one.shares.get(grade, 0.0) - share) < 1e-9, "one bad window does not make an hour bad"
        assert None not in one.shares
    ends = [one.at for one in spans]
    assert ends == sorted(set(ends))
    assert max((one.grade or 0 for one in spans), default=0) == max(
        (one.grade or 0 for one in series), default=0
    )


@given(SERIES, st.integers(10, 100))
def test_measured_imputed_and_partly_imputed_values_are_never_mixed(series, most):
    span, spans = thin(series, most)
    for one in spans:
        inside = [p for p in series if (p.at == one.at if not span else one.at - span < p.at <= one.at)]
        kinds = (((0.0, 0.002), one.measured), ((0.01, 0.5, 0.99), one.partly), ((1.0,), one.imputed))
        for shares, shown in kinds:
            values = [p.value for p in inside if p.value is not None and p.imputed in shares]
            assert (shown is None) == (not values)
            if values:
                assert abs(shown - sum(values) / len(values)) < 1e-6
