"""Days by the Synthetic Data Vault (Patki, Wedge and Veeramachaneni 2016): `sdv`, which is not installed with
skyfuse, for it stands under the Business Source License 1.1 (no service for others may be made of it; each
version becomes MIT four years on).

A row is a day of the whole network, a column a part of the day of one series; SDV's Gaussian copula learns
how all of them go together and makes days that never were. These are then put in an order in which each
begins about where the one before ended, in its season.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ForecastError
from forecast.panel import Panel
from forecast.synthesis.bootstrap import blocks
from schemas.arrays import Float64, Int64

_DAY: Final = 24
_SEASONS: Final = 6
#: Columns up to which a day has all its hours, else parts of three: a copula's work grows with their square.
_MOST_COLUMNS: Final = 1000
#: Made days for each that is taken.
_CHOICE: Final = 4
#: Values of a part of the day from which it is a column.
_FEW: Final = 28
#: Of the days that begin most nearly where the last one ended, so many are drawn from.
_BEST: Final = 3


def vaulted(panel: Panel, hours: int, seed: int) -> Panel:
    """`hours` hours from the panel's first on: (stations, hours, channels). Raises ForecastError."""
    random = np.random.default_rng(seed)
    stations, _, channels = panel.values.shape
    days, seasons = days_of(panel)
    has = np.isfinite(days).sum(0) >= _FEW
    wanted = -(-hours // _DAY)
    made = np.full((_CHOICE * wanted, days.shape[1]), np.nan)
    made[:, has], of_season = _made(days[:, has], seasons, len(made))
    order = ordered_days(made, of_season, _seasons(panel, wanted), stations * channels, random)
    values = hours_of(made[order], stations * channels)[:hours]
    values[~np.isfinite(_flat(panel))[blocks(panel, hours, random)]] = np.nan
    shaped = values.reshape(hours, stations, channels).transpose(1, 0, 2).astype(np.float32)
    return Panel(panel.stations, panel.begins, panel.offsets, np.ascontiguousarray(shaped), panel.regions)


def days_of(panel: Panel) -> tuple[Float64, Int64]:
    """Whole days (days, parts * series), the parts of a day one after the other; and the season of each."""
    flat = _flat(panel)
    series, whole = flat.shape[1], len(flat) // _DAY
    parts = _DAY if series * _DAY <= _MOST_COLUMNS else _DAY // 3
    some = flat[: whole * _DAY].reshape(whole, parts, _DAY // parts, series)
    known = np.isfinite(some)
    with np.errstate(invalid="ignore"):
        means = np.where(known, some, 0.0).sum(2) / known.sum(2)
    return means.reshape(whole, parts * series), _seasons(panel, whole)


def hours_of(days: Float64, series: int) -> Float64:
    """(hours, series) of such days, on straight lines between the middles of their parts; what is missing of
    a series is bridged likewise.
    """
    parts = days.reshape(-1, series)
    length = len(days) * _DAY // len(parts)
    middles = np.arange(len(parts)) * length + (length - 1) / 2
    out = np.full((len(days) * _DAY, series), np.nan)
    for column in range(series):
        known = np.isfinite(parts[:, column])
        if known.any():
            out[:, column] = np.interp(np.arange(len(out)), middles[known], parts[known, column])
    return out


def ordered_days(
    made: Float64, of_season: Int64, wanted: Int64, series: int, random: np.random.Generator
) -> Int64:
    """Which made day each day is, of its season (`wanted`) where one is left; none is taken twice."""
    scale = np.nanstd(made[:, :series], axis=0) + 1e-9
    first, last = made[:, :series] / scale, made[:, -series:] / scale
    left = np.ones(len(made), np.bool_)
    order: list[int] = []
    for season in wanted.tolist():
        some = np.flatnonzero(left & (of_season == season))
        some = some if len(some) else np.flatnonzero(left)
        if order:
            off = np.abs(np.nan_to_num(first[some] - last[order[-1]])).sum(1)
            some = some[np.argsort(off, kind="stable")[:_BEST]]
        taken = int(random.choice(some))
        left[taken] = False
        order.append(taken)
    return np.array(order, np.int64)


def _flat(panel: Panel) -> Float64:
    """(hours, series)."""
    hours = panel.values.transpose(1, 0, 2).reshape(panel.hours, -1)
    return hours.astype(np.float64)


def _seasons(panel: Panel, days: int) -> Int64:
    day = (panel.begins + _DAY * np.arange(days)) / _DAY
    return (day % 365.2425 / 365.2425 * _SEASONS).astype(np.int64) % _SEASONS


def _made(days: Float64, seasons: Int64, count: int) -> tuple[Float64, NDArray[np.int64]]:
    """`count` days by SDV, and the season of each."""
    try:
        import pandas as pd
        from sdv.metadata import Metadata
        from sdv.single_table import GaussianCopulaSynthesizer
    except ImportError as error:
        raise ForecastError(
            f"--with sdv needs the `synthesize` extra ({error.name} is not installed): add [synthesize] to"
            " what you gave pip (1 GB, with torch), and read its licence first: it is the Business Source"
            " License"
        ) from error
    names = [f"c{column}" for column in range(days.shape[1])]
    table = pd.DataFrame(days, columns=names).assign(season=seasons.astype(str))
    kinds: dict[str, Any] = {name: {"sdtype": "numerical"} for name in names}
    metadata = Metadata.load_from_dict(
        {"tables": {"days": {"columns": {**kinds, "season": {"sdtype": "categorical"}}}}}
    )
    model = GaussianCopulaSynthesizer(metadata, enforce_rounding=False)
    model.fit({"days": table})
    made = model.sample(count)
    made = made["days"] if isinstance(made, dict) else made
    return made[names].to_numpy(np.float64), made["season"].astype(int).to_numpy(np.int64)
