"""NowCasts of many stations at once, and their sub-indices; the methods themselves are in `aqi.nowcast`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aqi import averaging, nowcast
from aqi.averaging import INDICATIVE, VALID
from aqi.history import History
from aqi.reach import of_mean
from aqi.slots import COLUMN
from aqi.standards import Measure, Standard
from aqi.subindex import Ends, Found, GradedMeans, add, factors_of
from aqi.units import CANONICAL_UNIT, factor
from schemas.times import HOUR_MS


class _Casts(NamedTuple):
    """NowCasts of one pollutant for S stations; values in the unit of the table, NaN where not defined."""

    values: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]  # ends of their intervals, of the stations that have one
    high: npt.NDArray[np.float64]
    imputed_share: npt.NDArray[np.float64]
    measured: npt.NDArray[np.bool_]  # the newest hours that decide were measured, not imputed
    method: str | list[str]
    hours: npt.NDArray[np.int64]
    end_ms: npt.NDArray[np.int64]


def nowcasts(
    standard: Standard,
    histories: Sequence[History],
    at_ms: Sequence[int],
    hours: averaging.Block,
    references: Sequence[float],
) -> list[Found]:
    """Per station the sub-indices of its NowCasts."""
    found: list[Found] = [[] for _ in histories]
    for parameter, rule in standard.nowcast.items():
        measure = standard.measure(parameter, rule.averaging)
        if rule.method == "epa-pm":
            casts, needed = _particles(standard, measure, hours, references), nowcast.PM_NEWEST_NEEDED
        else:
            casts, needed = _ozone(standard, measure, hours, histories, at_ms), 1
        status = np.where(casts.measured, VALID, INDICATIVE).astype(np.int8)
        imputed = f"{parameter} NowCast: its newest hours are imputed"
        reasons = ["" if measured else imputed for measured in casts.measured.tolist()]
        graded = GradedMeans(
            casts.method, casts.values, status, reasons, casts.imputed_share, casts.hours, needed,
            casts.end_ms, Ends(hours.places, casts.low, casts.high),
        )  # fmt: skip
        add(measure, graded, found)
    return found


def _particles(
    standard: Standard, measure: Measure, hours: averaging.Block, references: Sequence[float]
) -> _Casts:
    column, full_s = COLUMN[measure.parameter], standard.hour_share * HOUR_MS / 1000
    newest = slice(-2, -2 - nowcast.PM_HOURS, -1)
    measured_s, imputed_s = hours.measured_s[newest, :, column].T, hours.imputed_s[newest, :, column].T
    present = measured_s + imputed_s >= full_s
    factors = factors_of(standard, measure, references)
    values = hours.mean[newest, :, column].T
    cast = nowcast.particles(np.where(present, values, np.nan))
    places = hours.places
    weights = cast.weights[places].T
    persistence = hours.persistence[newest, :, column]
    below, above = hours.below[newest, :, column], hours.above[newest, :, column]
    low = np.maximum(cast.value[places] - of_mean(weights, below, persistence), 0.0)
    high = cast.value[places] + of_mean(weights, above, persistence)
    decides = (measured_s >= full_s)[:, : nowcast.PM_NEWEST].sum(axis=1) >= nowcast.PM_NEWEST_NEEDED
    imputed = np.where(present, imputed_s, 0).sum(axis=1)
    everything = np.where(present, measured_s, 0).sum(axis=1) + imputed
    return _Casts(
        cast.value * factors,
        low * factors[places],
        high * factors[places],
        imputed / np.maximum(everything, 1),
        decides,
        "nowcast",
        present.sum(axis=1),
        hours.end_ms,
    )


def _ozone(
    standard: Standard,
    measure: Measure,
    hours: averaging.Block,
    histories: Sequence[History],
    at_ms: Sequence[int],
) -> _Casts:
    column, full_s = COLUMN["o3"], standard.hour_share * HOUR_MS / 1000
    to_ppb = np.array(
        [
            factor("o3", CANONICAL_UNIT, "ppb", history.reference_celsius, standard.reference_celsius)
            for history in histories
        ]
    )
    newest = slice(-2, -3 - nowcast.OZONE_BACK, -1)
    measured_s, imputed_s = hours.measured_s[newest, :, column].T, hours.imputed_s[newest, :, column].T
    present = measured_s + imputed_s >= full_s
    back, station = present.argmax(axis=1), np.arange(len(histories))  # the newest hour that is there
    ppb = np.where(present.any(axis=1), hours.mean[newest, :, column][back, station] * to_ppb, np.nan)
    values = np.maximum(nowcast.surrogate(ppb), 0.0)
    places = hours.places
    low, high = (
        np.maximum(
            nowcast.surrogate(
                ppb[places] + reach[newest, :, column][back[places], np.arange(len(places))] * to_ppb[places]
            ),
            0.0,
        )
        for reach in (-hours.below, hours.above)
    )
    used_s = measured_s[station, back] + imputed_s[station, back]
    shares = imputed_s[station, back] / np.maximum(used_s, 1)
    measured = measured_s[station, back] >= full_s
    count, method = np.ones(len(histories), np.int64), ["nowcast-surrogate"] * len(histories)
    for place, (history, now) in enumerate(zip(histories, at_ms, strict=True)):
        if np.isnan(ppb[place]) or history.ozone_hours < nowcast.REGRESSION_NEEDED:
            continue
        long = history.ozone(now // HOUR_MS * HOUR_MS)
        filled = long.imputed_s.astype(np.int64)
        everything = long.measured_s + filled
        there = everything >= full_s
        if there.sum() < nowcast.REGRESSION_NEEDED:
            continue
        cast = nowcast.ozone(np.where(there, long.mean * to_ppb[place], np.nan))
        if cast is not None and cast.method == "regression":
            own = np.flatnonzero(places == place)
            if len(own):
                reach = (-long.below.astype(np.float64), long.above)
                low[own], high[own] = _regressed_ends(
                    [np.where(there, (long.mean + part) * to_ppb[place], np.nan) for part in reach],
                    cast.value,
                )
            window = slice(len(there) - cast.hours_back - nowcast.OZONE_HOURS, len(there) - cast.hours_back)
            values[place], method[place] = cast.value, "nowcast-regression"
            shares[place] = filled[window].sum() / max(int(everything[window].sum()), 1)
            count[place] = there[window].sum()
    scale = factor("o3", "ppb", measure.unit, standard.reference_celsius, standard.reference_celsius)
    return _Casts(
        values * scale,
        low * scale,
        high * scale,
        shares,
        measured,
        method,
        count,
        hours.end_ms - back * HOUR_MS,
    )


def _regressed_ends(series: Sequence[npt.NDArray[np.float64]], value: float) -> tuple[float, float]:
    """Ends of a regressed NowCast (ppb): the regressions of the ends, which may lie on either side of it."""
    casts = [cast.value for one in series if (cast := nowcast.ozone(one)) is not None]
    return min(value, *casts), max(value, *casts)
