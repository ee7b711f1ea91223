"""What a station teaches: the mix, corrected by what came true there.

A bundle knows the air that it learned from; elsewhere it is too sure of changes that do not come. So for each
station, pollutant and anchor two lines are fitted as hours come: the change since the last value, of the
change that the mix foretells and of what a station knows of itself (its own last days, the same hour of the
days before, its neighbours, the clock). One is for the mean, one for the median; both begin as the mix, and
leave it by as much as there is evidence. They are least squares whose sums fade (recursive least squares with
forgetting; Haykin, Adaptive Filter Theory), with hours that were far off counting less (weights of Huber for
the mean, near least absolute deviations for the median, by iterated reweighting: Holland and Welsch 1977),
drawn towards the mix by a ridge that is worth some days of hours. How far each line is believed beside the
mix is learned from what both had said: what fits the past may err more than what it mends.

All is computed element by element in a fixed order, so that a station's bits do not depend on the others'.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecast.calibration import HALF
from forecast.features import OriginFeatures
from forecast.models import ANCHORS, ordered
from forecast.panel import QUANTILES
from schemas.arrays import Float32, Float64, Int64
from schemas.parameters import POLLUTANTS

#: How it is called among the models.
LOCAL: Final = "local"
#: No air has more ug/m3.
HIGHEST: Final = 1e6
_P: Final = len(POLLUTANTS)
_A: Final = len(ANCHORS)
_MEDIAN: Final = QUANTILES.index(0.5)
_SIDES: Final = np.array(QUANTILES) - 0.5
#: What the lines are made of; all in ug/m3, all but the last five beside the last value, 0 where not known.
TERMS: Final = (
    "change foretold", "same hour a day before", "same hour two days before", "mean of 3 h", "mean of 24 h",
    "mean of 72 h", "change in 1 h", "neighbours", "level", "level by the clock: sine", "cosine",
    "twice a day: sine", "cosine",
)  # fmt: skip
_D: Final = len(TERMS)
#: Pairs of terms whose products are summed.
_FIRST, _SECOND = np.triu_indices(_D)
_SUMS: Final = len(_FIRST) + _D
#: Lines that are solved together: some megabytes.
_AT_ONCE: Final = 8_192
#: What is left of an hour's weight an hour later: half after 180 days; of the widths after 30.
_FADES: Final = 0.5 ** (1 / (24 * 180))
_WIDTH_FADES: Final = 0.5 ** (1 / (24 * 30))
#: What the ridge towards the mix is worth, in hours: so many, and so many for each hour ahead, since errors
#: of a day ahead last a day. More for how far a line is believed, which begins at a quarter.
_RIDGE_H: Final = 120.0
_RIDGE_AHEAD: Final = 3.0
_TRUST_H: Final = 480.0
_TRUST_AHEAD: Final = 10.0
_AT_FIRST: Final = 0.25
#: How much of a change that the mix foretells is believed where nobody in the region has seen any come. Of
#: lone stations in Taiwan and India in their first three days next to none came, or half of it, by pollutant
#: and horizon: with a fifth the mean is hardly ever worse than the last value.
_AT_BIRTH: Final = 0.2
#: A line is taken beside it for half of what it is trusted after so many hours, and those ahead.
_SEEN_H: Final = 24.0
#: So many times as long as the ridge a station is young: less and less of what it has not seen come is left
#: out.
_YOUNG: Final = 5.0
#: How long the widths of the mix are believed, in hours.
_WIDTH_H: Final = 240.0
#: Misses larger than so many times the usual one weigh less the larger they are: for the mean, the median.
_FAR: Final = (3.0, 0.5)
#: No miss is smaller than this part of a pollutant's typical value: air that stands still for weeks must not
#: outweigh all that comes after it.
_LEAST: Final = 0.02
#: How large a median's error is on average beside the width from .05 to .95, as the mixes of folders have it.
_PER_WIDTH: Final = 0.215
_WIDEST: Final = 5.0
#: What is kept of a forecast until its hour comes: the mix's mean, median and width, and the lines'.
KEPT: Final = 5
_HOURS, _MISSED, _XY, _XX, _OFF, _WIDE, _WIDE_HOURS = 0, slice(1, 3), slice(3, 5), slice(5, 7), 7, 8, 9
_TALLIES: Final = 10


class LocalRows(NamedTuple):
    """What the lines of some forecasts are made of but the change foretold (..., pollutants, terms - 1), and
    the last values (..., pollutants)."""

    terms: Float32
    last: Float32


def local_rows(
    features: OriginFeatures, typical: tuple[float, ...], origins: Int64, horizon: int
) -> LocalRows:
    """(stations, origins, ...): nothing older than 96 hours is asked."""
    own, near, means = features.pollutants, features.neighbours, features.trailing.means
    last = np.stack([features.last(place, usual)[:, origins] for place, usual in enumerate(typical)], axis=-1)
    back = -horizon % 24
    same = _picked(own, origins, back)
    before = _picked(own, origins, back + 24)
    level = np.where(np.isnan(means[72][:, origins]), last, means[72][:, origins])
    beside = [
        np.where(np.isnan(same), before, same) - last, before - last,
        *(means[hours][:, origins] - last for hours in (3, 24, 72)),
        last - _picked(own, origins, 1), near[:, origins] - last,
    ]  # fmt: skip
    panel = features.panel
    hour = panel.begins + origins[None] + np.array(panel.offsets)[:, None] + horizon
    day = (2 * np.pi * (hour % 24) / 24)[..., None]
    clock = [level * part for part in (1.0, np.sin(day), np.cos(day), np.sin(2 * day), np.cos(2 * day))]
    terms = np.stack([*beside, *clock], axis=-1).astype(np.float32)
    return LocalRows(np.where(np.isnan(terms), np.float32(0.0), terms), last)


def _picked(series: Float32, origins: Int64, back: int) -> Float32:
    """`series` (stations, hours, pollutants) as it was `back` hours before `origins`."""
    found = series[:, np.maximum(origins - back, 0)]
    return np.where((origins >= back)[:, None], found, np.float32(np.nan))


class LocalCorrection(NamedTuple):
    """How forecasts are corrected.

    Attributes:
        lines: (stations, horizons, pollutants, 2, terms) of mean and median.
        trust: (..., 2) how far each is believed beside what is leant on.
        width: (stations, horizons, pollutants) by how much quantiles lie further from the median than the mix
            has them.
        unseen: (likewise) what share of that rests on nothing that came true.
        leaning: (..., 2) how much of the change that the mix foretells is believed at all.
    """

    lines: Float32
    trust: Float32
    width: Float32
    unseen: Float32
    leaning: Float32


class Corrected(NamedTuple):
    """A corrected forecast (stations, horizons, pollutants, 8), and what is kept of it (..., `KEPT`)."""

    said: Float32
    kept: NDArray[np.float16]


@dataclass
class Lessons:
    """Of one station, or of several (all arrays with an axis of stations in front).

    Attributes:
        sums: (anchors, pollutants, 2, ...) faded sums of products of the terms, and with the change that
            came; for the mean and for the median.
        tallies: (anchors, pollutants, 10) faded sums: hours, misses of both lines, products of how far each
            went from the mix with how far it should have (two), and with itself (two); errors of the median
            and what the mix's widths let expect of them, over 30 days, and their hours.
    """

    sums: Float32 = field(default_factory=lambda: np.zeros((_A, _P, 2, _SUMS), np.float32))
    tallies: Float64 = field(default_factory=lambda: np.zeros((_A, _P, _TALLIES)))

    @staticmethod
    def of(stations: int, horizons: int) -> "Lessons":
        """Nothing learned yet."""
        shape = (stations, horizons, _P)
        return Lessons(np.zeros((*shape, 2, _SUMS), np.float32), np.zeros((*shape, _TALLIES)))

    def learn(
        self, place: int, rows: LocalRows, kept: NDArray[np.float16], outcome: Float32,
        typical: tuple[float, ...], step: int = 1,
    ) -> None:  # fmt: skip
        """An hour has come with `outcome` (stations, pollutants), NaN where nothing was measured or nothing
        had been said for it, `rows` and `kept` being those of what was said, of forecasts that are made every
        `step` hours. `place` is that of the horizon.
        """
        known = np.isfinite(outcome)
        said = kept.astype(np.float64)
        came = np.where(known, outcome, np.float32(0.0)).astype(np.float64)
        fades = np.where(known, _FADES**step, 1.0)
        counts = np.where(known, float(step), 0.0)
        tallies = self.tallies[:, place]
        tallies[..., _HOURS] = tallies[..., _HOURS] * fades + counts
        missed = np.abs(came[..., None] - said[..., 3:])
        tallies[..., _MISSED] = tallies[..., _MISSED] * fades[..., None] + counts[..., None] * missed
        hours = np.maximum(tallies[..., _HOURS], 1e-9)
        least = _LEAST * np.array(typical)
        for line, far in enumerate(_FAR):
            usual = tallies[..., _MISSED.start + line] / hours
            weight = counts / np.maximum(missed[..., line], np.maximum(far * usual, least))
            foretold = said[..., line] - rows.last.astype(np.float64)
            terms = np.concatenate([foretold[..., None], rows.terms], axis=-1)
            change = came - rows.last
            new = np.concatenate(
                [terms[..., _FIRST] * terms[..., _SECOND], terms * change[..., None]], axis=-1
            )
            before = self.sums[:, place, :, line]
            self.sums[:, place, :, line] = before * fades[..., None] + weight[..., None] * new
            went, should = said[..., 3 + line] - said[..., line], came - said[..., line]
            for at, product in ((_XY.start + line, went * should), (_XX.start + line, went * went)):
                tallies[..., at] = tallies[..., at] * fades + weight * product
        fades = np.where(known, _WIDTH_FADES**step, 1.0)
        expected = _PER_WIDTH * said[..., 2]
        for at, by in ((_OFF, missed[..., 1]), (_WIDE, expected), (_WIDE_HOURS, np.ones_like(expected))):
            tallies[..., at] = tallies[..., at] * fades + counts * by

    def leaning(self, horizons: tuple[int, ...], regions: Sequence[int]) -> Float64:
        """How much of a change that the mix foretells has come (stations, horizons, pollutants, 2): what the
        stations have seen, drawn to what their region has, and that to `_AT_BIRTH`. `regions` are those of
        the stations; none: all are of one.
        """
        hours = self.tallies[..., _HOURS, None]
        squares, products = self.sums[..., 0].astype(np.float64), self.sums[..., len(_FIRST)]
        came = np.clip(products / np.maximum(squares, 1e-12), 0.0, 1.0)
        drawn = _RIDGE_H + _RIDGE_AHEAD * np.array(horizons, np.float64)[:, None, None]
        of_region = np.empty_like(came)
        where = np.array(regions or [0] * len(came))
        for region in sorted(set(where.tolist())):
            rows = np.flatnonzero(where == region)
            # What is foretold at neighbours errs alike: together they have seen as much as the oldest.
            seen, total = hours[rows].max(axis=0), hours[rows].sum(axis=0)
            usual = (came[rows] * hours[rows]).sum(axis=0) / np.maximum(total, 1e-9)
            of_region[rows] = (usual * seen + _AT_BIRTH * drawn) / (seen + drawn)
        found: Float64 = (came * hours + of_region * drawn) / (hours + drawn)
        # What has come in months the lines know better.
        young = _YOUNG * drawn / (_YOUNG * drawn + hours)
        return 1 - (1 - found) * young

    def correction(self, horizons: tuple[int, ...], leaning: Float64 | None = None) -> LocalCorrection:
        """As it has been learned until now; `horizons` are those that it was learned of, `leaning` is that of
        these stations among those of their regions; each alone unless given.
        """
        if leaning is None:
            leaning = self.leaning(horizons, range(len(self.sums)))
        ahead = np.array(horizons, np.float64)[:, None]
        hours = self.tallies[..., _HOURS]
        ridge = (_RIDGE_H + _RIDGE_AHEAD * ahead) / np.maximum(hours, 1.0)
        lines = solved(self.sums, np.repeat(ridge[..., None], 2, axis=-1))
        off, wide, trust_xy, trust_xx = (self.tallies[..., at] for at in (_OFF, _WIDE, _XY, _XX))
        drawn = ((_TRUST_H + _TRUST_AHEAD * ahead) / np.maximum(hours, 1.0))[..., None] * trust_xx
        trust = np.clip((trust_xy + _AT_FIRST * drawn) / np.maximum(trust_xx + drawn, 1e-12), 0.0, 1.0)
        usual = (_WIDTH_H / np.maximum(self.tallies[..., _WIDE_HOURS], 1.0)) * wide
        width = np.clip((off + usual) / np.maximum(wide + usual, 1e-12), 1 / _WIDEST, _WIDEST)
        # A line of which nothing has come is the mix itself, of which `leaning` says how much it is worth.
        seen = (hours / (hours + _SEEN_H + ahead))[..., None]
        return LocalCorrection(
            lines.astype(np.float32),
            (seen * np.where(trust_xx > 0, trust, _AT_FIRST)).astype(np.float32),
            np.where(wide > 0, width, 1.0).astype(np.float32),
            np.where(wide > 0, usual / np.maximum(wide + usual, 1e-12), 1.0).astype(np.float32),
            leaning.astype(np.float32),
        )


def solved(sums: NDArray[np.floating], ridge: Float64) -> Float64:
    """The lines (..., terms) of sums (..., `_SUMS`), drawn towards the change foretold as it is: by `ridge`
    (...) times each term's own sum of squares.

    Gaussian elimination without pivots, which a positive definite matrix does not need, for all at once.
    """
    shape = sums.shape[:-1]
    flat, drawn_by = sums.reshape(-1, _SUMS), ridge.reshape(-1)
    parts = [
        _solved(flat[start : start + _AT_ONCE].T.astype(np.float64), drawn_by[start : start + _AT_ONCE])
        for start in range(0, len(flat), _AT_ONCE)
    ]
    return np.concatenate(parts, axis=1).T.reshape(*shape, _D)


def _solved(flat: Float64, ridge: Float64) -> Float64:
    """(terms, lines) of sums (`_SUMS`, lines)."""
    matrix = np.empty((_D, _D, flat.shape[1]))
    for at, (row, column) in enumerate(zip(_FIRST.tolist(), _SECOND.tolist(), strict=True)):
        matrix[row, column] = matrix[column, row] = flat[at]
    right = flat[len(_FIRST) :].copy()
    squares = np.stack([matrix[at, at] for at in range(_D)])
    # A term that never was anything has no sum of squares: it stays at what it is drawn to.
    drawn = ridge * (squares + 1e-3 * squares.sum(axis=0) / _D) + 1e-9
    for at in range(_D):
        matrix[at, at] += drawn[at]
    right[0] += drawn[0]
    for at in range(_D - 1):
        factor = matrix[at + 1 :, at] / matrix[at, at]
        for row in range(at + 1, _D):
            matrix[row, at + 1 :] -= factor[row - at - 1] * matrix[at, at + 1 :]
        right[at + 1 :] -= factor * right[at]
    found = np.empty_like(right)
    for at in reversed(range(_D)):
        left = right[at]
        for later in range(at + 1, _D):
            left = left - matrix[at, later] * found[later]
        found[at] = left / matrix[at, at]
    return found


def corrected(base: Float32, rows: LocalRows, by: LocalCorrection) -> Corrected:
    """`base` (stations, horizons, pollutants, 8) as its stations would have it: never crossing."""
    mean, median = base[..., -1].astype(np.float64), base[..., _MEDIAN].astype(np.float64)
    last, lines = rows.last.astype(np.float64), []
    for line, foretold in enumerate((mean, median)):
        total = last + (foretold - last) * by.lines[..., line, 0]
        for term in range(1, _D):
            total = total + rows.terms[..., term - 1].astype(np.float64) * by.lines[..., line, term]
        lines.append(np.clip(np.where(np.isfinite(total), total, foretold), 0.0, HIGHEST))
    leant = [last + by.leaning[..., line] * (foretold - last) for line, foretold in enumerate((mean, median))]
    trusted = [
        foretold + by.trust[..., line] * (lines[line] - foretold) for line, foretold in enumerate(leant)
    ]
    # Air that is less than the mix had thought reaches less far down. As long as nobody has seen which of the
    # two is right, the quantiles hold both.
    less = 1 - np.minimum(leant[1] / np.maximum(median, 1e-6), 1.0)
    below = np.maximum(by.width - by.unseen * less, 1 / _WIDEST)[..., None]
    apart = base[..., :-1] - median[..., None]
    quantiles = trusted[1][..., None] + np.where(apart < 0, below, by.width[..., None]) * apart
    further = np.sign(_SIDES) * np.maximum(np.sign(_SIDES) * (base[..., :-1] - quantiles), 0.0)
    quantiles = quantiles + (by.unseen**2)[..., None] * further
    said = np.minimum(np.concatenate([quantiles, trusted[0][..., None]], axis=-1), HIGHEST)
    wide = np.maximum(base[..., -2].astype(np.float64) - base[..., 0], 0.0)
    kept = np.stack([mean, median, wide, *lines], axis=-1)
    return Corrected(ordered(said.astype(np.float32)), np.minimum(kept, HALF).astype(np.float16))
